"""Conjugate gradients with a preconditioner and a fixed number of iterations.

One independent system for each species, advanced together. Scalar products are summed in a fixed
order, so the bits do not depend on the number of devices.

Source: Hestenes & Stiefel, J. Res. NBS 49 (1952) 409; Saad, Iterative Methods (2003), alg. 9.1.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lattice.kernels.fusion import always, boundary
from lattice.kernels.ordered_sum import sum_rows
from lattice.kernels.stencil import Grid

Rows = Float[Array, "Z Y XS"]


def ratio(a: Float[Array, "S"], b: Float[Array, "S"]) -> Float[Array, "S"]:
    """a / b, and 0 where b is 0: a system that is solved already stays as it is."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def solve(
    apply: Callable[[Rows], Rows],
    precondition: Callable[[Rows], Rows],
    r: Rows,
    iterations: int,
    true: Array,
    grid: Grid,
) -> Rows:
    """An approximate u with A u = r, from u = 0, after at least one iteration."""
    width = r.shape[2] // grid.species

    def dot(a: Rows, b: Rows) -> Float[Array, "S"]:
        return sum_rows(true, a, grid.species, grid.slabs, times=b)

    def add(a: Rows, scale: Float[Array, "S"], b: Rows) -> Rows:
        return boundary(true, lambda a, s, b: a + jnp.tile(s, width) * b, a, scale, b)

    def advanced(u: Rows | None, scale: Float[Array, "S"], b: Rows, when: Array) -> Rows:
        if u is None:
            return boundary(when, lambda s, b: jnp.tile(s, width) * b, scale, b)
        return boundary(when, lambda a, s, b: a + jnp.tile(s, width) * b, u, scale, b)

    u, direction, old = None, None, None
    for iteration in range(iterations):
        z = precondition(r)
        new = dot(r, z)
        if direction is None:
            direction = z
        else:
            # Not before the cycle is done, which needs most memory: the first part of u is a
            # multiple of the direction, and two iterations then never hold both.
            u = advanced(u, step, direction, true & always(new))
            direction = add(z, ratio(new, old), direction)
        image = apply(direction)
        step = ratio(new, dot(direction, image))
        if iteration + 1 < iterations:
            r = add(r, -step, image)
        old = new
    return advanced(u, step, direction, true)


def solve_in_loop(
    apply: Callable[[Rows], Rows],
    precondition: Callable[[Rows], Rows],
    r: Rows,
    iterations: int,
    true: Array,
    grid: Grid,
) -> Rows:
    """As `solve`, one iteration compiled for all: for the many that exact derivatives need."""
    width = r.shape[2] // grid.species

    def dot(a: Rows, b: Rows) -> Float[Array, "S"]:
        return sum_rows(true, a, grid.species, grid.slabs, times=b)

    def iterate(_, carry):
        u, r, direction, old = carry
        z = precondition(r)
        new = dot(r, z)
        direction = z + jnp.tile(ratio(new, old), width) * direction
        image = apply(direction)
        step = jnp.tile(ratio(new, dot(direction, image)), width)
        return u + step * direction, r - step * image, direction, new

    zero = jnp.zeros_like(r)
    nothing = jnp.zeros(grid.species, r.dtype)
    return lax.fori_loop(0, iterations, iterate, (zero, r, zero, nothing))[0]
