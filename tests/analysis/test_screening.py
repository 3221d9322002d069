"""Screening: the file, the design, and indices with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from lattice.analysis.screen_file import read_screen
from lattice.analysis.screening import design, indices
from lattice.model.errors import InputError
from tests.analysis.two_rules import SCREEN, expected_difference, write_screen


def test_ranges_are_in_canonical_units(tmp_path):
    screen = read_screen(write_screen(tmp_path))
    turn = screen.ranges[0]
    assert (turn.low, turn.high) == pytest.approx((0.1 / 24, 3 / 24))
    assert turn.value(0.5) == pytest.approx(np.sqrt(0.1 * 3) / 24)  # log
    assert screen.ranges[1].value(0.5) == pytest.approx(0.055 / 24)  # linear
    assert screen.reference.values["intervention.pulse.kill.fraction"] == 0
    assert screen.treated.values["intervention.pulse.kill.fraction"] == 0.5
    assert screen.reference.time.until == 24


def expected(screen, points) -> np.ndarray:
    values = [screen.values(p) for p in points]
    return np.array([[expected_difference(v["rule.turn.rate"])] for v in values])


@pytest.mark.parametrize("method", ["morris", "sobol"])
def test_indices_of_the_exact_answer(tmp_path, method):
    path = write_screen(tmp_path, ('method = "morris"', f'method = "{method}"'))
    screen = read_screen(path)
    points = design(screen)
    rows = indices(screen, points, expected(screen, points))
    assert rows[0]["parameter"] == "rule.turn.rate"
    leading = {"morris": "mu_star", "sobol": "total"}[method]
    assert [r[leading] == 0 for r in rows] == [False, True, True]
    assert [r["sign"] for r in rows] == ["+", "none", "none"] or method == "sobol"
    assert rows[0]["sign"] == "+"
    if method == "sobol":
        assert rows[0]["total"] == pytest.approx(1, abs=0.1)


def test_the_sign_of_the_effect_turns_with_a_parameter(tmp_path):
    screen = read_screen(write_screen(tmp_path))
    points = design(screen)
    difference = points[:, [0]] - 0.5
    row = indices(screen, points, difference)[0]
    assert (row["positive_low"], row["positive_high"]) == (0.0, 1.0)


def test_an_outcome_that_never_changes(tmp_path):
    for method in ("morris", "sobol"):
        screen = read_screen(write_screen(tmp_path, ('"morris"', f'"{method}"')))
        points = design(screen)
        rows = indices(screen, points, np.zeros((len(points), 1)))
        assert {r["sign"] for r in rows} == {"none"}


FAULTS = {
    "unknown key": ("replicates", "replicate", "screen.replicate", 'did you mean "replicates"'),
    "unknown method": ('"morris"', '"moris"', "screen.method", 'did you mean "morris"'),
    "unknown number": ("rule.turn.rate", "rule.torn.rate", "parameter.0.name", "rule.turn.rate"),
    "wrong unit": ('"3 /day"', '"3 um"', "parameter.0.high", "0.6 /day"),
    "bare number": ('"3 /day"', "3", "parameter.0.high", "has no unit"),
    "empty range": ('"3 /day"', '"0.1 /day"', "parameter.0.high", "not above low"),
    "log from 0": ('"0.1 /day"', '"0 /day"', "parameter.0.low", "log scale"),
    "odd levels": ("levels = 4", "levels = 5", "screen.levels", "even"),
    "not a power of two": ("samples = 64", "samples = 60", "screen.samples", "power of two"),
    "unknown outcome": ('["A"]', '["AA"]', "screen.outcomes.0", "is not a series"),
    "missing model": ('"model.toml"', '"nowhere.toml"', "screen.model", "does not exist"),
    "unknown setting": (
        "intervention.pulse.kill.fraction",
        "intervention.puls.kill.fraction",
        "reference.set",
        "intervention.pulse.kill.fraction",
    ),
    "set and varied": (
        '"intervention.pulse.kill.fraction" = 0 ',
        '"intervention.pulse.kill.fraction" = 0, "rule.turn.rate" = "1 /day" ',
        "parameter.0.name",
        "set in an arm",
    ),
    "varied twice": ("rule.fade.rate", "rule.turn.rate", "parameter.1.name", "already"),
    "not TOML": ("[screen]", "[screen", "screening.toml", "TOML"),
    "no screen": ("[screen]", "[reference]", "screening.toml", "TOML"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(tmp_path, fault):
    old, new, key, hint = FAULTS[fault]
    assert old in SCREEN
    with pytest.raises(InputError) as error:
        read_screen(write_screen(tmp_path, (old, new)))
    sentence = str(error.value)
    assert "screening.toml" in sentence
    assert key in sentence
    assert hint in sentence
    assert "\n" not in sentence
