"""A list is worked off in parts on a CPU and at once on a GPU; it may be too short for its voxels.
None of this is seen in the bits."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.engine import flux, lists, simulation
from lattice.model import load

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STEPS = 6
HERE = lists.on_cpu()


def after(model) -> dict[str, np.ndarray]:
    simulation._compiled.cache_clear()
    jax.clear_caches()
    run = simulation.Simulation(model, 5)
    run.advance(STEPS)
    state = run.host_state()
    return {name: state[name] for name in ("cells", "since")}


@pytest.fixture(scope="module")
def model():
    shape = "lattice.shape=[20, 20, 20]"
    return load(CONFIGS / "predator_prey.toml", overrides=[shape])


@pytest.fixture(scope="module")
def expected(model):
    found = after(model)
    assert len(np.unique(found["cells"])) > 2
    return found


@pytest.mark.parametrize("dense", [0, 1 << 18])
@pytest.mark.parametrize("capacity", [100, 4000])
def test_lists_done_at_once_or_in_parts_give_the_same_bits(
    model, expected, monkeypatch, dense, capacity
):
    monkeypatch.setattr(lists, "on_cpu", lambda: not HERE)
    monkeypatch.setattr(flux, "on_cpu", lambda: not HERE)
    monkeypatch.setattr(lists, "DENSE", dense)
    monkeypatch.setattr(simulation, "room_for", lambda longest, region: capacity)
    monkeypatch.setattr(simulation, "_longest_lists", {})
    found = after(model)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_no_two_writes_meet():
    happens = jnp.array([True, False, True, False])
    where = lists.places(happens, jnp.array([3, 3, 1, 1]), 10)
    assert where[::2].tolist() == [3, 1]
    assert len(set(where.tolist())) == 4
    assert min(where[1::2].tolist()) >= 10
    written = lists.written(jnp.zeros(10, jnp.int32), where, jnp.arange(1, 5))
    assert np.flatnonzero(np.asarray(written)).tolist() == [1, 3]
