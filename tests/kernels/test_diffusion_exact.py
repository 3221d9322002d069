"""The exact path against analytic modes and a dense matrix exponential."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from lattice.kernels.diffusion_exact import build_basis, step_exact
from tests.kernels.reference import diffusion_matrix

SHAPE = (5, 4, 3)
DIFFUSION = np.array([100.0, 10.0]) * 3600
DECAY = np.array([2.0, 0.0])


def f32(a):
    return jnp.asarray(a, jnp.float32)


@pytest.mark.parametrize("periodic", [(False, False, False), (True, False, True)])
def test_agrees_with_the_matrix_exponential(periodic):
    rng = np.random.default_rng(0)
    u, source = rng.random((*SHAPE, 2)), rng.random((*SHAPE, 2))
    basis = build_basis(SHAPE, periodic=periodic)
    new, budget = step_exact(
        f32(u), f32(source), basis, f32(DIFFUSION), f32(DECAY), 0.01, voxel=10.0
    )
    laplace = diffusion_matrix(np.zeros(SHAPE), 1.0, periodic)
    n = laplace.shape[0]
    for s in range(2):
        system = np.zeros((n + 1, n + 1))
        system[:n, :n] = -DIFFUSION[s] * laplace - DECAY[s] * np.eye(n)
        system[:n, n] = source[..., s].ravel()
        exact = (expm(system * 0.01) @ np.append(u[..., s].ravel(), 1))[:n]
        np.testing.assert_allclose(np.asarray(new)[..., s].ravel(), exact, rtol=3e-6)
    change = np.asarray(new, float).sum((0, 1, 2)) - u.sum((0, 1, 2))
    closed = np.asarray(budget.produced) - np.asarray(budget.decayed)
    np.testing.assert_allclose(change, closed, atol=3e-5)


def test_a_cosine_decays_at_its_own_rate():
    n, wave, dt = 37, 3, 0.02
    mode = np.cos(np.pi * wave * (np.arange(n) + 0.5) / n)
    u = np.broadcast_to((1 + 0.5 * mode)[None, None, :, None], (1, 2, n, 1))
    rate = 3600.0 * 4 * np.sin(np.pi * wave / (2 * n)) ** 2 + 0.7
    new, _ = step_exact(
        f32(u),
        jnp.zeros(u.shape, jnp.float32),
        build_basis((1, 2, n)),
        f32([3600.0 * 100]),
        f32([0.7]),
        dt,
        voxel=10.0,
    )
    exact = np.exp(-0.7 * dt) + 0.5 * np.exp(-rate * dt) * mode
    np.testing.assert_allclose(np.asarray(new)[0, 1, :, 0], exact, rtol=2e-6)


def test_nothing_stays_nothing():
    zero = jnp.zeros((3, 1, 5, 2), jnp.float32)
    new, _ = step_exact(
        zero, zero, build_basis((3, 1, 5)), f32(DIFFUSION), f32(DECAY), 0.5, voxel=10.0
    )
    assert not np.asarray(new).any()
