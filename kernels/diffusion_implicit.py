"""Implicit steps of diffusion, decay, sources and sinks where diffusion differs by voxel.

    du/dt = div(D f grad u) - (decay + sink) u + source,

on cubic voxels with the seven-point stencil (second order in space), f = 1 outside bone and
`in_bone` inside, harmonic means on faces (Patankar, Numerical Heat Transfer (1980), section
4.2-3), no-flux or periodic ends.

With e = exp(-decay t) and w = (1 - e) / (decay t), the one-pole step of length t is

    (1 + w t (sink - div D f grad)) u1 = e u0 + w t source.

It is positive. The two- and three-pole steps solve with one such matrix two or three times and are
four and twelve times more accurate at steps at which sources change (`time_scheme`). All are exact
for uniform fields without sinks and at steady states, and first order in time otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from lattice.kernels import conjugate_gradient, multigrid, time_scheme
from lattice.kernels.budget import FieldBudget, rescaled, share
from lattice.kernels.conjugate_gradient import Residual, ratio
from lattice.kernels.fusion import always, boundary, cut
from lattice.kernels.halo import WHOLE, Blocks
from lattice.kernels.multigrid import Operator
from lattice.kernels.multigrid_levels import Hierarchy
from lattice.kernels.ordered_sum import sum_rows
from lattice.kernels.stencil import Grid
from lattice.kernels.time_scheme import Poles, mean_decay

SOLUTION = "solution of a field solve"
"""Its name for policies of `jax.checkpoint`."""

FEW_ITERATIONS = 4
"""Up to so many iterations are written out one by one, which is faster to run."""


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
    blocks: Blocks = WHOLE,
    look: Bool[Array, ""] | None = None,
) -> tuple[Float[Array, "Z Y X S"], FieldBudget, Residual | None]:
    """One step of length `dt` (hours) of fields `u` (concentration).

    `source` (concentration/hour) and `sink` (1/hour) are constant over the step and not negative;
    `diffusion` is in um^2/hour outside bone, `decay` in 1/hour, `voxel` in um; `periodic` is for
    z, y, x. `iterations` of conjugate gradients replace the scheme's own number for each solve
    (gradients need about 12). Concentrations stay >= 0 and the sum over the lattice is exactly
    that of the scheme, whatever the solver leaves; where `look` is true, the third result tells
    what the first solve left of its residual. Raises ValueError for an unknown scheme.
    """
    method = time_scheme.scheme_of(scheme)
    shape = u.shape
    grid = Grid(periodic, shape[3], blocks)
    flat = (shape[0], shape[1], -1)
    rows, source = u.reshape(flat), source.reshape(flat)
    sink = None if sink is None else sink.reshape(flat)
    # The sum of the sources is a unit of its own, so that nothing later reads `u` or `source` again
    # for the sake of `true`: XLA would keep a copy of either until then.
    made = sum_rows(always(u), source, grid.species, blocks)
    true = always(made)
    # Not a constant even if dt is one: exponentials folded at compile time round differently.
    t = jnp.where(true, jnp.asarray(dt, u.dtype) / method.substeps, 0)

    def coefficients(decay, t):
        poles = None if method.poles is None else method.poles(decay * t)
        weight = t * implicit_part(poles, decay * t)
        return weight, -jnp.expm1(-decay * t), t * mean_decay(decay * t), poles

    # Small arithmetic is a unit of its own as well: fused into what uses it, its rounding would
    # depend on the number of devices.
    weight, lost, gained, poles = boundary(true, coefficients, decay, t)
    levels = multigrid.operators(
        hierarchy,
        diffusion * weight / voxel**2,
        None if sink is None else sink * jnp.tile(weight, shape[2]),
        true,
        grid,
    )
    counts = method.iterations if iterations is None else (iterations,) * len(method.iterations)
    zero = jnp.zeros_like(made)
    total = FieldBudget(zero, zero, zero)
    before = sum_rows(true, rows, grid.species, blocks)
    step = Step(levels, decay, t, weight, lost, gained, counts, poles, look)
    advance = one_pole if poles is None else several_poles
    residual = None
    for _ in range(method.substeps):
        rows, before, part, residual = advance(step, rows, before, source, made)
        total = FieldBudget(*(a + b for a, b in zip(total, part, strict=True)))
    return rows.reshape(shape), total, residual


@dataclass(frozen=True)
class Step:
    """What the parts of one step share; built and used within one trace. `weight` is the time
    that stands before B in `levels`, whose sink is times `weight` already; a uniform field loses
    the part `lost` of itself and gains `gained` times the source."""

    levels: list[Operator]
    decay: Float[Array, "S"]
    t: Float[Array, ""]
    weight: Float[Array, "S"]
    lost: Float[Array, "S"]
    gained: Float[Array, "S"]
    iterations: tuple[int, ...]
    poles: Poles | None
    look: Bool[Array, ""] | None

    def run(self, function, *arguments):
        """As a unit of its own for the compiler."""
        return boundary(self.levels[0].true, function, *arguments)

    def line(self, values: Float[Array, "S"], rows: Array) -> Float[Array, "XS"]:
        """One value for each species, along a row."""
        return jnp.tile(values, rows.shape[2] // values.shape[0])

    def sum(self, rows: Float[Array, "Z Y XS"], times=None) -> Float[Array, "S"]:
        """The sum over the lattice, of rows or of rows * times."""
        fine = self.levels[0]
        return sum_rows(fine.true, rows, fine.grid.species, fine.grid.blocks, times=times)

    def uptake(self, rows: Float[Array, "Z Y XS"]) -> Float[Array, "S"]:
        """The sum of sink * rows over the lattice, per hour; 0 without sinks."""
        sink = self.levels[0].sink
        if sink is None:
            return jnp.zeros_like(self.weight)
        return ratio(self.sum(sink, rows), self.weight)

    def solve(
        self, r: Float[Array, "Z Y XS"], iterations: int, look: Bool[Array, ""] | None = None
    ) -> tuple[Float[Array, "Z Y XS"], Residual | None]:
        """x with (1 + weight B) x = r, and what is left of the residual (see
        `conjugate_gradient.solve`); derivatives are those of the exact solution."""
        fine = self.levels[0]

        def solver(apply, r):
            def precondition(r):
                return multigrid.cycle(self.levels, r)

            chosen = conjugate_gradient.solve
            if iterations > FEW_ITERATIONS:
                chosen = conjugate_gradient.solve_in_loop
            # Derivatives are those of the solution, whatever the iterations are made of.
            with cut():
                return chosen(apply, precondition, r, iterations, fine.true, fine.grid, look)

        x, left = lax.custom_linear_solve(fine.apply, r, solver, symmetric=True, has_aux=True)
        return checkpoint_name(x, SOLUTION), left

    def solve_near(self, r: Float[Array, "Z Y XS"], iterations: int) -> Float[Array, "Z Y XS"]:
        """As `solve`, for an `r` that a solve has smoothed already: x is close to it, and only the
        difference is left to the iterations."""
        difference, _ = self.solve(self.levels[0].residual(r, r), iterations)
        return self.run(lambda r, d: r + d, r, difference)

    def close(self, rows, before, made, wanted, uptake):
        """Clips at 0, gives the field the wanted sum, and makes up the budget.

        `uptake` is per hour and belongs to the mean over the step."""
        found = self.sum(rows)
        scale = rescaled(wanted, found)
        new = self.run(lambda u, s: u * self.line(s, u), rows, scale)
        produced = self.t * made
        if self.levels[0].sink is None:
            decayed = self.run(
                lambda u, s: self.lost * u + (self.t - self.gained) * s, before, made
            )
            return new, wanted, FieldBudget(produced, decayed, jnp.zeros_like(made))
        loss = produced - (wanted - before)
        part = share(uptake, self.decay * (before + wanted) / 2)
        return new, wanted, FieldBudget(produced, (1 - part) * loss, part * loss)


def implicit_part(poles: Poles | None, x: Float[Array, "S"]) -> Float[Array, "S"]:
    """The factor of t B in the matrix that is solved with; x = decay t."""
    return mean_decay(x) if poles is None else poles.pole / (1 + poles.pole * x)


def uniform_sum(step: Step, before: Float[Array, "S"], made: Float[Array, "S"]):
    """The sum after a step without sinks."""
    return step.run(lambda u, s: (1 - step.lost) * u + step.gained * s, before, made)


def one_pole(step: Step, rows, before, source, made):
    """The positive step: new rows, their sum, the budget and the residual of the first solve;
    `before` and `made` are the sums of `rows` and `source`."""
    weight, lost = step.line(step.weight, rows), step.line(step.lost, rows)
    # The new field does not depend on where the solve starts: what it owes to that cancels in every
    # derivative, and the product with the matrix need not be transposed.
    start = lax.stop_gradient(rows)
    image = step.levels[0].apply(start)
    r = step.run(lambda u, s, a: ((u - a) - lost * u) + weight * s, rows, source, image)
    change, residual = step.solve(r, step.iterations[0], step.look)
    new = step.run(lambda u, d: jnp.maximum(u + d, 0), start, change)
    end = step.uptake(new)
    wanted = uniform_sum(step, before, made)
    wanted = step.run(lambda w, end: jnp.maximum(w - step.weight * end, 0), wanted, end)
    return *step.close(new, before, made, wanted, (step.uptake(rows) + end) / 2), residual


def several_poles(step: Step, rows, before, source, made):
    """As `one_pole`, by the recursion of `time_scheme.Poles`."""
    pole, parts = step.poles
    shrink = step.run(lambda p: 1 / (1 + p * step.decay * step.t), pole)
    image = step.levels[0].apply(rows)
    inverse = ratio(jnp.ones_like(pole), step.weight)
    start = step.uptake(rows)
    total = step.run(lambda s, u, end: step.t * (s - step.decay * u - end), made, before, start)

    def push(u, s, a):
        # B u = (image - u) / weight, since the matrix has a 1 on its diagonal beside weight * B.
        # One product for each addition, as in the stencil.
        rate = (s - step.line(step.decay, u) * u) - step.line(inverse, u) * (a - u)
        return step.line(step.t * shrink, u) * rate

    x = step.run(push, rows, source, image)
    new, wanted, residual = rows, before, None
    for number, (part, count) in enumerate(zip(parts, step.iterations, strict=True)):
        if number:
            x = step.run(lambda x: step.line(shrink, x) * x, x)
        if number == 0:
            x, residual = step.solve(x, count, step.look)
        else:
            x = step.solve_near(x, count)
        total = step.run(lambda s, end: shrink * s - step.weight * end, total, step.uptake(x))
        wanted = step.run(lambda w, s, f: w + f * s, wanted, total, pole * part)
        new = step.run(lambda u, f, x: u + step.line(f, u) * x, new, pole * part, x)
    new = step.run(lambda u: jnp.maximum(u, 0), new)
    if step.levels[0].sink is None:
        wanted = uniform_sum(step, before, made)
    wanted = jnp.clip(wanted, 0, before + step.t * made)
    return *step.close(new, before, made, wanted, (start + step.uptake(new)) / 2), residual
