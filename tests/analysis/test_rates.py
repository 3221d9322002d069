from __future__ import annotations

import numpy as np
import pytest

from lattice.analysis.morphometry import Measure
from lattice.analysis.rates import corpse_measures, matrix_fluxes
from tests.conftest import small_model

STATIC = {"BS": Measure(2.0, "mm^2"), "BV": Measure(0.1, "mm^3"), "TV": Measure(0.5, "mm^3")}


def test_fluxes_are_those_of_the_window():
    time = np.arange(0, 241, 24.0)
    ledger = {
        "time": time,
        "matrix.formed": 0.001 * time / 24,
        "matrix.mineralised": np.where(time > 48, 0.002 * (time - 48) / 24, 0),
        "matrix.resorbed": np.zeros_like(time),
    }
    found = matrix_fluxes(ledger, STATIC, (96.0, 192.0))
    assert found["BFR/BS (exact)"] == (pytest.approx(0.001e9 / 2e6), "um^3/um^2/d")
    assert found["Mineralised/BS (exact)"].value == pytest.approx(0.002e9 / 2e6)
    assert found["BRs.R/BS (exact)"].value == 0
    assert found["BFR/BV (exact)"] == (pytest.approx(0.001 / 0.1 * 36525), "%/y")
    assert found["BFR/TV (exact)"].value == pytest.approx(0.001 / 0.5 * 36525)
    whole = matrix_fluxes(ledger, STATIC)
    assert whole["Mineralised/BS (exact)"].value == pytest.approx(0.016e9 / 10 / 2e6)
    assert matrix_fluxes(ledger, STATIC, (96.0, 400.0)) == {}


CORPSES = """
[[state]]
name = "A"
role = "apoptotic"
[[state]]
name = "eater"
[[state]]
name = "full"
[[rule]]
name = "eat"
from = ["eater", "A"]
to = ["full", "empty"]
rate = "1 /day"
[[rule]]
name = "fade"
from = "A"
to = "empty"
rate = "1 /day"
[[rule]]
name = "walk"
move = "A"
speed = "1 um/h"
"""


def test_corpses_live_as_long_as_little_says():
    """Three removals an hour of 12 corpses: each is there for 4 hours."""
    time = np.arange(0, 11.0)
    ledger = {
        "time": time,
        "A": np.full_like(time, 12),
        "events.eat": 2 * time,
        "events.fade": time,
        "events.walk": 50 * time,
    }
    found = corpse_measures(small_model(CORPSES), {"apoptotic": frozenset({"A"})}, ledger)
    assert found["Corpse life"] == (pytest.approx(4.0), "h")
    assert found["Corpses engulfed"] == (pytest.approx(200 / 3), "%")
    assert corpse_measures(small_model(CORPSES), {"apoptotic": frozenset()}, ledger) == {}
