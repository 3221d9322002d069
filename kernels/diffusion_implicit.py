"""Implicit steps of diffusion, decay, sources and sinks where diffusion differs by voxel.

    du/dt = div(D f grad u) - (decay + sink) u + source,

on cubic voxels with the seven-point stencil (second order in space), f = 1 outside bone and
`in_bone` inside, harmonic means on faces (Patankar, Numerical Heat Transfer (1980), section
4.2-3), no-flux or periodic ends.

With e = exp(-decay t) and w = (1 - e) / (decay t), the one-pole step of length t is

    (1 + w t (sink - div D f grad)) u1 = e u0 + w t source.

It is positive, exact for uniform fields and for steady states, first order in time otherwise.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lattice.kernels import conjugate_gradient, multigrid, time_scheme
from lattice.kernels.budget import FieldBudget, rescaled, share
from lattice.kernels.fusion import always, boundary
from lattice.kernels.halo import WHOLE, Slabs
from lattice.kernels.multigrid import Hierarchy
from lattice.kernels.ordered_sum import sum_rows
from lattice.kernels.stencil import Grid


def step_implicit(
    u: Float[Array, "Z Y X S"],
    source: Float[Array, "Z Y X S"],
    sink: Float[Array, "Z Y X S"] | None,
    hierarchy: Hierarchy,
    diffusion: Float[Array, "S"],
    decay: Float[Array, "S"],
    dt: Float[Array, ""] | float,
    *,
    voxel: float,
    scheme: str = "auto",
    iterations: int | None = None,
    periodic: tuple[bool, bool, bool] = (False, False, False),
    slabs: Slabs = WHOLE,
) -> tuple[Float[Array, "Z Y X S"], FieldBudget]:
    """One step of length `dt` (hours) of fields `u` (concentration).

    `source` (concentration/hour) and `sink` (1/hour) are constant over the step and not negative;
    `diffusion` is in um^2/hour outside bone, `decay` in 1/hour, `voxel` in um; `periodic` is for
    z, y, x. `iterations` of conjugate gradients replace the scheme's own number for each solve
    (gradients need about 12). Concentrations stay >= 0 and the sum over the lattice is exactly
    that of the scheme, whatever the solver leaves. Raises ValueError for an unknown scheme.
    """
    method = time_scheme.scheme_of(scheme)
    shape = u.shape
    grid = Grid(periodic, shape[3], slabs)
    flat = (shape[0], shape[1], -1)
    rows, source = u.reshape(flat), source.reshape(flat)
    sink = None if sink is None else sink.reshape(flat)
    true = always(u)
    t = jnp.asarray(dt, u.dtype) / method.substeps
    weight = t * time_scheme.mean_decay(decay * t)
    levels = multigrid.operators(
        hierarchy,
        diffusion * weight / voxel**2,
        None if sink is None else sink * jnp.tile(weight, shape[2]),
        true,
        grid,
    )
    count = method.iterations[0] if iterations is None else iterations
    made = sum_rows(source, grid.species, slabs)
    zero = jnp.zeros_like(made)
    total = FieldBudget(zero, zero, zero)
    before = sum_rows(rows, grid.species, slabs)
    for _ in range(method.substeps):
        rows, before, part = one_pole(
            rows, before, source, made, sink, levels, decay, t, count, grid, true
        )
        total = FieldBudget(*(a + b for a, b in zip(total, part, strict=True)))
    return rows.reshape(shape), total


def one_pole(rows, before, source, made, sink, levels, decay, t, iterations, grid, true):
    """A step of length `t`: the new rows, their sum and the budget; `before` and `made` are the
    sums of `rows` and `source`."""
    width = rows.shape[2] // grid.species
    weight = t * time_scheme.mean_decay(decay * t)
    lost = -jnp.expm1(-decay * t)
    change = solve_increment(
        levels,
        rows,
        lambda u, s: jnp.tile(weight, width) * s - jnp.tile(lost, width) * u,
        source,
        iterations,
    )
    new = boundary(true, lambda u, d: jnp.maximum(u + d, 0), rows, change)
    uptake = None if sink is None else sum_rows(sink * new, grid.species, grid.slabs)
    after = (1 - lost) * before + weight * made
    if uptake is not None:
        after = jnp.maximum(after - weight * uptake, 0)
    found = sum_rows(new, grid.species, grid.slabs)
    scale = rescaled(after, found)
    new = boundary(true, lambda u, s: u * jnp.tile(s, width), new, scale)
    loss = lost * before + (t - weight) * made
    if uptake is None:
        return new, after, FieldBudget(t * made, loss, jnp.zeros_like(made))
    loss = loss + weight * uptake
    part = share(uptake, decay * found)
    return new, after, FieldBudget(t * made, (1 - part) * loss, part * loss)


def solve_increment(levels, rows, rest, source, iterations):
    """d with A (rows + d) = rows + rest(rows, source): what one solve changes."""
    fine = levels[0]

    def solver(matvec, r):
        return conjugate_gradient.solve(
            matvec, lambda r: multigrid.cycle(levels, r), r, iterations, fine.true, fine.grid
        )

    r = fine.apply(rows)
    r = boundary(fine.true, lambda u, s, a: u + rest(u, s) - a, rows, source, r)
    return lax.custom_linear_solve(fine.apply, r, solver, symmetric=True)
