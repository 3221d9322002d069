"""Geometric multigrid for the screened diffusion operator, used as a preconditioner.

On the levels of `multigrid_levels`, smoothing is by two Jacobi sweeps with Chebyshev weights before
the coarse correction and the same two, reversed, after it, which keeps the cycle symmetric. The
number of levels is small: the term 1 in the operator screens what is coarser.

Source: Briggs, Henson & McCormick, A Multigrid Tutorial (2000), chapters 3 and 8; weights: Golub
& Varga, Numerische Mathematik 3 (1961) 147.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from lattice.kernels.fusion import boundary, stored_beside
from lattice.kernels.halo import gather, own
from lattice.kernels.multigrid_levels import (
    Hierarchy,
    add_blocks,
    coarsenings,
    conductances,
    doubled_lines,
    extents,
    halved,
    restrict,
)
from lattice.kernels.stencil import (
    Conductance,
    Faces,
    Grid,
    alone,
    extended,
    inner,
    joined_axes,
    rounded,
    six_faces,
    subtract_outflow,
    unknown_zero,
    widened,
)

LOWEST_SMOOTHED = 0.4
COARSEST_SWEEPS = 4


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("level", "value", "mass", "sink", "true", "weights"),
    meta_fields=("grid", "gathered"),
)
@dataclass(frozen=True)
class Operator:
    """One level of (c + diffusion) at one step length; built and used within one trace.

    `mass` is the part of each cell that lies inside the lattice (None: all of it); `sink` a
    further diagonal, times `mass` already (None: none). Along the axes `gathered` all planes of the
    finer level are gathered on the way to this one.
    """

    level: UInt8[Array, "Z Y XS"] | Faces
    value: Conductance | Float[Array, "XS"]
    mass: Float[Array, "Z Y XS"] | None
    sink: Float[Array, "Z Y XS"] | None
    grid: Grid
    true: Array
    weights: tuple[Float[Array, "XS"], Float[Array, "XS"]]
    gathered: tuple[int, ...] = ()

    def run(self, function, *arguments, line: Float[Array, "XS"] | None = None):
        """`function(operator, *arguments)` with this operator and rows between their neighbours'
        planes; `line` holds a factor for each row and comes last."""
        grid = self.grid

        def surrounded(a):
            return None if a is None else extended(a, grid)

        if isinstance(self.level, Faces):
            level = Faces(*(extended(k, grid, axis) for axis, k in enumerate(self.level)))
        else:
            level = surrounded(self.level)
        wide = replace(self, level=level, mass=surrounded(self.mass), sink=surrounded(self.sink))
        value = jax.tree.map(lambda values: widened(values, grid), self.value)
        wide = replace(wide, value=value, grid=alone(grid) if joined_axes(grid) else grid)
        rows = [surrounded(a) for a in arguments]
        if not isinstance(wide.level, Faces):
            level, rows[0] = stored_beside(wide.level, rows[0])
            wide = replace(wide, level=level)
        lines = [] if line is None else [widened(line, grid)]
        return inner(boundary(self.true, function, wide, *rows, *lines), grid)

    def apply(self, u: Float[Array, "Z Y XS"]) -> Float[Array, "Z Y XS"]:
        """A u."""
        return self.run(_applied, u)

    def residual(self, u: Float[Array, "Z Y XS"], r: Float[Array, "Z Y XS"]):
        """r - A u."""
        return self.run(_residual, u, r)

    def first_sweep(self, r: Float[Array, "Z Y XS"], weight: Float[Array, "XS"]):
        """A Jacobi sweep from zero."""
        return self.run(_first_swept, r, line=weight)

    def sweep(
        self, u: Float[Array, "Z Y XS"], r: Float[Array, "Z Y XS"], weight: Float[Array, "XS"]
    ):
        """A Jacobi sweep for A u = r."""
        return self.run(_swept, u, r, line=weight)

    def nothing(self):
        """See `stencil.rounded`."""
        return unknown_zero(self.true, jnp.result_type(*jax.tree.leaves(self.value)))

    def faces(self):
        """Six conductances on every voxel."""
        return six_faces(self.level, self.value, self.grid, self.nothing())

    def whole_diagonal(self, faces):
        """The diagonal of A. At an end of the finest level it counts the closed face too, which
        only damps the sweep."""
        c = 1.0 if self.mass is None else self.mass
        c = c if self.sink is None else c + self.sink
        return c + sum_faces(faces)

    def rest(self, start, u, faces):
        """start - A u."""
        nothing = self.nothing()
        start = start - (u if self.mass is None else rounded(self.mass * u, nothing))
        if self.sink is not None:
            start = start - rounded(self.sink * u, nothing)
        return subtract_outflow(start, u, faces, self.grid, nothing)


# Functions of their own, so that JAX traces each once for all places that have its shapes.


@jax.jit
def _applied(here: Operator, u):
    return -here.rest(jnp.zeros_like(u), u, here.faces())


@jax.jit
def _residual(here: Operator, u, r):
    return here.rest(r, u, here.faces())


@jax.jit
def _first_swept(here: Operator, r, weight):
    return weight * r / here.whole_diagonal(here.faces())


@jax.jit
def _swept(here: Operator, u, r, weight):
    faces = here.faces()
    return u + weight * here.rest(r, u, faces) / here.whole_diagonal(faces)


def sum_faces(faces):
    """The sum of six conductances, in the order of `six_faces`."""
    total = faces[0]
    for face in faces[1:]:
        total = total + face
    return total


def sweep_weights(open_face: Float[Array, "XS"]):
    """Chebyshev weights of two Jacobi sweeps, where an open face has this conductance.

    The spectrum of the scaled operator is within 1 - q .. 1 + q. Below 0.4 the coarser levels
    serve; without diffusion both weights are 1 and the sweeps are exact.
    """
    q = 6 * open_face / (1 + 6 * open_face)
    low, high = jnp.maximum(1 - q, LOWEST_SMOOTHED), 1 + q
    middle, half = (low + high) / 2, (high - low) / 2 * 0.5**0.5
    return 1 / (middle + half), 1 / (middle - half)


def mass_after(mass: tuple[Array, ...]) -> tuple[Array, ...]:
    """The filled part of each cell along each axis, after one coarsening."""
    result = []
    for vector in mass:
        if vector.shape[0] > 1:
            even = jnp.pad(vector, (0, vector.shape[0] % 2)).reshape(-1, 2)
            vector = (even[:, 0] + even[:, 1]) / 2
        result.append(vector)
    return tuple(result)


def operators(
    hierarchy: Hierarchy,
    diffusion: Float[Array, "S"],
    sink: Float[Array, "Z Y XS"] | None,
    true: Array,
    grid: Grid,
) -> list[Operator]:
    """(1 + sink - div diffusion f grad) on every level, fine to coarse.

    `diffusion` and `sink` are per step, the former in voxels squared; both >= 0.
    """
    shape = hierarchy.fine.shape
    width = shape[2] // grid.species
    table = conductances(diffusion, hierarchy.in_bone, width)
    weights = boundary(true, sweep_weights, table.marrow)
    levels = [Operator(hierarchy.fine, table, None, sink, grid, true, weights)]
    size = extents(shape, grid)
    # Blocks along a divided axis are even until they are gathered, so their cells are full there.
    mass = tuple(jnp.ones(n, diffusion.dtype) for n in (*shape[:2], width))
    partial = False
    for faces, axes in zip(
        hierarchy.coarse, coarsenings((*shape[:2], width), grid.blocks), strict=True
    ):
        if sink is not None:
            sink = gather(sink, grid.blocks, axes)
        if axes:
            mass = tuple(
                jnp.ones(size[axis], diffusion.dtype) if axis in axes else vector
                for axis, vector in enumerate(mass)
            )
            grid = replace(grid, blocks=grid.blocks.gathered(axes))
        if sink is not None:
            sink = boundary(true, lambda a, g=grid: restrict(a, g), sink)
        partial = partial or any(n > 1 and n % 2 for n in size)
        mass = mass_after(mass)
        size = tuple(halved(n) for n in size)
        rows = None
        if partial:
            line = jnp.repeat(mass[2], grid.species)
            rows = jnp.broadcast_to(mass[0][:, None, None] * mass[1][:, None] * line, faces.z.shape)
        factor = jnp.tile(diffusion, mass[2].shape[0])
        weights = boundary(true, sweep_weights, factor * 0.25 ** len(levels))
        levels.append(Operator(faces, factor, rows, sink, grid, true, weights, axes))
    return levels


def cycle(levels: list[Operator], r: Float[Array, "Z Y XS"]) -> Float[Array, "Z Y XS"]:
    """An approximate solution of A u = r: one V(2,2) cycle from zero."""
    here = levels[0]
    u = here.first_sweep(r, here.weights[0])
    if len(levels) == 1:
        for sweep in range(1, 2 * COARSEST_SWEEPS):
            u = here.sweep(u, r, here.weights[sweep % 2])
        return u
    u = here.sweep(u, r, here.weights[1])
    below, blocks = levels[1], here.grid.blocks
    rest = gather(here.residual(u, r), blocks, below.gathered)
    coarse = cycle(levels[1:], boundary(here.true, lambda a: restrict(a, below.grid), rest))
    species = here.grid.species
    lines = boundary(here.true, lambda e: doubled_lines(e, rest.shape[2], species), coarse)
    if below.gathered:
        whole = add_blocks(jnp.zeros(rest.shape, u.dtype), lines)
        u = u + own(whole, blocks, below.gathered)
    else:
        u = boundary(here.true, add_blocks, u, lines)
    u = here.sweep(u, r, here.weights[1])
    return here.sweep(u, r, here.weights[0])
