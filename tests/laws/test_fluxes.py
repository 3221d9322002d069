"""Law 4: rules fire as often as their flux says; cells, molecules and matrix are conserved."""

from __future__ import annotations

import numpy as np
import pytest

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.simulation import Simulation
from tests.conftest import TISSUE, slab_of_bone, small_model

COMPETING = """
[[state]]
name = "a"
seeding = { where = "marrow", fraction = 1.0 }
[[state]]
name = "b"
[[state]]
name = "c"
[[rule]]
name = "to_b"
from = "a"
to = "b"
rate = "0.7 /h"
[[rule]]
name = "to_c"
from = "a"
to = "c"
rate = "0.2 /h"
[[rule]]
name = "vanish"
from = "a"
to = "empty"
rate = "0.01 /h"
"""


def z_score(observed: float, trials: float, probability: float) -> float:
    return (observed - trials * probability) / np.sqrt(trials * probability * (1 - probability))


def test_competing_site_rules_share_a_step():
    model = small_model(COMPETING, shape=(64, 50, 32))
    simulation = Simulation(model, 1)
    simulation.advance(1)
    row, voxels = simulation.row(), 64 * 50 * 32
    rates = {"to_b": 0.7, "to_c": 0.2, "vanish": 0.01}
    total = sum(rates.values())
    for name, rate in rates.items():
        q = rate / total * -np.expm1(-total * 0.5)
        assert abs(z_score(row[f"events.{name}"][0], voxels, q)) < 4, name


PAIRS = """
[[state]]
name = "a"
seeding = { where = "marrow", fraction = 0.5 }
[[state]]
name = "b"
seeding = { where = "marrow", fraction = 0.5 }
[[state]]
name = "c"
[[rule]]
name = "react"
from = ["b", "a"]
to = ["c", "c"]
rate = "0.4 /h"
[[rule]]
name = "exchange"
from = ["a", "b"]
to = ["c", "b"]
rate = "0.1 /h"
[[rule]]
name = "alike"
from = ["a", "a"]
to = ["c", "a"]
rate = "0.3 /h"
"""


def test_pair_rules_fire_once_per_contact():
    # Along x only: two matchings, so every bond is visited once a step.
    model = small_model(PAIRS, shape=(2, 1, 200000), boundary="no-flux")
    simulation = Simulation(model, 2)
    cells = np.array(simulation.state["cells"]).reshape(-1, 2)
    # Bonds along z would react too: keep to the bonds inside each row by cutting all others.
    cells[1::2] = 0
    simulation.state["cells"] = simulation.state["cells"].at[:].set(cells.reshape(-1, 1, 2))
    simulation.advance(1)
    row = simulation.row()
    mixed = np.sum(cells.sum(axis=1) == 3)
    alike = np.sum((cells == 1).all(axis=1))
    total = 0.5
    for name, rate in (("react", 0.4), ("exchange", 0.1)):
        q = rate / total * -np.expm1(-total * 0.5)
        assert abs(z_score(row[f"events.{name}"][0], mixed, q)) < 4, name
    q = -np.expm1(-0.3 * 0.5)
    assert abs(z_score(row["events.alike"][0], alike, q)) < 4


WALK = """
[[state]]
name = "walker"
seeding = { where = "marrow", fraction = 0.3 }
[[state]]
name = "yielding"
seeding = { where = "marrow", fraction = 0.2 }
[[rule]]
name = "walk"
move = "walker"
speed = "1 um/min"
through = ["yielding"]
"""


def test_movement_conserves_every_kind():
    model = small_model(WALK, shape=(16, 14, 12), time='contact_step = "5 min"')
    simulation = Simulation(model, 3)
    before = simulation.row()
    simulation.advance(40)
    after = simulation.row()
    for name in ("walker", "yielding"):
        assert after[name] == before[name]
    assert after["events.walk"][0] > 1000
    assert after["events.walk.through.yielding"][0] > 100


@pytest.fixture(scope="module")
def tissue_run():
    model = small_model(TISSUE, shape=(14, 11, 9))
    simulation = Simulation(model, 8, slab_of_bone(model))
    start = simulation.row()
    simulation.advance(300)
    return start, simulation.row(), simulation


def test_molecules_are_conserved(tissue_run):
    start, end, _ = tissue_run
    for name in ("TNF", "find_me", "PTH"):
        made = end[f"{name}.produced"][0] + start[f"{name}.present"][0]
        kept = sum(end[f"{name}.{kind}"][0] for kind in ("present", "decayed", "consumed"))
        assert made > 0
        assert kept == pytest.approx(made, rel=1e-5), name
    assert end["TNF.consumed"][0] > 0


def test_matrix_is_conserved_to_the_last_unit(tissue_run):
    start, end, simulation = tissue_run
    change = sum(end[n][0] - start[n][0] for n in ("osteoid", "mineral"))
    flux = end["matrix.formed"][0] - end["matrix.resorbed"][0]
    unit = (0.01) ** 3 / MATRIX_ONE
    assert abs(change - flux) < unit / 2
    assert end["matrix.formed"][0] > 1e4 * unit
    assert end["matrix.resorbed"][0] > 1e4 * unit
    state = simulation.host_state()
    total = state["mineral"] + state["osteoid"].sum(axis=1)
    assert total.min() >= 0
    assert total.max() <= MATRIX_ONE


def test_bone_holds_only_cells_that_live_there(tissue_run):
    _, _, simulation = tissue_run
    state, model = simulation.host_state(), simulation.model
    osteocyte = model.state_codes()["osteocyte"]
    inside = state["cells"][state["bone"] == 1]
    outside = state["cells"][state["bone"] == 0]
    assert set(np.unique(inside)) <= {0, osteocyte}
    assert osteocyte not in outside
