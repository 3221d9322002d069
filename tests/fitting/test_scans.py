"""Later scans of one bone as data: what they say, what relaxations and sampled runs say of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.engine.declare import MATRIX_ONE
from lattice.fitting.conduct import conduct
from lattice.fitting.reading import load_fit
from lattice.fitting.sampled import sample
from lattice.fitting.scans import changed_volumes, shown_bone
from lattice.fitting.structure import FirstScan
from lattice.fitting.surrogate import Surrogate
from lattice.inference.observables import VoxelClasses, read_state
from lattice.model import load
from lattice.model.errors import InputError
from lattice.run import bone_of
from tests.fitting.make_scans import first_scan, later_scans
from tests.fitting.study import ROOT, log_errors

EXAMPLE = ROOT / "configs/fits/time_lapse/fit.toml"
SMALL = 'set=["lattice.shape=[14, 14, 14]", "time.until=8 day", "time.step=4 h"]'


@pytest.fixture
def scans(tmp_path) -> Path:
    """A copy of the example with one later scan, to be damaged."""
    shutil.copytree(EXAMPLE.parent, tmp_path / "scans")
    (tmp_path / "scans/images.tsv").write_text("time\timage\n7\tscans.h5:day_7\n")
    return tmp_path / "scans" / EXAMPLE.name


def small(config: Path, *more: str):
    return load_fit(config, [SMALL, *more])


def volume(folder: Path, name: str) -> np.ndarray:
    with h5py.File(folder / "scans.h5") as file:
        return file[name][()]


def test_the_data_are_the_voxels_that_differ(scans):
    first = volume(scans.parent, "day_0")
    later = first.copy()
    inside = np.argwhere(np.pad(first, 1)[:-2, 1:-1, 1:-1] & first)  # bone below bone
    front = np.argwhere((first == 0) & (np.roll(first, 1, 0) == 1))
    front = front[front[:, 0] > 0]
    later[tuple(front[:5].T)] = 1
    later[tuple(inside[100])] = 0
    np.save(scans.parent / "later.npy", later)
    (scans.parent / "images.tsv").write_text(
        "time\timage\timageVoxel\tnoiseParameters\n7\tlater.npy\t10 um\t0.3\n"
    )
    problem = load_fit(scans)
    found = {problem.observables[d.observable].name: d for d in problem.data}
    unit = 100 / first.sum()
    assert found["formed, at the surface"].mean == pytest.approx(5 * unit)
    assert found["formed, deeper"].mean == 0
    removed = sum(d.mean for n, d in found.items() if n.startswith("resorbed"))
    assert removed == pytest.approx(unit)
    assert {(d.noise, d.hours, d.replicates, d.row) for d in problem.data} == {(0.3, 168.0, 1, 2)}
    assert {o.unit for o in problem.observables} == {"% of BV"}


@pytest.mark.parametrize("days", [(), pytest.param((7, 28), marks=pytest.mark.full)])
def test_the_scans_of_the_example_are_those_of_the_command(scans, days):
    bone = first_scan()
    np.testing.assert_array_equal(volume(scans.parent, "day_0"), bone)
    made = later_scans(load(scans.parent / "model.toml"), bone, 1, days)
    for day, scan in made.items():
        np.testing.assert_array_equal(volume(scans.parent, f"day_{day}"), scan)


def test_each_region_has_its_data(scans):
    problem, parts = load_fit(scans), load_fit(scans, ["image_regions=[2, 1, 2]"])
    names = [parts.observables[d.observable].name for d in parts.data]
    assert "resorbed, at the surface, region 1-0-0" in names
    for whole in problem.observables:
        total = sum(
            d.mean for n, d in zip(names, parts.data, strict=True) if n.startswith(whole.name)
        )
        (datum,) = (d for d in problem.data if problem.observables[d.observable] == whole)
        assert total == pytest.approx(datum.mean)


def test_a_scanner_shows_voxels_half_full_of_mineral():
    labels = np.array([[[0, 0, 1, 2, 2, 3]]], np.uint16)
    state = {
        "mineral": (np.array([[[1, 0.4, 0.6, 0.5, 0.1, 0.3]]]) * MATRIX_ONE).astype(np.int32),
        "osteoid": (np.array([[[[0, 0.6, 0, 0.4, 0.05, 0.1]]]]) * MATRIX_ONE).astype(np.int32),
    }
    scan = FirstScan(VoxelClasses(("a",), labels, 0.5), (1, 1, 1))
    shown = shown_bone(state)
    assert shown.tolist() == [[[True, False, True, True, False, False]]]
    later = np.array([[[True, True, False, False, True, True]]])
    assert changed_volumes(scan, shown, later) == {
        "changed.marrow.1": 1.5, "changed.marrow.2": 0, "changed.bone.1": 1.0, "changed.bone.2": 0
    }  # fmt: skip
    assert shown_bone(state, osteoid=True).tolist() == [[[True, True, True, True, False, False]]]


def test_classes_hold_all_mineral_or_all_matrix(scans):
    condition = small(scans).conditions[0]
    model, classes = condition.model, condition.scan.classes
    draw = np.random.default_rng(0).integers
    shape = model.lattice.shape[::-1]
    state = {
        "bone": jnp.asarray(bone_of(model, 0)),
        "mineral": jnp.asarray(draw(0, MATRIX_ONE // 2, shape, np.int32)),
        "osteoid": jnp.asarray(draw(0, MATRIX_ONE // 8, (shape[0], 3, *shape[1:]), np.int32)),
    }
    counts = jnp.zeros(len(model.states))
    for osteoid, kinds in ((False, ["mineral"]), (True, ["mineral", "osteoid"])):
        asked = replace(classes, osteoid=osteoid)
        found = np.asarray(read_state(model, [*asked.names, *kinds], state, counts, asked))
        total = found[: len(asked.names)].sum() / asked.unit * (model.lattice.voxel / 1000) ** 3
        assert total == pytest.approx(found[len(asked.names) :].sum(), rel=1e-5)
    marrow = np.count_nonzero(bone_of(model, 0) == 0)
    assert found[:2].sum() / asked.unit == pytest.approx(marrow * 0.4375, rel=0.02)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A small problem in which osteoid shows, and its relaxation."""
    folder = tmp_path_factory.mktemp("compiled") / "scans"
    shutil.copytree(EXAMPLE.parent, folder)
    (folder / "images.tsv").write_text("time\timage\n7\tscans.h5:day_7\n")
    problem = small(
        folder / EXAMPLE.name, 'image_shows="matrix"', "iterations=2", "runs=3", "final_runs=2"
    )
    return problem, Surrogate(problem)


def test_sampled_runs_and_relaxation_agree_on_what_was_formed(compiled):
    problem, surrogate = compiled
    runs, relaxed = sample(problem, problem.start, range(4)), surrogate(problem.start)
    assert runs.shape == (4, len(problem.data))
    at_surface = ["surface" in problem.observables[d.observable].name for d in problem.data]
    ratio = runs.mean(axis=0)[at_surface] / relaxed[at_surface]
    assert np.all((ratio > 0.4) & (ratio < 2.5)), ratio
    # What nobody resorbs or forms does not change.
    idle = replace(problem, conditions=tuple(_idle(c) for c in problem.conditions))
    assert np.all(sample(idle, problem.start, [1]) == 0)


def test_a_small_fit_moves_toward_the_scan(compiled, tmp_path):
    problem, surrogate = compiled
    result = conduct(problem, tmp_path / "fit", surrogate=surrogate)
    first = result.iterations[0].sampled.mean(axis=0)
    distance = (
        np.abs(first - problem.measured),
        np.abs(result.sampled.mean(axis=0) - problem.measured),
    )
    assert distance[1].sum() < distance[0].sum()
    assert np.any(result.fitted.u != problem.start)


def _idle(condition):
    seeds = {n: 0.0 for n in condition.model.values if ".seeding." in n and "fraction" in n}
    return replace(condition, model=condition.model.with_values(**seeds))


def test_conditions_may_be_bones_of_their_own(scans, monkeypatch):
    """A path in the table of conditions is found from its folder, as those of other tables."""
    monkeypatch.chdir(scans.parent.parent)
    (scans.parent / "conditions.tsv").write_text(
        "conditionId\tgeometry.image\none\tscans.h5:day_0\nother\tscans.h5:day_7\n"
    )
    (scans.parent / "images.tsv").write_text(
        "simulationConditionId\ttime\timage\none\t7\tscans.h5:day_7\nother\t21\tscans.h5:day_28\n"
    )
    text = scans.read_text().replace("images =", 'conditions = "conditions.tsv"\nimages =')
    scans.write_text(text)
    one, other = load_fit(scans).conditions
    assert one.scan.classes.unit == pytest.approx(100 / volume(scans.parent, "day_0").sum())
    assert other.scan.classes.unit == pytest.approx(
        100 / volume(scans.parent, "day_7").sum(), rel=0.01
    )


@pytest.mark.parametrize("folder", ["", "${OSTEOLATTICE_DATA}/"])
def test_paths_in_a_fit_start_at_its_folder_or_at_that_of_the_data(scans, monkeypatch, folder):
    monkeypatch.chdir(scans.parent.parent)
    monkeypatch.setenv("OSTEOLATTICE_DATA", str(scans.parent))
    (scans.parent / "images.tsv").write_text(f"time\timage\n7\t{folder}scans.h5:day_28\n")
    change = f'set = ["geometry.image={folder}scans.h5:day_7"]\n'
    scans.write_text(scans.read_text() + change)
    problem = load_fit(scans)
    found = sum(d.mean for d in problem.data)
    before, after = (volume(scans.parent, day) for day in ("day_7", "day_28"))
    assert found == pytest.approx(100 * np.sum(before != after) / before.sum(), rel=0.01)


@pytest.mark.parametrize(
    ("table", "old", "new", "words"),
    [
        ("images.tsv", "scans.h5:day_7", "scans.h5:day_9", ["line 2", "image", "day_9", "day_28"]),
        ("images.tsv", "scans.h5:day_7", "lost.npy", ["line 2", "image", "lost.npy", "exist"]),
        ("images.tsv", "7\t", "0\t", ["line 2", "time", "geometry.image", "later"]),
        ("images.tsv", "7\t", "70\t", ["line 2", "time", "after the end"]),
        ("images.tsv", "\timage", "\timages", ["line 1", "image", "missing"]),
        ("images.tsv", "7\tscans", "7\tscans.h5:day_28\n7\tscans", ["line 3", "time", "line 2"]),
        ("images.tsv", "image\n7\t", "threshold\timage\n7\t9\t", ["line 2", "no bone above 9"]),
        ("images.tsv", "image\n7\t", "imageVoxel\timage\n7\t5 h\t", ["geometry.image_voxel"]),
        ("images.tsv", "image\n7\t", "noiseParameters\timage\n7\t0\t", ["above 0"]),
        ("images.tsv", "image\n7\t", "simulationConditionId\timage\n7\told\t", ["Condition"]),
        ("fit.toml", '"mean_field"', '"pair_closure"', ["fit.reading", "mean_field"]),
        ("fit.toml", "scatter = true", "scatter = false", ["fit.add_model_scatter", "true"]),
        ("fit.toml", 'images = "images.tsv"\n', "", ["fit.observables", "missing"]),
        ("fit.toml", "images =", 'observables = "o.tsv"\nimages =', ["fit.measurements"]),
        ("fit.toml", "images =", "image_regions = [0, 1, 1]\nimages =", ["image_regions.0"]),
        ("model.toml", 'image = "scans.h5:day_0"\nthreshold = 0.5',
         'kind = "plate"\nthickness = "40 um"\n', ["line 2", "synthetic", "geometry.image"]),
        ("model.toml", '"scans.h5:day_0"', '"scan.h5:day_0"', ["scan.h5:day_0", "does not exist"]),
    ],
)  # fmt: skip
def test_a_sentence_names_table_line_and_fix(scans, table, old, new, words):
    path = scans.parent / table
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as found:
        load_fit(scans)
    message = str(found.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_scans_that_do_not_overlap_are_refused(scans):
    first = volume(scans.parent, "day_0")
    np.save(scans.parent / "moved.npy", np.roll(first, 12, axis=2))
    (scans.parent / "images.tsv").write_text("time\timage\timageVoxel\n7\tmoved.npy\t10 um\n")
    with pytest.raises(InputError, match=r"line 2.*Dice.*register"):
        load_fit(scans)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_recovers_what_made_the_scans(scans, tmp_path, seed):
    """Truth: the numbers of the model file; the start lies up to a factor of two away."""
    problem = load_fit(EXAMPLE, [f"seed={seed + 1}", "runs=8", "iterations=6"])
    model = problem.conditions[0].model
    truth = {name: model.values[name] for name in problem.names}
    u = np.array([p.scaled(truth[p.name]) for p in problem.parameters])
    (shown,) = sample(problem, u, [seed])
    data = tuple(replace(d, mean=float(m)) for d, m in zip(problem.data, shown, strict=True))
    result = conduct(replace(problem, data=data), tmp_path / "fit")
    errors = log_errors(result, truth)
    assert np.all(np.abs(errors) < 3.5 * result.information.errors), errors
    assert np.all(np.abs(errors[:2]) < 0.35), errors
    assert result.chi2 / len(data) < 1.8
