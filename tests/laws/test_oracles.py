"""Law 7: the model files of well-mixed models follow their differential equations.

Steps and errors: cells and hormones are advanced one after the other, so the readings are of
first order in the step. At the steps of the files (20 min and 5 min) the mean-field reading is
within 0.5 % of the equations (Lemaire) and 1.2 % (Trejo).

Sampled: with N cells of the rarest kind, one run scatters by 1/sqrt(N) and the mean of many runs
is off by about 1/N, since the rates are not linear. The mean of S runs is known to 1/sqrt(N S), so
the bias hides in it as long as S < N: 24^3 voxels hold 170 cells of each kind of Lemaire's and,
with ten times the stromal cells of the file, 47 of Trejo's rarest.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.laws.oracles import (
    LEMAIRE_STEADY,
    PER_ML,
    PM_PER_VOXEL,
    TREJO_NAMES,
    TREJO_START,
    lemaire,
    lemaire_reduced,
    mean_course,
    oracle,
    sampled_course,
    solve,
    trejo,
)

FEW = (2, 2, 2)
"""Every voxel has the same mean: a few are as good as many."""
TOLERANCE = 0.02
CELLS = ("OBp", "OBa", "OCa")
DAYS = np.arange(0, 140.01, 0.25)
QUARTERS = np.arange(0, 14.01, 0.25)
PARTICLES = 6.02214076e14
"""Per mL in 1 uM."""
TO_PAPER = np.array([PARTICLES, PER_ML, PER_ML, PER_ML, 1, 1, PER_ML, PER_ML])


def infused(day: float) -> float:
    return 1000.0 if 20 <= day < 80 else 0.0


def lemaire_exact(days=DAYS, start=LEMAIRE_STEADY):
    return solve(lambda t, y: lemaire(t, y, infused), start, days)[:, :3]


def relative_error(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Of each variable, the largest over the course; a start at 0 apart."""
    return np.max(np.abs(found - exact)[1:] / exact[1:], axis=0)


def lemaire_error(*overrides: str) -> np.ndarray:
    model = oracle("lemaire_2004", FEW, overrides)
    return relative_error(mean_course(model, CELLS, DAYS) * PM_PER_VOXEL, lemaire_exact())


def trejo_error(*overrides: str) -> np.ndarray:
    model = oracle("trejo_2019", FEW, overrides)
    found = mean_course(model, TREJO_NAMES, QUARTERS) * TO_PAPER
    return relative_error(found, solve(trejo, TREJO_START, QUARTERS))


def test_lemaire_mean_field_follows_the_infusion_of_PTH():
    exact = lemaire_exact()
    # The infusion multiplies each kind of cell, and they come back.
    assert np.all(exact.max(axis=0) > 2.5 * exact[0])
    assert np.all(lemaire_error() < TOLERANCE)


def test_lemaire_rests_at_its_steady_state():
    model = oracle("lemaire_2004", FEW, ["intervention.infusion.rate=0 pM/day"])
    found = mean_course(model, CELLS, np.arange(0, 201, 50.0)) * PM_PER_VOXEL
    np.testing.assert_allclose(found, np.broadcast_to(LEMAIRE_STEADY[:3], found.shape), rtol=3e-3)


def test_lemaire_mean_field_recovers_from_more_cells():
    changed = ["intervention.infusion.rate=0 pM/day", "state.OCa.seeding.fraction=3e-3 pM"]
    days = np.arange(0, 61, 1.0)
    start = (*LEMAIRE_STEADY[:2], 3e-3, LEMAIRE_STEADY[3])
    exact = solve(lambda t, y: lemaire(t, y, lambda day: 0.0), start, days)[:, :3]
    found = mean_course(oracle("lemaire_2004", FEW, changed), CELLS, days) * PM_PER_VOXEL
    assert exact[:, 1].max() > 1.2 * exact[0, 1]
    assert np.all(relative_error(found, exact) < TOLERANCE)


@pytest.mark.parametrize(
    "wrong",
    [
        "rule.lose_osteoblast.rate=0.198 /day",
        "rule.form_osteoclast.when.OPG.half=1475 pM",
        "rule.commit.when.density.OCa.floor=0.06",
        "cytokine.PTH.decay=94 /day",
    ],
)
def test_lemaire_tells_a_wrong_coefficient(wrong):
    assert np.any(lemaire_error(wrong) > TOLERANCE)


def test_lemaire_against_bone_models():
    import bone_models

    case = bone_models.load_cases.Lemaire_Load_Case_3()
    assert (case.PTH_injection, case.start_time, case.end_time) == (1000, 20, 80)
    package = bone_models.models.Lemaire_Model(case)
    found = package.solve_bone_cell_population_model([0, 140])
    steady = package.steady_state
    assert np.allclose([steady.OBp, steady.OBa, steady.OCa], LEMAIRE_STEADY[:3], rtol=1e-4)
    for day in (0.0, 50.0, 100.0):
        theirs = package.bone_cell_population_model([1e-3, 2e-3, 5e-4], day)
        np.testing.assert_allclose(
            lemaire_reduced(day, [1e-3, 2e-3, 5e-4], infused), theirs, rtol=1e-12
        )
    course = mean_course(oracle("lemaire_2004", FEW), CELLS, DAYS) * PM_PER_VOXEL
    ours = np.array([np.interp(found.t, DAYS, column) for column in course.T])
    error = np.abs(ours / found.y - 1)
    # The package has PTH at its new level at once, here it takes half an hour.
    switching = ((found.t > 20) & (found.t < 21)) | ((found.t > 80) & (found.t < 81))
    assert np.sum(~switching) > 60
    assert np.all(error[:, ~switching] < TOLERANCE / 2), error[:, ~switching].max()
    assert np.all(error < 0.06), error.max()


def test_trejo_mean_field_follows_the_equations():
    assert np.all(trejo_error() < TOLERANCE)


@pytest.mark.full
def test_trejo_error_is_of_first_order_in_the_step():
    ratio = trejo_error("time.step=20 min") / trejo_error("time.step=10 min")
    assert np.all((ratio > 1.8) & (ratio < 2.3)), ratio


def test_trejo_reference_numbers():
    days = np.arange(0, 14.001, 1 / 96)
    found = mean_course(oracle("trejo_2019", FEW), TREJO_NAMES, days) * TO_PAPER
    debris, m1, m2, c1, cb = (
        found[:, TREJO_NAMES.index(n)]
        for n in (
            "debris",
            "M1",
            "M2",
            "TNF",
            "osteoblast",
        )
    )
    assert m1.max() == pytest.approx(4.857e5, rel=0.005)
    assert days[m1.argmax()] == pytest.approx(5.1, abs=0.1)
    assert m2.max() == pytest.approx(1.679e5, rel=0.005)
    assert days[m2.argmax()] == pytest.approx(8.3, abs=0.15)
    assert c1.max() == pytest.approx(1.838, rel=0.005)
    assert days[c1.argmax()] == pytest.approx(0.27, abs=0.03)
    assert cb[-1] == pytest.approx(5.580e5, rel=0.01)
    assert days[np.argmax(debris < 0.01 * debris[0])] == pytest.approx(9.95, abs=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        "rule.recruit.when.density.M0+M1+M2.scale=1.1e6 /mL",
        "cytokine.TNF.production=27 ng/mL/day",
        "state.M2.takes_up.debris.when.debris.half=5.2e6 particles/mL",
        "rule.proliferate_by_TNF.rate=3.4e6 /mL/day",
    ],
)
def test_trejo_tells_a_wrong_coefficient(wrong):
    assert np.any(trejo_error(wrong) > TOLERANCE)


def deviations(name, names, shape, days, seeds, changes=(), exact=None) -> np.ndarray:
    """Mean of an ensemble minus its expectation, in standard errors, [day, variable]."""
    model = oracle(name, shape, changes)
    runs = np.array([sampled_course(model, names, days, seed) for seed in range(seeds)])
    if exact is None:
        every = np.arange(0, days[-1] + 1e-9, np.gcd.reduce(days.astype(int)))
        exact = mean_course(oracle(name, FEW, changes), names, every)
        exact = exact[np.searchsorted(every, days)]
    error = runs.std(axis=0, ddof=1) / np.sqrt(seeds)
    return (runs.mean(axis=0) - exact) / error


LEMAIRE_LOOKS = np.array([10.0, 25, 40, 80, 95, 140])
TREJO_LOOKS = np.array([1.0, 3, 5, 8, 11, 14])
MORE_STROMAL = "state.stromal.seeding.fraction=1e4 /mL"


# Coarser steps than the files' save time: both readings take the same.
def test_lemaire_sampled_follows_the_mean_field():
    changes = ["time.step=4 h"]
    z = deviations("lemaire_2004", CELLS, (24,) * 3, LEMAIRE_LOOKS, 16, changes)
    assert np.all(np.abs(z) < 4), z


def test_trejo_sampled_follows_the_mean_field():
    changes = ["time.step=30 min", MORE_STROMAL]
    z = deviations("trejo_2019", TREJO_NAMES, (24,) * 3, TREJO_LOOKS, 16, changes)
    assert np.all(np.abs(z) < 4), z


@pytest.mark.full
def test_lemaire_sampled_follows_the_equations():
    exact = lemaire_exact(np.concatenate([[0.0], LEMAIRE_LOOKS]))[1:] / PM_PER_VOXEL
    hourly = ["time.step=1 h"]
    z = deviations("lemaire_2004", CELLS, (40,) * 3, LEMAIRE_LOOKS, 16, hourly, exact)
    assert np.all(np.abs(z) < 4), z


@pytest.mark.full
def test_trejo_sampled_follows_the_equations():
    exact = solve(trejo, TREJO_START, np.concatenate([[0.0], TREJO_LOOKS]))[1:] / TO_PAPER
    z = deviations("trejo_2019", TREJO_NAMES, (48,) * 3, TREJO_LOOKS, 16, exact=exact)
    assert np.all(np.abs(z) < 4), z
