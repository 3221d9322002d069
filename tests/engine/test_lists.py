"""A list is worked off in parts on a CPU and at once on a GPU; it may be too short for its voxels.
None of this is seen in the bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.engine import flux, lists, simulation
from tests.conftest import TISSUE, slab_of_bone, small_model

STEPS = 6


def after() -> dict[str, np.ndarray]:
    """State and ledgers of a model that uses every mechanism."""
    simulation._compiled.cache_clear()
    jax.clear_caches()
    model = small_model(TISSUE)
    run = simulation.Simulation(model, 5, slab_of_bone(model))
    run.advance(STEPS)
    return {**run.host_state(), **run.host_ledger()}


@pytest.fixture(scope="module")
def expected():
    found = after()
    assert (found["events"][:, 0] > 0).sum() > 3
    return found


@pytest.mark.parametrize("dense", [0, 1 << 18])  # lists that are too short, and none
def test_lists_done_at_once_or_in_parts_give_the_same_bits(monkeypatch, expected, dense):
    there = not lists.on_cpu()
    monkeypatch.setattr(lists, "on_cpu", lambda: there)
    monkeypatch.setattr(flux, "on_cpu", lambda: there)
    monkeypatch.setattr(lists, "DENSE", dense)
    monkeypatch.setattr(simulation, "room_for", lambda longest, region: 20)
    monkeypatch.setattr(simulation, "_longest_lists", {})
    found = after()
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
