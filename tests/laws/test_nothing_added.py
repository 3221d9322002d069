"""Law 3: what does nothing changes no bit of what was there before."""

from __future__ import annotations

import numpy as np
import pytest

from lattice.engine.simulation import Simulation
from lattice.io.vtkhdf import frame
from tests.conftest import small_model

BASE = """
[[cytokine]]
name = "signal"
diffusion = "3 um^2/s"
half_life = "2 h"
[[state]]
name = "walker"
secretes = { signal = "4 fg/day" }
seeding = { where = "marrow", fraction = 0.2, age = "1 day" }
[[state]]
name = "sitter"
seeding = { where = "marrow", fraction = 0.2 }
[[rule]]
name = "hop"
move = "walker"
speed = "0.2 um/min"
toward = { signal = "signal", strength = 1.0 }
[[rule]]
name = "meet"
from = ["walker", "sitter"]
to = ["walker", "walker"]
rate = "0.5 /h"
[[rule]]
name = "rest"
from = "walker"
to = "sitter"
rate = "2 /day"
when = [ { signal = "signal", effect = "increases", half = "10 ng/mL", power = 2 } ]
[[intervention]]
name = "pulse"
kill = { states = ["sitter"], fraction = 0.5, into = "empty" }
every = "5 h"
from = "1 h"
"""

SILENT = {
    "a kill of fraction 0": """
[[intervention]]
name = "a_first_pulse"
kill = { states = ["walker", "sitter"], fraction = 0.0, into = "empty" }
every = "1 h"
""",
    "rules of rate 0": """
[[rule]]
name = "absent"
from = "walker"
to = "empty"
rate = "0 /h"
[[rule]]
name = "mute"
from = ["sitter", "walker"]
to = ["empty", "empty"]
rate = "0 /h"
[[rule]]
name = "zero"
from = "empty"
to = "sitter"
rate = "0 /h"
""",
    "an unused cytokine": """
[[cytokine]]
name = "an_unused_one"
diffusion = "9 um^2/s"
half_life = "1 h"
""",
    "an unused state": """
[[state]]
name = "nobody"
secretes = { signal = "9 fg/day" }
""",
}


def run(text: str, overrides=()):
    model = small_model(text, shape=(10, 8, 6), overrides=overrides)
    simulation = Simulation(model, 11)
    simulation.advance(24)
    row = simulation.row()
    arrays = frame(model, {k: np.array(v) for k, v in simulation.host_state().items()})
    names = np.array([s.name for s in model.states])
    arrays["cells"] = names[arrays["cells"]]
    return row, arrays


@pytest.fixture(scope="module")
def before():
    return run(BASE)


def unchanged(before, after) -> None:
    for name, (value, unit) in before[0].items():
        assert after[0][name] == (value, unit), name
    for name, array in before[1].items():
        np.testing.assert_array_equal(after[1][name], array, err_msg=name)


def test_the_base_run_does_something(before):
    row = before[0]
    assert all(row[f"events.{n}"][0] > 0 for n in ("hop", "meet", "rest"))


@pytest.mark.parametrize("addition", SILENT)
def test_addition_changes_nothing(before, addition):
    unchanged(before, run(BASE + SILENT[addition]))


def test_order_of_tables_changes_nothing(before):
    tables = [t for t in ("\n" + BASE).split("\n[[") if t.strip()]
    unchanged(before, run("".join(f"\n[[{t}" for t in reversed(tables))))


def test_choice_of_units_changes_nothing(before):
    text = BASE
    for old, new in (
        ("3 um^2/s", "0.0108 mm^2/h"),
        ("2 h", "120 min"),
        ("4 fg/day", "4e-3 pg/day"),
        ("0.2 um/min", "12 um/h"),
        ("0.5 /h", "12 /day"),
        ("10 ng/mL", "10 ug/L"),
        ("5 h", "300 min"),
    ):
        assert old in text
        text = text.replace(old, new)
    unchanged(before, run(text))
