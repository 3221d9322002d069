"""From a series to one number, on series whose numbers are known."""

import math

import numpy as np
import pytest

from lattice.trial.outcomes import outcome_unit, outcome_value
from lattice.trial.structure import Outcome

TIME = np.array([0.0, 10.0, 20.0, 30.0])
COLUMNS = {"a": np.array([0.0, 10.0, 20.0, 30.0]), "b": np.array([4.0, 4.0, 8.0, 8.0])}


@pytest.mark.parametrize(
    ("reduce", "window", "value"),
    [
        ("last", (0, 30), 30),
        ("last", (0, 25), 25),
        ("mean", (0, 30), 15),
        ("mean", (5, 15), 10),
        ("change", (5, 25), 20),
        ("percent", (10, 30), 200),
        ("max", (0, 12), 12),
        ("min", (12, 30), 12),
        ("area", (0, 24), 12),
    ],
)
def test_a_reduction_in_a_window(reduce, window, value):
    outcome = Outcome("o", ("a",), reduce=reduce, window=tuple(map(float, window)))
    assert outcome_value(outcome, TIME, COLUMNS, {}) == pytest.approx(value)


def test_series_are_summed_and_divided():
    total = Outcome("o", ("a", "b"), reduce="last", window=(30.0, 30.0))
    assert outcome_value(total, TIME, COLUMNS, {}) == 38
    wild = Outcome("o", ("[ab]",), reduce="last", window=(30.0, 30.0))
    assert outcome_value(wild, TIME, COLUMNS, {}) == 38
    share = Outcome("o", ("b",), ("a", "b"), "last", (30.0, 30.0))
    assert outcome_value(share, TIME, COLUMNS, {}) == pytest.approx(100 * 8 / 38)


def test_what_is_not_defined_is_nan():
    for outcome in (
        Outcome("o", ("b",), ("a",), "last", (0.0, 0.0)),
        Outcome("o", ("a",), reduce="percent", window=(0.0, 30.0)),
        Outcome("o", ("c",), reduce="last", window=(0.0, 30.0)),
        Outcome("o", measure="Tb.Th"),
    ):
        assert math.isnan(outcome_value(outcome, TIME, COLUMNS, {}))


def test_units_follow():
    cells = {"unit_of_series": "cells"}
    assert outcome_unit(Outcome("o", ("a",), **cells), {}) == "cells"
    assert outcome_unit(Outcome("o", ("a",), reduce="area", **cells), {}) == "cells day"
    assert outcome_unit(Outcome("o", ("a",), reduce="percent", **cells), {}) == "%"
    assert outcome_unit(Outcome("o", ("a",), ("b",), unit_of_per="cells", **cells), {}) == "%"
    assert outcome_unit(Outcome("o", ("a",), ("b",), unit_of_per="mm^3", **cells), {}) == (
        "cells/(mm^3)"
    )
    assert outcome_unit(Outcome("o", measure="Tb.Th"), {"Tb.Th": "um"}) == "um"


def test_a_measure_is_taken_as_it_is():
    outcome = Outcome("o", measure="Tb.Th")
    assert outcome_value(outcome, TIME, COLUMNS, {"Tb.Th": (51.0, "um")}) == 51.0
