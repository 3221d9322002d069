"""Designs find an optimum that is known, tell how they found it, and go on where they stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lattice.cli.main import main
from lattice.fitting.design import load_design
from lattice.fitting.design_conduct import design_treatment, difference, grid_of, interval
from lattice.fitting.design_report import write_report
from lattice.fitting.design_result import write_result
from lattice.fitting.design_search import Relaxed
from lattice.model.errors import InputError
from tests.docs.blocks import ROOT

DISH = ROOT / "configs/designs/efferocytosis.toml"

CULTURE = """
schema = 1
name = "a chain of states, and a reserve that shall live"
lattice = { shape = [8, 8, 8], voxel = "10 um" }
time = { step = "1 h", until = "3 day" }

[[state]]
name = "young"
seeding = { where = "everywhere", fraction = 0.5 }
[[state]]
name = "ripe"
[[state]]
name = "old"
[[state]]
name = "dead"
[[state]]
name = "reserve"
seeding = { where = "everywhere", fraction = 0.4 }

[[rule]]
name = "ripen"
from = "young"
to = "ripe"
rate = "2 /day"
[[rule]]
name = "age"
from = "ripe"
to = "old"
rate = "1 /day"

[[intervention]]
name = "pulse"
kill = { states = ["ripe", "reserve"], fraction = 0, into = "dead" }
from = "0 h"
"""
"""A pulse of fraction f at time t kills f (ripe(t) + reserve): most at the time ln 2 days, at which
ripe cells are most frequent, and at the highest f that the reserve allows."""
BEST_HOURS = 24 * np.log(2)
BEST_FRACTION = 0.4

PLAN = """
schema = 1
[design]
model = "culture.toml"
untreated = ["intervention.pulse.kill.fraction=0"]
seed = 3
runs = 8
final_runs = 12
grid = 3
levels = 7
[outcome]
formula = "dead"
[[constraint]]
name = "spared"
formula = "100 * reserve / initial(reserve)"
least = 60
unit = "%"
[[variable]]
name = "intervention.pulse.kill.fraction"
low = 0.01
high = 0.95
start = 0.1
[[variable]]
name = "intervention.pulse.from"
low = "0 h"
high = "72 h"
start = "60 h"
"""


def written(folder: Path, plan: str = PLAN) -> Path:
    (folder / "culture.toml").write_text(CULTURE)
    (folder / "plan.toml").write_text(plan)
    return folder / "plan.toml"


@pytest.fixture(scope="module")
def designed(tmp_path_factory):
    """The design, the result of carrying it out, its folder and the compiled relaxation."""
    folder = tmp_path_factory.mktemp("design")
    design = load_design(written(folder))
    relaxed = Relaxed(design)
    return design, design_treatment(design, folder / "out", relaxed=relaxed), folder, relaxed


def test_finds_the_best_treatment_within_limits(designed):
    design, result, _, _ = designed
    fraction, hours = result.treated.u
    assert fraction == pytest.approx(BEST_FRACTION, abs=0.04)
    assert fraction < BEST_FRACTION
    assert hours == pytest.approx(BEST_HOURS, abs=6)
    assert hours == round(hours)
    assert difference(result.treated, result.untreated)[1] > 0
    assert result.untreated.mean[0] == 0
    assert interval(result.treated, 1)[2] > 60
    assert result.search_runs == 8 * len(result.points) <= 8 * design.iterations
    assert result.grid_runs == 8 * 9
    assert difference(result.treated, result.gridded)[0] > 0


def test_a_schedule_is_an_argument_of_the_relaxation(designed):
    """One compiled program gives for other times what a relaxation of that model gives."""
    design, _, _, relaxed = designed
    u = np.array([0.3, 30.0])
    model = design.problem.conditions[0].model
    other = model.with_values(**{"intervention.pulse.from": 30.0})
    condition = replace(design.problem.conditions[0], model=other)
    apart = Relaxed(replace(design, problem=replace(design.problem, conditions=(condition,))))
    np.testing.assert_allclose(relaxed(u), apart(u), rtol=1e-5)
    assert abs(relaxed(np.array([0.3, 60.0]))[0] / relaxed(u)[0] - 1) > 0.05


def test_files_tell_what_was_found(designed):
    _, result, folder, _ = designed
    write_result(result, folder / "out")
    page = write_report(result, folder / "out").read_text()
    told = json.loads((folder / "out/design.json").read_text())
    fraction, start = told["variables"]
    assert fraction["searched_by"].startswith("exact gradient of a relaxation (pair closure)")
    assert start["searched_by"].startswith("discrete scan of a relaxation (pair closure)")
    assert told["verdict"] == "better than untreated"
    assert told["grid"]["sampled_runs"] == 72
    assert told["search"]["sampled_runs"] == result.search_runs
    assert told["verdict"] in page
    assert f"{result.search_runs} by the search, 72 by a grid" in page
    lines = (folder / "out/points.csv").read_text().splitlines()
    assert len(lines) == 1 + len(result.points) + 9 + 3
    assert start["value"] == pytest.approx(result.treated.u[1])
    settings = (folder / "out/treatment.set").read_text().splitlines()
    assert settings[1] == f'intervention.pulse.from="{result.treated.u[1]:g} h"'


def test_goes_on_without_repeating_runs(designed, monkeypatch):
    import lattice.fitting.store as store

    design, result, folder, relaxed = designed

    def never(*_, **__):
        raise AssertionError("a sampled run was repeated")

    monkeypatch.setattr(store, "sample", never)
    again = design_treatment(design, folder / "out", relaxed=relaxed)
    np.testing.assert_array_equal(again.treated.u, result.treated.u)
    np.testing.assert_array_equal(again.treated.sampled, result.treated.sampled)
    with pytest.raises(InputError, match="another"):
        design_treatment(replace(design, runs=9), folder / "out", relaxed=relaxed)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fraction=0", "fraction=2", ["fraction"]),
        ("runs = 8", "rums = 8", ["design.rums", "did you mean"]),
        ('formula = "dead"', 'formula = "deed"', ["outcome.formula", "did you mean"]),
        ("least = 60", "", ["constraint.0", "limits nothing", "most or least"]),
        ("least = 60", "least = 60\nmost = 50", ["constraint.0.most", "least"]),
        ("least = 60", 'least = "many"', ["constraint.0.least", "many"]),
        ("pulse.kill.fraction\"\nlow", "pulse.kill.fracture\"\nlow", ["variable.0.name"]),
        ("high = 0.95", "high = 1.5", ["variable.0.high"]),
        ("high = 0.95", "high = 0.001", ["variable.0.high", "not above low"]),
        ("start = 0.1", "start = 0.97", ["variable.0.start", "low and high"]),
        ('high = "72 h"', 'high = "3 day"', ["variable.1.high", "another unit"]),
        ('high = "72 h"', 'high = "72 um"', ["variable.1.high", "um"]),
        ("pulse.from", "pulse.kill.fraction", ["variable.1.name", "twice"]),
        ('formula = "dead"', 'formula = "Ob.S/BS"', ["outcome.surrogate", "proportional"]),
        ("[outcome]", "[outcum]", ["outcum", "did you mean"]),
    ],
)  # fmt: skip
def test_a_sentence_names_file_key_and_fix(tmp_path, old, new, words):
    assert old in PLAN
    path = written(tmp_path, PLAN.replace(old, new, 1))
    with pytest.raises(InputError) as found:
        load_design(path)
    message = str(found.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_what_does_nothing_is_refused(tmp_path):
    late = PLAN.replace('start = "60 h"', 'start = "72 h"')
    with pytest.raises(InputError, match=r"variable\.0\.name: nothing .* depends on"):
        design_treatment(load_design(written(tmp_path, late)), tmp_path / "out")


@pytest.mark.parametrize("path", [DISH, DISH.with_name("bone.toml")], ids=lambda p: p.stem)
def test_designs_that_are_shipped_are_read(path):
    design = load_design(path)
    assert design.timing.tolist() == [False, True, True]
    model, bare = (p.conditions[0].model for p in (design.problem, design.untreated))
    assert all(bare.values[n] == 0 for n in bare.values if n.endswith("kill.fraction"))
    assert not [p.name for p in model.parameters if p.written != "(default)" and not p.label]


def test_levels_of_the_grid_are_whole_steps_within_bounds(designed):
    design, *_ = designed
    points = np.array(grid_of(replace(design, grid=5)))
    assert points.shape == (25, 2)
    assert points[:, 1].tolist()[:5] == [0, 18, 36, 54, 72]
    assert points[:, 0].min() == 0.01
    assert points[:, 0].max() == 0.95


def test_the_command_refuses_bad_keys(tmp_path, capsys):
    assert main(["design", str(DISH), "--out", str(tmp_path), "--set", "runs=none"]) == 2
    assert "design.runs" in capsys.readouterr().err
    assert main(["design", str(DISH), "--out", str(tmp_path), "--jobs", "0"]) == 2
    assert "--jobs 0: write a whole number from 1 upwards" in capsys.readouterr().err


@pytest.mark.full
def test_the_dish_is_as_good_as_a_grid_with_a_tenth_of_its_runs(tmp_path):
    """Nearly as good as the best of 5 x 5 x 5 points, which keeps no distance from the limit."""
    result = design_treatment(load_design(DISH), tmp_path / "out")
    assert difference(result.treated, result.untreated)[1] > 0
    assert interval(result.treated, 1)[1] < 50
    assert result.treated.mean[0] > 0.97 * result.gridded.mean[0]
    assert result.search_runs <= 0.1 * result.grid_runs
