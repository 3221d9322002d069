"""A lone walker: unbiased and isotropic, with the lattice's mean-square displacement."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from lattice.engine.simulation import Simulation
from tests.conftest import small_model
from tests.engine.placing import every, with_cells

EDGE = 64
STEP_H, VOXEL = 0.5, 10.0

WALK = """
[[cytokine]]
name = "trail"
diffusion = "0 um^2/s"
half_life = "1e9 h"
[[state]]
name = "walker"
[[rule]]
name = "walk"
move = "walker"
speed = "1 um/h"
toward = { signal = "trail", strength = 0.0, half = "1e-6 ng/mL" }
"""


@pytest.fixture(scope="module")
def model():
    # A field step of a thousand steps: the trail that a test lays stays as it is.
    return small_model(
        WALK, shape=(EDGE,) * 3, boundary="periodic", time='field_step = "500 h"', until="500 h"
    )


def walkers(model, expected_hops: float, strength: float = 0.0) -> Simulation:
    """Walkers far apart, half of them at even places along each axis, with k dt as given.

    `since`, which travels with a cell, tells them apart."""
    speed = expected_hops * 6 * VOXEL / STEP_H
    model = model.with_values(**{"rule.walk.speed": speed, "rule.walk.toward.strength": strength})
    places = every(7, (EDGE,) * 3)
    simulation = with_cells(model, {"walker": places}, seed=round(1000 * expected_hops) + 7)
    numbered = np.zeros((EDGE,) * 3, np.int32)
    numbered[tuple(np.array(places).T)] = -np.arange(1, len(places) + 1)
    simulation.state["since"] = jnp.asarray(numbered)
    # The first step is one that solves the fields: none of the others touches them.
    simulation.state["step"] = jnp.int32(1)
    return simulation


def positions(simulation: Simulation) -> np.ndarray:
    """[walker, axis] places in the order of the walkers' numbers."""
    state = simulation.host_state()
    places = np.argwhere(state["cells"] == 1)
    return places[np.argsort(-state["since"][state["cells"] == 1])]


def displacements(simulation: Simulation, steps: int):
    """Places before each step and displacements in it, [steps * walkers, 3], in voxels."""
    before, rows = positions(simulation), []
    for _ in range(steps):
        simulation.advance(1)
        after = positions(simulation)
        moved = (after - before + EDGE // 2) % EDGE - EDGE // 2
        rows.append((before, moved))
        before = after
    return tuple(np.concatenate(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize("expected_hops", [0.02, 0.5, 1.6])
def test_walk_without_gradient(model, expected_hops):
    before, moved = displacements(walkers(model, expected_hops), 24)
    samples = len(moved)
    squares = moved.astype(float) ** 2
    error = squares.std(axis=0) / np.sqrt(samples)
    # Mean-square displacement of each axis in one step: 2 k dt voxels squared.
    assert np.all(np.abs(squares.mean(axis=0) - 2 * expected_hops) < 4 * error)
    assert np.all(error < 0.06 * 2 * expected_hops)
    # Over all three axes that is speed times voxel times step.
    speed = expected_hops * 6 * VOXEL / STEP_H
    total, spread = squares.sum(axis=1).mean(), squares.sum(axis=1).std() / np.sqrt(samples)
    assert abs(total * VOXEL**2 - speed * VOXEL * STEP_H) < 4 * spread * VOXEL**2
    for parity in (0, 1):
        for axis in range(3):
            part = squares[before[:, axis] % 2 == parity, axis]
            assert abs(part.mean() - 2 * expected_hops) < 4 * part.std() / np.sqrt(len(part))


@pytest.mark.parametrize("expected_hops", [0.02, 0.5, 1.6])
def test_walk_has_no_drift(model, expected_hops):
    # Walkers of one step share the order of the matchings: errors are taken over their sum.
    first = walkers(model, expected_hops)
    count = len(positions(first))
    _, moved = displacements(first, 24)
    per_walker = moved.reshape(24, count, 3).sum(axis=0)
    error = per_walker.std(axis=0) / np.sqrt(count)
    assert np.all(np.abs(per_walker.mean(axis=0)) < 4 * error)
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        correlation = np.corrcoef(per_walker[:, a], per_walker[:, b])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(count)


def hop_probability(expected: float) -> float:
    """p with p + p^2 = k dt."""
    return (np.sqrt(1 + 4 * expected) - 1) / 2


def test_bias_up_a_gradient_has_the_size_of_the_formula(model):
    drifts = []
    for strength in (-25.0, 0.0, 25.0, 50.0):
        simulation = walkers(model, 0.3, strength)
        # Along x the concentration grows by a fixed factor, so that the relative step is constant.
        ramp = np.broadcast_to(np.exp(0.02 * np.arange(EDGE)), (EDGE,) * 3).astype(np.float32)
        simulation.state["cytokines"] = jnp.asarray(ramp[..., None])
        before, moved = displacements(simulation, 10)
        inside = (before[:, 2] >= 4) & (before[:, 2] < EDGE - 4)
        along, across = moved[inside, 2], moved[inside, 1]
        bias = np.tanh(strength * 2 * np.tanh(0.01))
        up, down = (hop_probability(0.3 * (1 + s * bias)) for s in (1, -1))
        expected = up - down + (up**2 - down**2) / 2
        error = along.std() / np.sqrt(len(along))
        assert abs(along.mean() - expected) < 4 * error, strength
        assert abs(across.mean()) < 4 * error
        drifts.append(along.mean())
    assert np.all(np.diff(drifts) > 0.05), drifts


def test_no_two_walkers_share_a_voxel(model):
    simulation = walkers(model, 1.5)
    rng = np.random.default_rng(3)
    cells = (rng.random((EDGE,) * 3) < 0.5).astype(np.uint8)
    numbered = np.where(cells, -np.arange(1, cells.size + 1).reshape(cells.shape), 0)
    simulation.state["cells"] = jnp.asarray(cells)
    simulation.state["since"] = jnp.asarray(numbered, dtype=jnp.int32)
    simulation.advance(3)
    state = simulation.host_state()
    kept = state["since"][state["cells"] == 1]
    np.testing.assert_array_equal(np.sort(kept), np.sort(numbered[cells == 1]))
    assert np.mean(state["since"] != numbered) > 0.5
