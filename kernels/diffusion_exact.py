"""Steps that are exact in time where diffusion is the same in every voxel.

    du/dt = D laplace u - decay u + source,

with the seven-point Laplacian on cubic voxels and no-flux or periodic ends. Its eigenvectors are
products of one-dimensional ones: cosines (the type-II DCT) for no-flux, sines and cosines for
periodic ends. A step multiplies each mode by exp(-rate dt) and adds its part of the source, which
is constant over the step. The only error is that of the stencil in space (second order).

The transform is a product with a dense matrix along each axis, for any extent.

Source: Strang, SIAM Review 41 (1999) 135 for the DCT-II as eigenvectors of no-flux ends.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from lattice.kernels.budget import FieldBudget, rescaled
from lattice.kernels.fusion import always, boundary
from lattice.kernels.halo import WHOLE, Blocks, gather, own
from lattice.kernels.ordered_sum import sum_lattice
from lattice.kernels.time_scheme import mean_decay


class Basis(NamedTuple):
    """Orthonormal eigenvectors of minus the second difference along z, y and x, as columns, and
    their eigenvalues (per voxel squared)."""

    vectors: tuple[Float[Array, "Z Z"], Float[Array, "Y Y"], Float[Array, "X X"]]
    values: tuple[Float[Array, "Z"], Float[Array, "Y"], Float[Array, "X"]]


def no_flux_modes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [position, mode] and eigenvalues, in float64."""
    mode = np.arange(n)
    vectors = np.cos(np.pi * (np.arange(n)[:, None] + 0.5) * mode / n) * np.sqrt(2 / n)
    vectors[:, 0] = np.sqrt(1 / n)
    return vectors, 4 * np.sin(np.pi * mode / (2 * n)) ** 2


def periodic_modes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [position, mode] and eigenvalues, in float64."""
    if n == 1:
        return np.ones((1, 1)), np.zeros(1)
    wave = (np.arange(n) + 1) // 2  # 0, 1, 1, 2, 2, ...
    angle = 2 * np.pi * np.arange(n)[:, None] * wave / n
    vectors = np.where(np.arange(n) % 2 == 1, np.cos(angle), np.sin(angle)) * np.sqrt(2 / n)
    vectors[:, 0] = np.sqrt(1 / n)
    if n % 2 == 0:
        vectors[:, -1] = np.cos(angle[:, -1]) * np.sqrt(1 / n)
    return vectors, 4 * np.sin(np.pi * wave / n) ** 2


def build_basis(
    shape: tuple[int, int, int],
    *,
    periodic: tuple[bool, bool, bool] = (False, False, False),
    dtype=jnp.float32,
) -> Basis:
    """The eigenvectors of a whole lattice of extents z, y, x (not of one block)."""
    modes = [
        periodic_modes(n) if wraps else no_flux_modes(n)
        for n, wraps in zip(shape, periodic, strict=True)
    ]
    return Basis(
        tuple(jnp.asarray(v, dtype) for v, _ in modes),
        tuple(jnp.asarray(e, dtype) for _, e in modes),
    )


def transform(a: Float[Array, "Z Y X"], matrices) -> Float[Array, "Z Y X"]:
    """Applies a matrix along each of the three axes, in full float32."""
    exact = lax.Precision.HIGHEST
    z, y, x = matrices
    a = jnp.einsum("ai,ijk->ajk", z, a, precision=exact)
    a = jnp.einsum("bj,ijk->ibk", y, a, precision=exact)
    return jnp.einsum("ck,ijk->ijc", x, a, precision=exact)


def step_exact(
    u: Float[Array, "Z Y X S"],
    source: Float[Array, "Z Y X S"],
    basis: Basis,
    diffusion: Float[Array, "S"],
    decay: Float[Array, "S"],
    dt: Float[Array, ""] | float,
    *,
    voxel: float,
    blocks: Blocks = WHOLE,
) -> tuple[Float[Array, "Z Y X S"], FieldBudget]:
    """One step of length `dt` (hours): as `step_implicit` without bone and sinks.

    `u` and `source` are this device's block; the whole lattice is gathered and transformed on every
    device, so that the bits do not depend on how many there are.
    """
    # As in `step_implicit`: never a constant of the compiler.
    true = always(u)
    t = jnp.where(true, jnp.asarray(dt, u.dtype), 0)
    z, y, x = basis.values
    laplace = z[:, None, None] + y[:, None] + x
    axes = (0, 1, 2)
    whole_u, whole_source = gather(u, blocks, axes), gather(source, blocks, axes)
    # Nor are the matrices: the compiler turns a constant round in memory and then adds in another
    # order, and whether it sees a constant depends on the number of devices.
    vectors = tuple(jnp.where(true, v, 0) for v in basis.vectors)
    forward = tuple(v.T for v in vectors)

    def changed(u, source, d, k, t):
        rate = d / voxel**2 * laplace + k
        # The change alone is transformed: a rounding error of the transform then scales with it.
        push = transform(source, forward) - rate * transform(u, forward)
        return transform(t * mean_decay(rate * t) * push, vectors)

    def summed(before, made, k, t):
        lost, weight = -jnp.expm1(-k * t), t * mean_decay(k * t)
        return (1 - lost) * before + weight * made, lost * before + (t - weight) * made

    # Species by species, each in a unit of its own: in one loop over all of them the compiler
    # rounds by their number, and one that nothing touches would change the bits of the others.
    before, made = sum_lattice(u, blocks), sum_lattice(source, blocks)
    change, after, loss = [], [], []
    for s in range(u.shape[-1]):
        mine = (whole_u[..., s], whole_source[..., s], diffusion[s], decay[s], t)
        change.append(boundary(true, changed, *mine))
        end, lost = boundary(true, summed, before[s], made[s], decay[s], t)
        after.append(end)
        loss.append(lost)
    new = jnp.maximum(u + own(jnp.stack(change, axis=-1), blocks, axes), 0)
    new = new * rescaled(jnp.stack(after), sum_lattice(new, blocks))
    return new, FieldBudget(t * made, jnp.stack(loss), jnp.zeros_like(made))
