"""What rules sense, response shapes and the arithmetic of voxel indices."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.devices import mesh_of, region_of
from lattice.engine.flux import hop_hazard, response, shares
from lattice.engine.initial import count_bone_faces
from lattice.engine.numbers import numbers_of
from lattice.engine.region import Region, touching
from lattice.engine.signals import Surroundings
from lattice.engine.simulation import Simulation
from lattice.kernels.halo import Blocks
from lattice.model.errors import InputError
from lattice.model.structure import Response, Signal
from tests.conftest import small_model
from tests.engine.placing import with_cells

SHAPES = [(5, 3, 7), (1, 4, 5), (3, 1, 1), (2, 2, 2), (1, 1, 1)]


def neighbours_by_hand(place, shape, periodic):
    """Places of the existing face neighbours, in the order z-, z+, y-, y+, x-, x+."""
    for axis, direction in product(range(3), (-1, 1)):
        beside = list(place)
        beside[axis] += direction
        outside = not 0 <= beside[axis] < shape[axis]
        if shape[axis] == 1 or (outside and not periodic[axis]):
            yield None
        else:
            beside[axis] %= shape[axis]
            yield tuple(beside)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("periodic", [(False, True, False), (True, False, True)])
def test_face_neighbours(shape, periodic):
    region = Region(shape, periodic)
    index = jnp.arange(region.size, dtype=jnp.int32)
    flat, exists = (np.asarray(a) for a in jax.jit(lambda i: touching(i, region))(index))
    for number, place in enumerate(np.ndindex(shape)):
        for face, expected in enumerate(neighbours_by_hand(place, shape, periodic)):
            assert exists[face, number] == (expected is not None)
            if expected is not None:
                assert flat[face, number] == np.ravel_multi_index(expected, shape)


@pytest.mark.parametrize("counts", [(4, 1, 1), (1, 2, 1), (1, 1, 3), (2, 2, 3)])
@pytest.mark.parametrize("periodic", [(False, False, True), (True, True, False)])
def test_blocks_see_the_same_neighbours_and_global_indices(periodic, counts):
    shape, names = (8, 6, 9), ("z", "y", "x")
    values = np.random.default_rng(0).integers(1, 1000, shape).astype(np.int32)
    region = Region(shape, periodic, Blocks(names, counts))
    # Under vmap every block must get its halo from somewhere: here always around the end, which a
    # lattice that is not periodic must not see.
    ring = Region(shape, (True,) * 3, Blocks(names, counts))

    def block(part):
        padded = ring.pad(part).reshape(-1)
        every = jnp.arange(region.size, dtype=jnp.int32)
        index = region.strip(every.reshape(region.padded)).reshape(-1)
        beside, exists = touching(index, region)
        return (
            jnp.where(exists, padded[beside], 0).reshape(6, *region.block),
            region.global_index(index).reshape(region.block),
            region.own_index().reshape(region.block),
            region.owned(every).reshape(region.padded),
            ring.strip(ring.pad(part)),
        )

    z, y, x = region.block
    parts = values.reshape(counts[0], z, counts[1], y, counts[2], x).transpose(0, 2, 4, 1, 3, 5)
    for name in reversed(names):
        block = jax.vmap(block, axis_name=name)
    seen, numbers, own, owned, back = (np.asarray(a) for a in jax.jit(block)(jnp.asarray(parts)))

    def joined(blocks):
        """The lattice from its blocks."""
        return np.moveaxis(blocks, (-3, -2, -1), (1, 3, 5)).reshape(shape)

    faces = [joined(seen[:, :, :, face]) for face in range(6)]
    for place in np.ndindex(shape):
        for face, expected in enumerate(neighbours_by_hand(place, shape, periodic)):
            assert faces[face][place] == (0 if expected is None else values[expected])
    every = np.arange(values.size).reshape(shape)
    np.testing.assert_array_equal(joined(numbers), every)
    np.testing.assert_array_equal(joined(own), every)
    np.testing.assert_array_equal(joined(back), values)
    assert owned.sum() == values.size
    inner = tuple(slice(h, h + n) for h, n in zip(region.halo, region.block, strict=True))
    assert owned[(..., *inner)].all()


@pytest.mark.parametrize("periodic", [(False,) * 3, (True,) * 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_bone_faces_count_bone_neighbours(shape, periodic):
    bone = (np.random.default_rng(1).random(shape) < 0.5).astype(np.uint8)
    faces = np.asarray(count_bone_faces(Region(shape, periodic), jnp.asarray(bone)))
    for place in np.ndindex(shape):
        beside = [p for p in neighbours_by_hand(place, shape, periodic) if p is not None]
        assert faces[place] == sum(int(bone[p]) for p in beside), place


SENSED = """
[geometry]
kind = "plate"
thickness = "20 um"
axis = "z"
[[cytokine]]
name = "TNF"
diffusion = "3 um^2/s"
decay = "0 /h"
[[cytokine]]
name = "hormone"
systemic = true
decay = "0 /h"
[[state]]
name = "a"
resorbs = "0 /day"
[[state]]
name = "b"
"""


@pytest.fixture(scope="module")
def sensed():
    """A model, arrays of a state, and its signals as a function of (signal, place)."""
    model = small_model(SENSED, shape=(4, 6, 5), boundary=["periodic", "no-flux", "no-flux"])
    rng = np.random.default_rng(5)
    shape = (5, 6, 4)
    arrays = {
        "cells": rng.integers(0, 3, shape).astype(np.uint8),
        "since": rng.integers(-9, 8, shape).astype(np.int32),
        "bone": (rng.random(shape) < 0.4).astype(np.uint8),
        "matrix": rng.integers(0, MATRIX_ONE + 1, shape).astype(np.int32),
        "cytokines": rng.random((*shape, 1)).astype(np.float32),
    }
    region = region_of(model)
    faces = count_bone_faces(region, jnp.asarray(arrays["bone"]))
    flat = {k: jnp.asarray(v.reshape(120, *v.shape[3:])) for k, v in arrays.items()}
    around = Surroundings(
        model,
        region,
        flat["cells"],
        flat["since"],
        flat["bone"],
        faces.reshape(-1),
        flat["matrix"],
        flat["cytokines"],
        jnp.asarray([7.0], jnp.float32),
        jnp.asarray([0.5, 0.3, 0.2], jnp.float32),
        jnp.int32(8),
    )
    view = around.at(jnp.arange(120, dtype=jnp.int32))

    def read(kind, of=None):
        return np.asarray(view.read(Signal(kind, of))).reshape(shape)

    return model, arrays, read, view


def test_signals_of_the_own_voxel(sensed):
    _, arrays, read, _ = sensed
    np.testing.assert_array_equal(read("cytokine", "TNF"), arrays["cytokines"][..., 0])
    np.testing.assert_array_equal(read("cytokine", "hormone"), 7)
    np.testing.assert_allclose(read("age"), (8 - arrays["since"]) * 0.5, rtol=5e-7)
    np.testing.assert_allclose(read("matrix"), arrays["matrix"] / MATRIX_ONE, rtol=1e-6)
    np.testing.assert_allclose(read("time"), 4.0, rtol=5e-7)
    np.testing.assert_allclose(read("density", "b"), 0.2)
    np.testing.assert_allclose(read("density", "b+empty"), 0.7)


@pytest.mark.parametrize("name", ["a", "b", "empty", "bone", "a+b"])
def test_neighbour_signals_count_faces(sensed, name):
    model, arrays, read, _ = sensed
    matches = arrays["bone"] == 1 if name == "bone" else None
    if matches is None:
        codes = [model.state_codes()[n] for n in name.split("+")]
        matches = np.isin(arrays["cells"], codes)
    found = read("neighbours", name)
    shape, periodic = matches.shape, (False, False, True)
    for place in np.ndindex(shape):
        beside = [p for p in neighbours_by_hand(place, shape, periodic) if p is not None]
        assert found[place] == sum(bool(matches[p]) for p in beside), place


def test_places_where_cells_may_live(sensed):
    _, arrays, read, view = sensed
    bone = arrays["bone"] == 1
    surface = ~bone & (read("neighbours", "bone") > 0)
    for places, expected in (
        ({"marrow"}, ~bone),
        ({"surface"}, surface),
        ({"bone"}, bone),
        ({"surface", "bone"}, surface | bone),
    ):
        allowed = np.broadcast_to(view.may_live(frozenset(places)), (120,)).reshape(bone.shape)
        np.testing.assert_array_equal(allowed, expected)


def formula(shape, rising, x, at, power, floor, ceiling):
    """The responses as the model's structure defines them."""
    if shape == "inverse":
        return np.clip(np.divide(at, x, out=np.full_like(x, np.inf), where=x > 0), floor, ceiling)
    if shape == "linear":
        return np.clip(x / at if rising else 1 - x / at, floor, ceiling)
    if shape == "threshold":
        return np.where((x >= at) == rising, ceiling, floor)
    share = x**power / (at**power + x**power)
    return floor + (ceiling - floor) * (share if rising else 1 - share)


SHAPES = [(s, e) for s in ("hill", "linear", "threshold") for e in ("increases", "decreases")]
"""An inverse response only falls."""


@pytest.mark.parametrize(("shape", "effect"), [*SHAPES, ("inverse", "decreases")])
@pytest.mark.parametrize("limits", [(0.0, 1.0), (0.3, 2.5), (0.0, np.inf)])
@pytest.mark.parametrize("power", [1.0, 3.5])
def test_response_shapes(shape, effect, limits, power):
    if np.isinf(limits[1]) and (shape, effect) != ("linear", "increases"):
        limits = (0.1, 1.0)
    text = """
[[state]]
name = "a"
[[rule]]
name = "r"
from = "a"
to = "empty"
rate = "1 /h"
when = [ { signal = "time", effect = "increases", half = "2 h" } ]
"""
    prefix = "rule.r.when.time"
    model = small_model(text)
    values = {"power": power, "floor": limits[0], "ceiling": limits[1]}
    numbers = numbers_of(model.with_values(**{f"{prefix}.{k}": v for k, v in values.items()}))
    spec = Response(
        Signal("time"),
        shape,
        effect,
        f"{prefix}.half",
        f"{prefix}.power",
        f"{prefix}.floor",
        f"{prefix}.ceiling",
    )
    x = np.array([0.0, 0.5, 1.999, 2.0, 2.5, 40.0], np.float32)
    expected = formula(shape, effect == "increases", x, 2.0, power, *limits)
    found = np.asarray(response(spec, jnp.asarray(x), numbers))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


def test_competing_hazards_share_what_fires():
    hazards = [jnp.float32(h) for h in (0.2, 0.0, 1.3)]
    total = 1 - np.exp(-1.5)
    expected = [0.2 / 1.5 * total, 0, 1.3 / 1.5 * total]
    np.testing.assert_allclose([float(s) for s in shares(hazards)], expected, rtol=1e-6)
    assert [float(s) for s in shares([jnp.float32(0)] * 2)] == [0, 0]


def test_hop_probability_solves_its_equation():
    expected = jnp.asarray([1e-6, 0.01, 0.5, 1.9], jnp.float32)
    p = -np.expm1(-np.asarray(hop_hazard(expected), np.float64))
    np.testing.assert_allclose(p + p**2, np.asarray(expected), rtol=1e-5)


# Steps whose length in float32 is too short, so that the age of n of them rounds below n steps.
CLOCKS = [("27 min", 3), ("25 min", 7), ("35 min", 14), ("10 min", 60)]


@pytest.mark.parametrize(("step", "steps"), CLOCKS)
def test_a_clock_fires_in_exactly_its_step(step, steps):
    amount, unit = step.split()
    text = f"""
[[state]]
name = "waiting"
[[state]]
name = "done"
[[rule]]
name = "ring"
from = "waiting"
to = "done"
after = "{float(amount) * steps!r} {unit}"
"""
    model = small_model(text, shape=(2, 1, 1), step=step, until="1 day")
    simulation = with_cells(model, {"waiting": [(0, 0, 0)]})
    simulation.advance(steps)
    assert simulation.row()["waiting"][0] == 1
    # The age is what the rule demands at the start of the step after so many steps.
    simulation.advance(1)
    assert simulation.row()["done"][0] == 1
    assert int(simulation.state["since"][0, 0, 0]) == steps


def test_more_devices_than_there_are_are_refused():
    available = jax.device_count()
    with pytest.raises(InputError, match=f"{available + 1}.*this machine has {available}"):
        mesh_of((available + 1, 1, 1))
    with pytest.raises(InputError, match=f"1x{available + 1}x1: this machine has {available}"):
        mesh_of((1, available + 1, 1))
    assert mesh_of((1, 1, 1)) is None


def test_bone_of_another_shape_is_refused():
    model = small_model(SENSED, shape=(4, 6, 5))
    with pytest.raises(ValueError, match="has the shape"):
        Simulation(model, 0, np.zeros((4, 6, 5), np.uint8))
