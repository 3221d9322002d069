"""The cases of `osteolattice bench` on tiny lattices: what they say must be right; no times."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import accuracy, cell_cases, kernel_cases, peers, problems, whole_step
from benchmarks.cases import CASES, summary
from benchmarks.field_cases import DECAY, DIFFUSION, exact_modes
from benchmarks.measure import Setting
from benchmarks.record import read_records
from benchmarks.reference_case import switching_sources
from lattice.cli.main import main
from lattice.model.errors import InputError
from tests.cli.tiny import run_command

KERNELS = ("copy", "random", "stencil", "sweep")


def test_the_command_writes_a_record_of_every_measurement(tmp_path):
    path = tmp_path / "records.json"
    asked = [word for case in KERNELS for word in ("--case", case)]
    done = run_command("bench", "--grid", 16, "--seed", 3, *asked, "--json", path)
    assert done.returncode == 0, done.stderr
    records = read_records(path)
    assert {r.case for r in records} == set(KERNELS)
    for r in records:
        assert r.size == (16, 16, 16)
        assert r.median_s
        assert r.copy_fraction
        assert r.bytes_counted
        assert r.versions["jax"]
        assert summary(r) in done.stdout.splitlines()
    assert [r.parameters["seed"] for r in records if r.case == "random"] == [3, 3]
    (sweep,) = (r for r in records if r.case == "sweep")
    assert sweep.bytes_counted == round(16.7 * 6 * 16**3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--case", "nothing"], "--case nothing: there are"),
        (["--grid", "8"], "--grid 8"),
        (["--species", "0"], "--species 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--species", "7", "--case", "field-accuracy"], "write --seed N as well"),
        (["compare", "a.json"], "B.json"),
        (["report", "a.json"], "--out"),
        (["compare", "a.json", "b.json"], "a.json cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, said, capsys):
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_seed_draws_the_coefficients_within_their_ranges():
    diffusion, decay = problems.coefficients(Setting(species=50, seed=1))
    other, _ = problems.coefficients(Setting(species=50, seed=2))
    half_life = np.log(2) / decay
    assert 10 * 3600 <= diffusion.min() < diffusion.max() <= 100 * 3600
    assert 1 / 6 <= half_life.min() < half_life.max() <= 6
    assert not np.allclose(diffusion, other)
    fixed, _ = problems.coefficients(Setting(species=4))
    assert fixed.tolist() == DIFFUSION[:4].tolist()
    with pytest.raises(InputError, match="--seed N"):
        problems.coefficients(Setting(species=7))


def test_the_exact_course_is_that_of_constant_sources_and_of_changing_ones():
    """Windows of one source are one window; a source that is switched off leaves what decays."""
    bone = np.zeros((12, 12, 12), np.uint8)
    first, second = switching_sources(bone, "everywhere", 2, 0)
    whole = exact_modes(first, 0.5, 2)
    windows = [(0.1, first), (0.4, first), (0.25, 0 * second)]
    course = problems.exact_course(DIFFUSION[:2], DECAY[:2], windows)
    np.testing.assert_allclose(course[1], whole, rtol=1e-5, atol=1e-9)
    sums = [c.sum(axis=(0, 1, 2), dtype=np.float64) for c in course]
    np.testing.assert_allclose(sums[2], sums[1] * np.exp(-DECAY[:2] * 0.25), rtol=1e-5)


@pytest.fixture(scope="module")
def problem():
    return problems.without_bone(Setting(grid=16, species=2, seed=5))


def test_the_exact_path_is_exact_at_every_output(problem):
    (record,) = accuracy.run(problem, "exact", [15])
    # The first output, after 6 minutes, falls into the first step of 15.
    assert len(record.more["error_l2_by_output"]) == len(problem.windows) - 1
    assert record.error_l2 < 1e-5
    assert record.parameters["seed"] == 5
    assert record.seconds_per_simulated_day == pytest.approx(96 * record.median_s)


def test_scipy_solves_the_same_problem(problem):
    single, double = peers.scipy_cosines(problem)
    assert (single.precision, double.precision) == ("float32", "float64")
    assert single.error_l2 < 1e-5
    assert double.error_l2 < 1e-6


def test_a_peer_that_is_missing_is_told_in_a_line(problem, monkeypatch, capsys):
    monkeypatch.setattr(peers, "PEERS", {"no_such_package": None})
    assert len(list(peers.on(problem))) == 2
    said = capsys.readouterr().err
    assert said == "peer no_such_package is left out: No module named 'no_such_package'\n"


def test_explicit_steps_are_stable_and_end_where_they_should(problem):
    dt, steps = peers.explicit_step(problem)
    assert dt * steps == pytest.approx(peers.MINUTES / 60)
    rate = 12 * problem.diffusion.max() / 100 + problem.decay.max()
    assert dt * rate < 2


def test_the_reference_of_the_solve_satisfies_another_matrix():
    bone, marks = np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.float32)
    bone[:3], marks[5, 4, 4] = 1, 1
    found, residual = kernel_cases.converged(bone, marks, 100.0, 2)
    assert residual < 1e-10
    assert found.min() > 0


def test_a_whole_step_is_measured():
    record = whole_step.of_grid(16, 0, 1)
    assert record.median_s > 0
    assert record.bytes_per_voxel > 100
    assert record.more["dynamic_share"] > 0


def test_bone_of_a_large_lattice_is_a_smaller_one_repeated(monkeypatch):
    one = whole_step.bone_of(16, 2)
    monkeypatch.setattr(whole_step, "LARGEST_MADE", 16)
    large = whole_step.bone_of(32, 2)
    assert 0 < one.mean() < 1
    for corner in (large[:16, :16, :16], large[16:, 16:, 16:], large[:16, 16:, :16]):
        np.testing.assert_array_equal(corner, one)
    assert whole_step.bone_of(24, 2).shape == (24, 24, 24)


@pytest.mark.full
def test_lists_and_whole_lattices_give_the_same_cells():
    setting = Setting(grid=16)
    sparse, dense = (cell_cases.of_occupancy(setting, 0.1, m) for m in ("sparse", "dense"))
    assert sparse.more["capacity"] < dense.more["capacity"] == 16**3
    assert (
        sparse.more["occupied_at_end"]
        == dense.more["occupied_at_end"]
        == pytest.approx(0.1, rel=0.2)
    )


def test_every_case_says_what_it_measures():
    for name, case in CASES.items():
        assert case.__doc__, name
