"""Arrivals, divisions and the exchange of molecules happen at the rates that a model states."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from lattice.engine import mean_field
from lattice.engine.devices import region_of
from lattice.engine.numbers import numbers_of
from lattice.engine.plan import plan_of
from lattice.engine.simulation import Simulation
from lattice.kernels.random_bits import seed_words
from tests.conftest import slab_of_bone, small_model
from tests.engine.placing import every, found, with_cells, within

ARRIVALS = """
[geometry]
kind = "plate"
thickness = "50 um"
axis = "z"
[[cytokine]]
name = "call"
diffusion = "0 um^2/s"
decay = "0 /h"
initial = "3 ng/mL"
[[state]]
name = "plain"
[[state]]
name = "hill"
[[state]]
name = "unbounded"
[[state]]
name = "settler"
lives = "surface"
[[state]]
name = "neighbour"
[[rule]]
name = "arrive_plain"
from = "empty"
to = "plain"
rate = "0.02 /h"
[[rule]]
name = "arrive_hill"
from = "empty"
to = "hill"
rate = "0.05 /h"
when = [ { signal = "call", effect = "increases", half = "1 ng/mL", power = 2, ceiling = 2.0 } ]
[[rule]]
name = "arrive_unbounded"
from = "empty"
to = "unbounded"
rate = "0.01 /h"
when = [ { signal = "call", shape = "linear", effect = "increases", scale = "0.5 ng/mL" } ]
[[rule]]
name = "settle"
from = "empty"
to = "settler"
rate = "0.1 /h"
[[rule]]
name = "crowd"
from = "empty"
to = "neighbour"
rate = "0.3 /h"
when = [ { signal = "neighbours.plain", shape = "linear", effect = "increases", scale = 1 } ]
"""
ARRIVAL_RATES = {"plain": 0.02, "hill": 0.05 * 2 * 0.9, "unbounded": 0.06, "settler": 0.1}


@pytest.fixture(scope="module", params=["one list", "batches"])
def arrived(request):
    """Names of the cells before and after two steps of half an hour."""
    model = small_model(ARRIVALS, shape=(60, 50, 20))
    simulation = Simulation(model, 4, slab_of_bone(model, 5))
    simulation._capacity = simulation.region.size if request.param == "one list" else 512
    simulation._grow_capacity = lambda: None
    names = np.array([s.name for s in model.states])
    frames = []
    for _ in range(2):
        simulation.advance(1)
        frames.append(names[simulation.host_state()["cells"]])
    return frames


def test_cells_arrive_in_empty_voxels_at_their_rates(arrived):
    first = arrived[0]
    assert (first[:5] == "empty").all(), "nobody arrives in bone"
    marrow, surface = first[6:], first[5]
    for place, kinds in ((marrow, ("plain", "hill", "unbounded")), (surface, ARRIVAL_RATES)):
        total = sum(ARRIVAL_RATES[k] for k in kinds)
        for kind in kinds:
            probability = ARRIVAL_RATES[kind] / total * -np.expm1(-total * 0.5)
            assert within((place == kind).sum(), place.size, probability), kind
    assert not (marrow == "settler").any()


def test_arrivals_sense_their_neighbours(arrived):
    first, second = arrived
    plain = np.pad(first == "plain", 1)
    beside = sum(
        np.roll(plain, shift, axis)[1:-1, 1:-1, 1:-1] for axis in range(3) for shift in (-1, 1)
    )
    for count in (0, 1):
        chosen = (first == "empty") & (beside == count)
        chosen[:6] = False
        others = sum(ARRIVAL_RATES[k] for k in ("plain", "hill", "unbounded"))
        rate = 0.3 * count
        total = rate + others
        probability = rate / total * -np.expm1(-total * 0.5)
        assert chosen.sum() > 100
        assert within((second[chosen] == "neighbour").sum(), chosen.sum(), probability), count


DIVIDING = """
[[state]]
name = "mother"
[[state]]
name = "daughter"
[[state]]
name = "wall"
[[rule]]
name = "divide"
divide = "mother"
into = ["mother", "daughter"]
rate = "0.3 /h"
"""


@pytest.fixture(scope="module")
def dividing():
    return small_model(
        DIVIDING, shape=(48,) * 3, boundary="periodic", time='contact_step = "15 min"'
    )


def test_a_free_cell_divides_at_its_rate(dividing):
    places = every(3, (48,) * 3)
    simulation = with_cells(dividing, {"mother": places}, seed=5)
    simulation.advance(1)
    row = simulation.row()
    assert row["mother"][0] == len(places)
    assert row["daughter"][0] == row["events.divide"][0]
    # More than one daughter in half an hour is possible, at a rate that falls with the room left.
    cells = np.array(simulation.state["cells"])
    code = dividing.state_codes()["daughter"]
    without = sum(not _beside(cells, place, code) for place in places)
    assert within(without, len(places), np.exp(-0.3 * 0.5))


def _beside(cells, place, code) -> bool:
    for axis in range(3):
        for direction in (-1, 1):
            at = list(place)
            at[axis] = (at[axis] + direction) % cells.shape[axis]
            if cells[tuple(at)] == code:
                return True
    return False


def test_a_cell_divides_into_empty_voxels_only(dividing):
    model = dividing.with_values(**{"rule.divide.rate": 1e4})
    room = {(4, 4, 4), (20, 20, 20), (20, 20, 21)}
    walls = [p for p in np.ndindex(48, 48, 48) if p not in room]
    mothers = [(4, 4, 4), (20, 20, 20)]
    simulation = with_cells(model, {"mother": mothers, "wall": walls})
    simulation.advance(1)
    assert found(simulation, "mother") == set(mothers)
    assert found(simulation, "daughter") == {(20, 20, 21)}


EXCHANGE = """
[[cytokine]]
name = "made"
diffusion = "30 um^2/s"
decay = "0 /h"
[[cytokine]]
name = "hormone"
systemic = true
decay = "0.25 /h"
initial = "0.5 ng/mL"
production = "0.04 ng/mL/h"
[[cytokine]]
name = "RANKL"
diffusion = "5 um^2/s"
decay = "0 /h"
initial = "0.03 uM"
molar_mass = "20 kDa"
[[cytokine]]
name = "OPG"
diffusion = "5 um^2/s"
decay = "0 /h"
initial = "0.05 uM"
molar_mass = "20 kDa"
[[cytokine]]
name = "complex"
diffusion = "5 um^2/s"
decay = "0 /h"
initial = "0 uM"
molar_mass = "40 kDa"
[[reaction]]
name = "bind"
equation = "RANKL + OPG <-> complex"
forward = "20 /uM/h"
backward = "0.3 /h"
[[state]]
name = "giver"
secretes = { made = "20 fg/day", hormone = "3 fg/h" }
[[state]]
name = "modest"

[state.secretes.made]
rate = "20 fg/day"
when = [ { signal = "neighbours.giver", effect = "decreases", half = 1, power = 2 } ]
[[state]]
name = "eater"
takes_up = { hormone = "2000 um^3/h" }
"""
EDGE, GIVERS, EATERS, HOURS = 8, 3, 4, 3.0


@pytest.fixture(scope="module")
def exchanged():
    """The last row and arrays of three hours in steps of half an hour."""
    model = small_model(EXCHANGE, shape=(EDGE,) * 3)
    spots = every(3, (EDGE,) * 3)
    beside = tuple(np.add(spots[0], (0, 0, 1)))
    places = {"giver": spots[:GIVERS], "eater": spots[-EATERS:], "modest": [beside]}
    simulation = with_cells(model, places)
    simulation.advance(6)
    names = [c.name for c in model.cytokines if not c.systemic]
    fields = np.array(simulation.state["cytokines"], np.float64)
    return simulation.row(), {n: fields[..., i] for i, n in enumerate(names)}


def test_cells_secrete_exactly_their_rate(exchanged):
    after, _ = exchanged
    # The modest one has one giver beside it, half of its response.
    expected = (GIVERS + 1 / 2) * 20 / 24 * HOURS
    assert after["made.present"][0] == pytest.approx(expected, rel=1e-5)
    assert after["made.produced"][0] == pytest.approx(expected, rel=1e-5)


UPTAKE = """
[[cytokine]]
name = "taken"
diffusion = "300 um^2/s"
decay = "0.1 /h"
initial = "2 ng/mL"
[[state]]
name = "eater"
takes_up = { taken = "4000 um^3/h" }
"""


def test_cells_clear_their_volume():
    model = small_model(UPTAKE, shape=(EDGE,) * 3)
    simulation = with_cells(model, {"eater": every(3, (EDGE,) * 3)[:EATERS]})
    simulation.advance(6)
    row, volume = simulation.row(), (EDGE * 10.0) ** 3
    # Diffusion is so fast that the box is well mixed.
    clearance = EATERS * 4000 / volume
    left = 2 * np.exp(-(0.1 + clearance) * HOURS)
    assert row["taken.mean"][0] == pytest.approx(left, rel=1e-3)
    share = clearance / (0.1 + clearance)
    eaten = (2 - left) * share * volume * 1e-6
    assert row["taken.consumed"][0] == pytest.approx(eaten, rel=2e-3)


def test_the_systemic_compartment_follows_its_equation(exchanged):
    after, _ = exchanged
    volume = (EDGE * 10.0) ** 3
    source = 0.04 + GIVERS * 3e6 / volume
    loss = 0.25 + EATERS * 2000 / volume
    end = source / loss + (0.5 - source / loss) * np.exp(-loss * HOURS)
    assert after["hormone.mean"][0] == pytest.approx(end, rel=1e-5)
    eaten = (EATERS * 2000 / volume) * (
        source / loss * HOURS + (0.5 - source / loss) * -np.expm1(-loss * HOURS) / loss
    )
    assert after["hormone.consumed"][0] == pytest.approx(eaten * volume * 1e-6, rel=1e-4)


def test_binding_conserves_both_partners_and_follows_mass_action(exchanged):
    after, fields = exchanged
    molar = {"RANKL": 20e3, "OPG": 20e3, "complex": 40e3}
    level = {name: fields[name] / mass for name, mass in molar.items()}  # uM
    for partner, start in (("RANKL", 0.03), ("OPG", 0.05)):
        np.testing.assert_allclose(level[partner] + level["complex"], start, rtol=1e-4)
        assert after[f"{partner}.reacted"][0] < 0

    def speed(_, c):
        return 20 * (0.03 - c) * (0.05 - c) - 0.3 * c

    exact = solve_ivp(speed, (0, HOURS), [0.0], rtol=1e-9, atol=1e-12).y[0, -1]
    np.testing.assert_allclose(level["complex"], exact, rtol=2e-3)


REGULATED = """
[geometry]
kind = "plate"
thickness = "20 um"
axis = "z"
[[cytokine]]
name = "hormone"
systemic = true
decay = "0.5 /h"
initial = "2 ng/mL"
[cytokine.production]
rate = "3 ng/mL/h"
when = [ { signal = "density.gland+duct", effect = "increases", shape = "linear", scale = 0.1 } ]
[[cytokine]]
name = "local"
diffusion = "0 um^2/s"
decay = "0 /h"
[cytokine.production]
rate = "1 ng/mL/h"
when = [ { signal = "neighbours.gland", effect = "increases", shape = "linear", scale = 1 } ]
[[state]]
name = "gland"
secretes = { hormone = { rate = "2 fg/day", when = [
    { signal = "density.duct", effect = "decreases", half = 0.1 },
    { signal = "neighbours.duct", effect = "decreases", half = 1 },
] } }
seeding = { where = "marrow", fraction = 0.2 }
[[state]]
name = "duct"
seeding = { where = "marrow", fraction = 0.1 }
"""


@pytest.mark.parametrize("reading", ["sampled", "mean field"])
def test_production_that_senses(reading):
    model = small_model(REGULATED, step="6 min", until="6 min")
    bone = slab_of_bone(model)
    simulation = Simulation(model, 3, bone)
    cells = simulation.host_state()["cells"]
    gland, duct = (cells == model.state_codes()[n] for n in ("gland", "duct"))
    beside = [np.zeros(cells.shape), np.zeros(cells.shape)]
    for kind, total in zip((gland, duct), beside, strict=True):
        for axis in range(3):
            low, high = [slice(None)] * 3, [slice(None)] * 3
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            total[tuple(low)] += kind[tuple(high)]
            total[tuple(high)] += kind[tuple(low)]
    if reading == "sampled":
        simulation.advance(1)
        after = simulation.host_state()
    else:
        region, numbers = region_of(model), numbers_of(model)
        plan = plan_of(model, region, region.size)
        words = jnp.asarray(seed_words(3))
        state = mean_field.initial_mean(model, region, numbers, words, jnp.asarray(bone))
        state["x"] = jnp.eye(len(model.states), dtype=jnp.float32)[:, cells]
        after = mean_field.advance(plan, numbers, state, jnp.zeros((1, 0), bool))
    dt, volume = 0.1, cells.size * 1000.0
    density = duct.mean()
    secreted = 2e6 / 24 * (1 - density / (0.1 + density)) * np.sum(gland / (1 + beside[1])) / volume
    source = 3 * (gland.mean() + density) / 0.1 + secreted
    expected = 2 * np.exp(-0.5 * dt) + source * (1 - np.exp(-0.5 * dt)) / 0.5
    assert float(after["systemic"][0]) == pytest.approx(expected, rel=2e-4)
    made = np.asarray(after["cytokines"])[..., 0]
    np.testing.assert_allclose(made, np.where(bone == 1, 0, dt * beside[0]), atol=1e-5)


def test_arrivals_per_volume_do_not_depend_on_the_room():
    text = """
[[state]]
name = "filler"
seeding = { where = "everywhere", fraction = 0.8 }
[[state]]
name = "guest"
[[rule]]
name = "arrive"
from = "empty"
to = "guest"
rate = "2.4e5 /mm^3/day"
when = [ { signal = "density.empty", effect = "decreases", shape = "inverse", scale = 1 } ]
"""
    model = small_model(text, shape=(40, 40, 40), step="30 min")
    simulation = Simulation(model, 2)
    simulation.advance(6)
    # 0.01 per voxel and hour for three hours; hazards of 0.025 a step lose 1.3 % to the step.
    expected = 64000 * 0.03 * (1 - 0.0125)
    guests = np.sum(simulation.host_state()["cells"] == model.state_codes()["guest"])
    assert abs(guests - expected) < 4 * np.sqrt(expected)
