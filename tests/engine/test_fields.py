"""What cells exchange with a compartment, summed over a large lattice."""

import jax.numpy as jnp
import numpy as np
import pytest

from lattice.engine.fields import EXCHANGE_ONE, sum_in_limbs


@pytest.mark.parametrize(("count", "factor"), [(3, 1), (600_000, EXCHANGE_ONE - 1), (600_001, 3e4)])
def test_factors_of_very_many_cells_do_not_overflow(count, factor):
    """From 2**31 / EXCHANGE_ONE = 524 288 cells on, one 32-bit sum of the factors would."""
    fixed = np.full(count, factor, np.int32)
    parts, wholes = sum_in_limbs(jnp.asarray(fixed))
    assert 0 <= int(parts) < EXCHANGE_ONE
    assert int(wholes) * EXCHANGE_ONE + int(parts) == int(fixed.sum(dtype=np.int64))
