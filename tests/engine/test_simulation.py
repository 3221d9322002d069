"""A process compiles the step of a structure once."""

from __future__ import annotations

from lattice.engine import simulation
from tests.conftest import small_model

WALKERS = """
[[state]]
name = "walker"
seeding = { where = "marrow", fraction = 0.02 }

[[rule]]
name = "walk"
move = "walker"
speed = "2 um/h"
"""


def test_a_second_simulation_begins_with_the_program_of_the_first():
    model = small_model(WALKERS, shape=(24, 24, 24))
    first = simulation.Simulation(model, 0)
    first.advance(2)
    compiled = simulation._compiled.cache_info().misses
    second = simulation.Simulation(model.with_values(**{"rule.walk.speed": 1.0}), 1)
    second.advance(2)
    assert simulation._compiled.cache_info().misses == compiled
    assert int((second.state["cells"] != 0).sum()) > 0
