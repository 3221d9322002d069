"""Compaction against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lattice.kernels.compaction import compact, pack_bits, select_bit

compact_jit = jax.jit(compact, static_argnums=1)


def expected(mask: np.ndarray, capacity: int) -> np.ndarray:
    found = np.flatnonzero(mask)[:capacity]
    return np.append(found, np.full(capacity - len(found), mask.size)).astype(np.int32)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1000, 61 * 97 * 13])
@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("capacity", [1, 64, 5000])
def test_indices_and_count_are_those_of_numpy(size, fraction, capacity):
    mask = np.random.default_rng(size).random(size) < fraction
    indices, count = compact_jit(jnp.asarray(mask), capacity)
    assert int(count) == mask.sum()
    np.testing.assert_array_equal(indices, expected(mask, capacity))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 299), max_size=300), st.sampled_from([1, 7, 100, 400]))
def test_any_pattern(places, capacity):
    mask = np.zeros(300, bool)
    mask[places] = True
    indices, count = compact_jit(jnp.asarray(mask), capacity)
    assert int(count) == mask.sum()
    np.testing.assert_array_equal(indices, expected(mask, capacity))


def test_long_runs_of_empty_words():
    mask = np.zeros(1 << 20, bool)
    mask[[0, 31, 32, 500_000, 500_001, (1 << 20) - 1]] = True
    indices, count = compact_jit(jnp.asarray(mask), 8)
    assert int(count) == 6
    np.testing.assert_array_equal(indices, expected(mask, 8))


def test_pack_bits_puts_entry_i_in_bit_i():
    mask = np.random.default_rng(0).random(100) < 0.4
    words = np.asarray(pack_bits(jnp.asarray(mask)))
    bits = words[np.arange(100) // 32] >> (np.arange(100) % 32) & 1
    np.testing.assert_array_equal(bits, mask)


def test_select_bit_finds_every_set_bit():
    word = 0x80F0_0103
    places = [i for i in range(32) if word >> i & 1]
    ranks = jnp.arange(len(places), dtype=jnp.int32)
    found = select_bit(jnp.full(len(places), word, jnp.uint32), ranks)
    np.testing.assert_array_equal(found, places)
