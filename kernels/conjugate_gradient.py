"""Conjugate gradients with a preconditioner and a fixed number of iterations.

One independent system for each species, advanced together. Scalar products are summed in a fixed
order, so the bits do not depend on the number of devices.

Source: Hestenes & Stiefel, J. Res. NBS 49 (1952) 409; Saad, Iterative Methods (2003), alg. 9.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from lattice.kernels.fusion import always, boundary, stored
from lattice.kernels.ordered_sum import sum_rows
from lattice.kernels.stencil import Grid

Rows = Float[Array, "Z Y XS"]


EVERY = 4
"""The residual at the end is measured on every fourth plane: to keep all of it until then would
take the memory of a field."""


class Residual(NamedTuple):
    """What a solve has left of its residual, of each species on this block: sums of squares at the
    start and at the end, the latter from every fourth plane, and there the largest value at the end
    and its voxel (flat index in the block); and the sum of squares of the solution."""

    start: Float[Array, "S"]
    left: Float[Array, "S"]
    worst: Float[Array, "S"]
    place: Int32[Array, "S"]
    solution: Float[Array, "S"]


def no_residual(species: int) -> Residual:
    """That of a solve at which nobody looks."""
    zero = jnp.zeros(species, jnp.float32)
    return Residual(zero, zero, zero, jnp.zeros(species, jnp.int32), zero)


def squares(rows: Rows, look: Bool[Array, ""] | None, grid: Grid) -> Float[Array, "S"] | None:
    """The sum of squares over this block where `look` is true, else 0 (None: nobody asks). Added up
    in any order: no step may read it."""
    if look is None:
        return None

    kept = stored(rows)

    def summed():
        lines = jnp.sum(kept * kept, axis=(0, 1))
        return jnp.sum(lines.reshape(-1, grid.species), axis=0)

    return lax.cond(look, summed, lambda: jnp.zeros(grid.species, rows.dtype))


def looked_at(
    start: Float[Array, "S"] | None,
    last: Callable[[Int32[Array, ""]], Float[Array, "Y XS"]],
    planes: int,
    look: Bool[Array, ""] | None,
    grid: Grid,
) -> Residual | None:
    """The residual of a solve that started with these sums of squares, where `look` is true.

    `last` gives one of its `planes` by number: one at a time, they take no memory."""
    looked = -(-planes // EVERY)
    if look is None or start is None:
        return None

    def add_plane(k: Int32[Array, ""], found: Residual) -> Residual:
        z = EVERY * k
        a = jnp.abs(last(z).reshape(-1, grid.species))
        largest, place = jnp.max(a, axis=0), jnp.argmax(a, axis=0).astype(jnp.int32)
        place = jnp.where(largest > found.worst, z * a.shape[0] + place, found.place)
        left = found.left + jnp.sum(a * a, axis=0) * (planes / looked)
        return found._replace(left=left, worst=jnp.maximum(largest, found.worst), place=place)

    nothing = no_residual(grid.species)

    def measured() -> Residual:
        return lax.fori_loop(0, looked, add_plane, nothing._replace(start=start))

    return lax.cond(look, measured, lambda: nothing)


def with_solution(
    residual: Residual | None, u: Rows, look: Bool[Array, ""] | None, grid: Grid
) -> Residual | None:
    """The same with the sum of squares of the solution."""
    found = squares(u, look, grid)
    return None if residual is None or found is None else residual._replace(solution=found)


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
    look: Bool[Array, ""] | None = None,
) -> tuple[Rows, Residual | None]:
    """An approximate u with A u = r, from u = 0, after at least one iteration, and what is left of
    the residual where `look` is true (None: nobody asks)."""
    start = squares(r, look, grid)
    width = r.shape[2] // grid.species

    def dot(a: Rows, b: Rows) -> Float[Array, "S"]:
        return sum_rows(true, a, grid.species, grid.blocks, times=b)

    def add(a: Rows, scale: Float[Array, "S"], b: Rows, when: Array = true) -> Rows:
        return boundary(when, lambda a, s, b: a + jnp.tile(s, width) * b, a, scale, b)

    def advanced(u: Rows | None, scale: Float[Array, "S"], b: Rows, when: Array) -> Rows:
        if u is None:
            return boundary(when, lambda s, b: jnp.tile(s, width) * b, scale, b)
        return boundary(when, lambda a, s, b: a + jnp.tile(s, width) * b, u, scale, b)

    u, direction, old, kept = None, None, None, r
    for iteration in range(iterations):
        z = precondition(r)
        new = dot(r, z)
        if direction is None:
            direction = z
        else:
            # Not before the cycle is done, which needs most memory: the first part of u is a
            # multiple of the direction, and two iterations then never hold both.
            previous, when = direction, true
            if start is not None:
                kept = boundary(true, lambda r: r[::EVERY], r)
                when = true & always(kept)  # so r itself is done with
            direction = add(z, ratio(new, old), previous, when)
            u = advanced(u, step, previous, true & always(direction))
        image = apply(direction)
        step = ratio(new, dot(direction, image))
        if iteration + 1 < iterations:
            # The first r is done with: nothing measures it later.
            r = add(r, -step, image, true if start is None else true & always(start))
        old = new

    def last(z: Int32[Array, ""]) -> Float[Array, "Y XS"]:
        before = r[z] if iterations == 1 else kept[z // EVERY]
        return before - jnp.tile(step, width) * image[z]

    residual = looked_at(start, last, r.shape[0], look, grid)
    # Not before r and its image are done with.
    done = true if residual is None else true & always(residual.left)
    u = advanced(u, step, direction, done)
    return u, with_solution(residual, u, look, grid)


def solve_in_loop(
    apply: Callable[[Rows], Rows],
    precondition: Callable[[Rows], Rows],
    r: Rows,
    iterations: int,
    true: Array,
    grid: Grid,
    look: Bool[Array, ""] | None = None,
) -> tuple[Rows, Residual | None]:
    """As `solve`, one iteration compiled for all: for the many that exact derivatives need."""
    start = squares(r, look, grid)
    width = r.shape[2] // grid.species

    def dot(a: Rows, b: Rows) -> Float[Array, "S"]:
        return sum_rows(true, a, grid.species, grid.blocks, times=b)

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
    u, last, _, _ = lax.fori_loop(0, iterations, iterate, (zero, r, zero, nothing))
    residual = looked_at(start, lambda z: last[z], last.shape[0], look, grid)
    return u, with_solution(residual, u, look, grid)
