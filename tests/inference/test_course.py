"""Courses that are differentiated backwards: the same whatever is kept, in the memory stated."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.inference.course import course, lengths_of
from lattice.inference.relaxation import relaxation
from lattice.model import load
from tests.cli.tiny import ROOT

CULTURE = ROOT / "configs/fits/efferocytosis/model.toml"
STEPS = 11


def rows(rate, lengths: tuple[int, ...]):
    """Two quantities that grow and are pulsed, after each of eleven steps."""

    def step(state, due):
        x = state["x"] + rate * state["x"] * (1 - state["x"])
        return {"x": jnp.where(due[0], 0.5 * x, x)}

    due = jnp.asarray(np.arange(STEPS)[:, None] % 4 == 2)
    start = {"x": jnp.array([0.1, 0.3])}
    return course(step, start, due, lambda state: state["x"], lengths)[: STEPS + 1]


@pytest.mark.parametrize("lengths", [(4, 3), (2, 6), (11, 1), (2, 2, 3)])
def test_blocks_change_neither_rows_nor_derivatives(lengths):
    expected = rows(jnp.float32(0.2), (STEPS,))
    assert expected.shape == (STEPS + 1, 2)
    np.testing.assert_array_equal(rows(jnp.float32(0.2), lengths), expected)
    slope, other = (
        jax.jacrev(lambda r, kept=kept: rows(r, kept))(jnp.float32(0.2))
        for kept in ((STEPS,), lengths)
    )
    np.testing.assert_allclose(other, slope, rtol=1e-6)


def test_the_fewest_levels_that_fit_are_taken():
    # A step keeps 10 MB, the beginning of a block 1 MB.
    state, step = 10**6, 10**7
    assert lengths_of(100, state, step, 1.0) == (100,)
    blocks, steps = lengths_of(100, state, step, 0.2)
    assert blocks * steps >= 100
    assert blocks * state + steps * step <= 0.2e9
    deep = lengths_of(500, state, step, 0.06)
    assert len(deep) == 3
    assert np.prod(deep) >= 500
    assert state * sum(deep[:-1]) + step * deep[-1] <= 0.06e9
    # Nothing fits: what keeps least.
    assert lengths_of(500, state, step, 0.001)[-1] == 1


def backwards(memory: float):
    """A derivative of a hundred steps of the culture, as compiled within some memory (GB)."""
    model = load(CULTURE, overrides=["lattice.shape=[8,8,8]"])
    function = relaxation(model, ["osteoblast"], [100.0], memory=memory)
    slope = jax.value_and_grad(lambda rate: function({"rule.engulf.rate": rate})[0, 0])
    rate = jnp.float32(model.values["rule.engulf.rate"])
    return jax.jit(slope).lower(rate).compile(), rate


def test_a_derivative_keeps_to_its_memory():
    plenty, little = 1.0, 3e-3
    found = {}
    for memory in (plenty, little):
        program, rate = backwards(memory)
        account = program.memory_analysis()
        assert account is not None
        found[memory] = account.temp_size_in_bytes, program(rate)
    (most, wide), (least, narrow) = found[plenty], found[little]
    # What one step takes while it is worked on comes on top of what is kept.
    assert least < 1.5 * little * 1e9 < most
    np.testing.assert_allclose(narrow, wide, rtol=1e-5)


@pytest.mark.full
def test_bone_of_two_million_voxels_is_differentiated_within_twelve_gigabytes():
    """Five hundred steps of the adult bone model at 128^3, by the compiler's account."""
    model = load(ROOT / "configs/adult.toml", overrides=["lattice.shape=[128,128,128]"])
    assert len(model.states) >= 14
    function = relaxation(model, ["BV/TV"], [500 * model.time.step])
    slope = jax.value_and_grad(lambda rate: function({"rule.engulf.rate": rate})[0, 0])
    account = jax.jit(slope).lower(jnp.float32(0.1)).compile().memory_analysis()
    assert account is not None
    assert account.temp_size_in_bytes < 12e9
