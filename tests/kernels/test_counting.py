"""Counts of bytes against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from lattice.kernels.counting import count_values


@pytest.mark.parametrize("shape", [(1,), (127,), (128,), (5, 7, 11), (40, 30, 20)])
def test_counts_are_those_of_numpy(shape):
    values = np.random.default_rng(1).integers(0, 9, shape).astype(np.uint8)
    found = count_values(jnp.asarray(values), (0, 3, 8, 255))
    assert found.tolist() == [int((values == v).sum()) for v in (0, 3, 8, 255)]


def test_a_block_of_one_value_does_not_overflow():
    assert count_values(jnp.full((1024, 3), 7, jnp.uint8), (7, 0)).tolist() == [3072, 0]
