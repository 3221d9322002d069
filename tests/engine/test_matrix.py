"""Osteoid, mineral and bone: rates, lags, fates of buried and freed cells, what rules need."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.matrix import Deposit, mineralise, remove
from lattice.engine.simulation import Simulation
from tests.conftest import slab_of_bone, small_model
from tests.engine.placing import found, with_cells, within

EDGE = 36
SURFACE = 2  # the first plane above two of bone

FATES = """
[geometry]
kind = "plate"
thickness = "20 um"
axis = "z"
[matrix]
lag = "10 h"
[[state]]
name = "embedder"
lives = "surface"
lays = "0.125 /h"
when_filled = { osteocyte = 1 }
[[state]]
name = "mover"
lives = "surface"
lays = "0.125 /h"
when_filled = { mover = 1 }
when_stranded = "stranded"
[[state]]
name = "mixed"
lives = "surface"
lays = "0.125 /h"
when_filled = { osteocyte = 0.2, lining = 0.5, mixed = 0.3 }
[[state]]
name = "plain"
lives = "surface"
lays = "0.125 /h"
[[state]]
name = "lining"
lives = "surface"
[[state]]
name = "osteocyte"
lives = "bone"
[[state]]
name = "stranded"
[[state]]
name = "marrow_cell"
"""


def fates_model():
    return small_model(FATES, shape=(EDGE, EDGE, 6), step="1 h", until="4 day")


@pytest.fixture(scope="module")
def filling():
    """A run in which four kinds fill their voxels in eight steps, and its states by step."""
    model = fates_model()
    rows = {"embedder": (0, 6), "mover": (6, 12), "plain": (12, 14), "mixed": (14, EDGE)}
    places = {
        name: [(SURFACE, y, x) for y in range(low, high, 2) for x in range(0, EDGE, 2)]
        for name, (low, high) in rows.items()
    }
    simulation = with_cells(model, places, bone=slab_of_bone(model, 2))
    states = [simulation.host_state()]
    for _ in range(10):
        simulation.advance(1)
        states.append({k: np.array(v) for k, v in simulation.host_state().items()})
    return model, places, states


def total(state) -> np.ndarray:
    return state["mineral"] + state["osteoid"].sum(axis=1)


def test_a_lone_osteoblast_lays_at_its_rate_until_its_voxel_is_full(filling):
    _, places, states = filling
    for z, y, x in places["embedder"] + places["plain"]:
        laid = [int(total(s)[z, y, x]) for s in states]
        assert laid == [min(k, 8) * MATRIX_ONE // 8 for k in range(11)]
    # A mover goes on next door after it has filled its first voxel: nobody else lays anything.
    planes = total(states[8]).sum(axis=(1, 2))
    cells = sum(len(p) for p in places.values())
    assert planes[SURFACE] == cells * MATRIX_ONE
    assert planes[SURFACE + 1 :].sum() == 0


def test_a_filled_voxel_becomes_bone_and_buries_its_cell(filling):
    model, places, states = filling
    codes = model.state_codes()
    at = tuple(np.array(places["embedder"]).T)
    assert not states[7]["bone"][at].any()
    assert states[-1]["bone"][at].all()
    assert (states[-1]["cells"][at] == codes["osteocyte"]).all()
    at = tuple(np.array(places["plain"]).T)
    assert states[-1]["bone"][at].all()
    assert (states[-1]["cells"][at] == 0).all()


def test_a_cell_whose_fate_is_to_go_on_moves_out(filling):
    model, places, states = filling
    code = model.state_codes()["mover"]
    kept = states[-1]["cells"] == code
    at = tuple(np.array(places["mover"]).T)
    assert states[-1]["bone"][at].all()
    assert not kept[at].any()
    everywhere = kept.sum() + (states[-1]["cells"] == model.state_codes()["stranded"]).sum()
    assert everywhere == len(places["mover"])
    for z, y, x in np.argwhere(kept):
        near = min(abs(z - a) + abs(y - b) + abs(x - c) for a, b, c in places["mover"])
        assert near == 1
    assert not (states[-1]["bone"][kept]).any()


def test_fates_follow_their_weights(filling):
    model, places, states = filling
    codes, cells = model.state_codes(), states[-1]["cells"][:, 13:]
    filled = len(places["mixed"])
    for name, share in (("lining", 0.5), ("mixed", 0.3)):
        assert within((cells == codes[name]).sum(), filled, share), name
    embedded = states[-1]["cells"][tuple(np.array(places["mixed"]).T)] == codes["osteocyte"]
    assert within(embedded.sum(), filled, 0.2)


def test_without_room_a_cell_is_buried():
    model = fates_model()
    bone = slab_of_bone(model, 2)
    # Every other cell of a packed plane would move out, but its neighbours are all taken.
    here = [(SURFACE, y, x) for y in range(EDGE) for x in range(EDGE)]
    above = [(z, y, x) for z in range(SURFACE + 1, 6) for _, y, x in here]
    simulation = with_cells(model, {"mixed": here, "marrow_cell": above}, bone=bone)
    simulation.advance(10)
    state = simulation.host_state()
    assert state["bone"][SURFACE].all()
    assert (state["cells"][SURFACE] == model.state_codes()["osteocyte"]).all()
    assert len(found(simulation, "marrow_cell")) == len(above)


def test_the_lag_of_mineralisation_is_a_gamma_chain():
    deposit = Deposit(jnp.zeros((1, 3, 1, 1), jnp.int32), jnp.zeros((1, 1, 1), jnp.int32))
    once = jnp.full((1, 1, 1), 1 << 20, jnp.int32)
    lag, dt, arrivals = jnp.float32(20.0), 0.25, []
    for step in range(800):
        deposit, done = mineralise(deposit, once if step == 0 else once * 0, lag, dt)
        arrivals.append(int(done[0, 0, 0]))
    weights = np.array(arrivals) / (1 << 20)
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    # Laid during step 0, that is half a step before its end on average.
    times = (np.arange(800)) * dt
    mean = np.sum(weights * times)
    assert mean == pytest.approx(20.0, rel=0.03)
    spread = np.sum(weights * (times - mean) ** 2)
    assert spread == pytest.approx(20.0**2 / 3, rel=0.03)
    assert int(deposit.mineral[0, 0, 0]) == 1 << 20


def test_matrix_is_taken_from_mineral_first_and_never_below_nothing():
    osteoid = jnp.asarray([5, 7, 9], jnp.int32).reshape(1, 3, 1, 1)
    deposit = Deposit(osteoid, jnp.full((1, 1, 1), 10, jnp.int32))
    for wanted, mineral, left in (
        (0, 10, [5, 7, 9]),
        (4, 6, [5, 7, 9]),
        (12, 0, [5, 7, 7]),
        (28, 0, [3, 0, 0]),
        (99, 0, [0, 0, 0]),
    ):
        after, taken = remove(deposit, jnp.full((1, 1, 1), wanted, jnp.int32))
        assert int(after.mineral[0, 0, 0]) == mineral
        assert after.osteoid[0, :, 0, 0].tolist() == left
        assert int(taken[0, 0, 0]) == min(wanted, 31)


RESORBING = """
[geometry]
kind = "plate"
thickness = "20 um"
axis = "z"
[matrix]
lag = "10 h"
initial_surface = "none"
[[state]]
name = "osteoclast"
lives = "surface"
resorbs = "0.25 /h"
when_stranded = "stranded"
[[state]]
name = "osteocyte"
lives = "bone"
when_resorbed = "freed"
[[state]]
name = "freed"
[[state]]
name = "stranded"
[[state]]
name = "needy"
lives = ["marrow", "surface"]
[[state]]
name = "averse"
lives = ["marrow", "surface"]
[[state]]
name = "eater"
lives = ["marrow", "surface"]
[[state]]
name = "changed"
lives = ["marrow", "surface"]
[[rule]]
name = "needs"
from = "needy"
to = "changed"
rate = "1e4 /h"
needs_matrix = 0.5
[[rule]]
name = "forbids"
from = "averse"
to = "changed"
rate = "1e4 /h"
forbids_matrix = 0.5
[[rule]]
name = "consumes"
from = "eater"
to = "changed"
rate = "1e4 /h"
consumes_matrix = 0.25
"""
FILLED = {"needy": 6, "averse": 9, "eater": 12}  # row of each kind; x tells the matrix there


@pytest.fixture(scope="module")
def resorbing():
    model = small_model(RESORBING, shape=(16, 16, 6), step="1 h", until="4 day")
    bone = slab_of_bone(model, 2)
    places = {"osteoclast": [(2, 3, 3)], "osteocyte": [(1, 3, 3), (1, 12, 12)]}
    mineral = np.where(bone, MATRIX_ONE, 0).astype(np.int32)
    amounts = [0, MATRIX_ONE // 4 - 1, MATRIX_ONE // 4, MATRIX_ONE // 2 - 1, MATRIX_ONE // 2]
    for name, row in FILLED.items():
        places[name] = [(2, row, x) for x in range(5)]
        mineral[2, row, :5] = amounts
    simulation = with_cells(model, places, bone=bone)
    simulation.state["mineral"] = jnp.asarray(mineral)
    states = []
    for _ in range(9):
        states.append({k: np.array(v) for k, v in simulation.host_state().items()})
        simulation.advance(1)
    return model, states, simulation


def test_an_osteoclast_digs_one_pit_at_its_rate_and_is_stranded_without_bone(resorbing):
    model, states, _ = resorbing
    codes = model.state_codes()
    left = [int(s["mineral"][1, 3, 3]) for s in states]
    assert left[:5] == [MATRIX_ONE * k // 4 for k in (4, 3, 2, 1, 0)]
    assert [int(s["bone"][1, 3, 3]) for s in states[:5]] == [1, 1, 1, 1, 0]
    # The osteoclast has lost its surface: below it is marrow now.
    assert states[4]["cells"][2, 3, 3] == codes["osteoclast"]
    assert states[5]["cells"][2, 3, 3] == codes["stranded"]
    others = states[-1]["mineral"][:2].sum() - left[-1]
    assert others == (2 * 256 - 1) * MATRIX_ONE


def test_a_cell_in_resorbed_bone_is_freed(resorbing):
    model, states, _ = resorbing
    codes = model.state_codes()
    assert states[3]["cells"][1, 3, 3] == codes["osteocyte"]
    assert states[4]["cells"][1, 3, 3] == codes["freed"]
    assert states[-1]["cells"][1, 12, 12] == codes["osteocyte"]


def test_rules_that_need_forbid_or_consume_matrix(resorbing):
    model, states, simulation = resorbing
    changed = model.state_codes()["changed"]
    fired = {n: (states[1]["cells"][2, row, :5] == changed).tolist() for n, row in FILLED.items()}
    assert fired["needy"] == [False, False, False, False, True]
    assert fired["averse"] == [True, True, True, True, False]
    assert fired["eater"] == [False, False, True, True, True]
    before, after = (states[k]["mineral"][2, FILLED["eater"], :5] for k in (0, 1))
    np.testing.assert_array_equal(before - after, [0, 0] + [MATRIX_ONE // 4] * 3)
    row = simulation.row()
    unit = 0.01**3
    # An eighth step has passed: the osteoclast's pit of one voxel, and three bites.
    assert row["matrix.resorbed"][0] == pytest.approx(1.75 * unit, rel=1e-9)


def test_a_started_pit_is_finished_first():
    model = small_model(RESORBING, shape=(16, 16, 6), step="1 h", until="4 day")
    bone = slab_of_bone(model, 2)
    bone[2, 8, 6:11] = 1
    bone[2, 8, 8] = 0  # a notch: bone below and on two sides
    simulation = with_cells(model, {"osteoclast": [(2, 8, 8)]}, bone=bone)
    mineral = np.where(bone, MATRIX_ONE, 0).astype(np.int32)
    mineral[2, 8, 9] -= 1
    simulation.state["mineral"] = jnp.asarray(mineral)
    taken = []
    for _ in range(3):
        before = np.array(simulation.state["mineral"])
        simulation.advance(1)
        change = before - np.array(simulation.state["mineral"])
        taken += [tuple(map(int, p)) for p in np.argwhere(change)]
    assert taken == [(2, 8, 9)] * 3


def test_a_cell_of_a_plain_lattice_keeps_no_matrix():
    model = small_model('[[state]]\nname = "a"\nseeding = { where = "marrow", fraction = 0.2 }')
    assert "osteoid" not in Simulation(model, 0).state


@pytest.mark.parametrize("boundary", ["no-flux", "periodic"])
def test_a_thresholded_surface_is_that_of_the_image(boundary):
    """Voxels are at least half full where the image shows bone, and nowhere else; the matrix that
    marrow has more bone has less."""
    body = '[geometry]\nkind = "plate"\nthickness = "20 um"\naxis = "z"\n[matrix]\n' + (
        'lag = "1 day"\ninitial_surface = "thresholded"\n'
    )
    model = small_model(body, shape=(40, 40, 12), boundary=boundary)
    bone = slab_of_bone(model, 4)
    bone[7:9, 10:30, 10:30] = 1
    simulation = Simulation(model, 3, bone)
    mineral = np.asarray(simulation.host_state()["mineral"], np.int64)
    np.testing.assert_array_equal(mineral >= MATRIX_ONE / 2, bone == 1)
    fill = mineral / MATRIX_ONE
    flat = fill[3:5, :8]  # both sides of an even front, away from the block
    gain, lack = flat[1], 1 - flat[0]
    assert np.all((gain == 0) | (lack < 1e-6))  # the surface of a column is at one place
    place = gain - lack
    assert abs(place.mean()) < 4 * np.sqrt(1 / 12 / place.size)
    assert place.std() == pytest.approx(np.sqrt(1 / 12), rel=0.1)
    assert np.all((fill[1:3] == 1) & (bone[1:3] == 1))
    surface = np.argwhere((mineral > 0) & (bone == 0))
    assert len(surface) > 300
