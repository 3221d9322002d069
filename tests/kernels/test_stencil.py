"""The rounding of products: their bits and their derivatives stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.kernels.fusion import always
from lattice.kernels.stencil import rounded, unknown_zero


def product(a, b):
    return rounded(a * b, unknown_zero(always(a), a.dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rounded_product_keeps_every_bit(dtype):
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -3.7, 1e30]
    with jax.enable_x64(dtype is np.float64):
        a = jnp.asarray(special, dtype).reshape(2, 2, 2)
        found = jax.jit(product)(a, jnp.ones_like(a))
        assert found.dtype == dtype
        np.testing.assert_array_equal(np.asarray(found), np.asarray(a))
        np.testing.assert_array_equal(np.signbit(found), np.signbit(np.asarray(a)))


def test_a_rounded_product_has_the_derivatives_of_a_product():
    a, b = (jnp.asarray(np.random.default_rng(k).random((2, 3, 4)), jnp.float32) for k in (0, 1))
    backward = jax.grad(lambda a, b: jnp.sum(product(a, b) ** 2), argnums=(0, 1))(a, b)
    np.testing.assert_allclose(backward[0], 2 * a * b * b, rtol=1e-6)
    np.testing.assert_allclose(backward[1], 2 * a * a * b, rtol=1e-6)
    _, forward = jax.jvp(product, (a, b), (b, a))
    np.testing.assert_allclose(forward, a * a + b * b, rtol=1e-6)
