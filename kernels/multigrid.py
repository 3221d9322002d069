"""Geometric multigrid for the screened diffusion operator, used as a preconditioner.

Coarse cells are blocks of 2 x 2 x 2 (fewer at an end with an odd extent, which is as if an empty
cell stood there); transfer is piecewise constant; a coarse face is the mean of its fine ones, over
four for the doubled distance. Smoothing is by two Jacobi sweeps with Chebyshev weights before the
coarse correction and the same two, reversed, after it, which keeps the cycle symmetric. The
number of levels is small: the term 1 in the operator screens what is coarser.

Source: Briggs, Henson & McCormick, A Multigrid Tutorial (2000), chapters 3 and 8; weights: Golub
& Varga, Numerische Mathematik 3 (1961) 147.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt8

from lattice.kernels.fusion import boundary
from lattice.kernels.halo import (
    WHOLE,
    Slabs,
    gather_planes,
    neighbour_planes,
    own_planes,
    slab_index,
)
from lattice.kernels.stencil import (
    Conductance,
    Faces,
    Grid,
    alone,
    extended,
    inner,
    joins_planes,
    neighbour_codes,
    rounded,
    shift,
    six_faces,
    subtract_outflow,
)

COARSENINGS = 5
LOWEST_SMOOTHED = 0.4
COARSEST_SWEEPS = 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hierarchy:
    """The lattice as seen by the solver, from fine to coarse; made by `build_hierarchy`.

    It depends on where bone is and on the factors `in_bone`, on no other number.
    """

    fine: UInt8[Array, "Z Y XS"]
    in_bone: Float[Array, "S"]
    coarse: tuple[Faces, ...]


def halved(extent: int) -> int:
    """The extent of an axis after one coarsening."""
    return (extent + 1) // 2


def coarsenings(shape: tuple[int, int, int], slabs: Slabs) -> list[bool]:
    """For each coarsening of a slab of this shape: whether all planes are gathered before it."""
    z, y, x = shape[0] * slabs.count, *shape[1:]
    plan = []
    count = slabs.count
    while len(plan) < COARSENINGS and max(z, y, x) > 1:
        odd = count > 1 and (z // count) % 2 == 1
        plan.append(odd)
        count = 1 if odd else count
        z, y, x = halved(z), halved(y), halved(x)
    return plan


def pair(a: Array, axis: int, species: int) -> tuple[Array, Array]:
    """The lower and the upper members of the pairs along an axis (0 where a partner is missing)."""
    width = species if axis == 2 else 1
    if (a.shape[axis] // width) % 2:
        padding = [(0, 0, 0)] * a.ndim
        padding[axis] = (0, width, 0)
        a = lax.pad(a, jnp.zeros((), a.dtype), padding)
    shape = a.shape
    if axis == 2:
        split = a.reshape(*shape[:2], -1, 2, species)
        flat = (*shape[:2], shape[2] // 2)
        return split[..., 0, :].reshape(flat), split[..., 1, :].reshape(flat)
    split = a.reshape(*shape[:axis], shape[axis] // 2, 2, *shape[axis + 1 :])
    return lax.index_in_dim(split, 0, axis + 1, False), lax.index_in_dim(split, 1, axis + 1, False)


def extents(shape: tuple[int, ...], grid: Grid) -> tuple[int, int, int]:
    """The lattice's extents along z, y, x, from the shape of a slab's rows."""
    return shape[0] * grid.slabs.count, shape[1], shape[2] // grid.species


def restrict(rows: Float[Array, "Z Y XS"], grid: Grid) -> Float[Array, "z y xs"]:
    """The mean over blocks."""
    scale = 1.0
    for axis, extent in enumerate(extents(rows.shape, grid)):
        if extent > 1:
            lower, upper = pair(rows, axis, grid.species)
            rows = lower + upper
            scale /= 2
    return rows * scale


def doubled_lines(rows: Float[Array, "z y xs"], width: int, species: int) -> Float[Array, "z y XS"]:
    """Each value twice along x, on lines of `width` values."""
    z, y, _ = rows.shape
    cells = rows.reshape(z, y, -1, 1, species)
    times = 2 if width > species else 1
    lines = jnp.broadcast_to(cells, (z, y, cells.shape[2], times, species)).reshape(z, y, -1)
    return lines[:, :, :width]


def add_blocks(
    rows: Float[Array, "Z Y XS"], lines: Float[Array, "z y XS"]
) -> Float[Array, "Z Y XS"]:
    """rows plus a value for each pair of planes and pair of lines."""
    z, y, width = rows.shape
    twice = (2 if z > 1 else 1, 2 if y > 1 else 1)
    shape = (lines.shape[0], twice[0], lines.shape[1], twice[1], width)
    if (shape[0] * shape[1], shape[2] * shape[3]) == (z, y):
        return (rows.reshape(shape) + lines[:, None, :, None, :]).reshape(rows.shape)
    blocks = jnp.broadcast_to(lines[:, None, :, None, :], shape)
    return rows + blocks.reshape(shape[0] * shape[1], -1, width)[:z, :y]


def coarse_faces(faces: Faces, grid: Grid) -> Faces:
    """Conductances one level up; `grid` has the slabs after gathering."""
    size = extents(faces.z.shape, grid)
    result = []
    for axis, k in enumerate((faces.z, faces.y, faces.x)):
        if size[axis] > 1:
            k = pair(k, axis, grid.species)[0] * 0.25
        for other in range(3):
            if other != axis and size[other] > 1:
                lower, upper = pair(k, other, grid.species)
                k = (lower + upper) * 0.5
        result.append(k)
    return Faces(*result)


def conductances(diffusion: Float[Array, "S"], in_bone: Float[Array, "S"], width: int):
    """A face's conductance by its kind, on a line of `width` voxels."""
    kinds = (jnp.ones_like(in_bone), 2 * in_bone / (1 + in_bone), in_bone)
    return Conductance(*(jnp.tile(diffusion * kind, width) for kind in kinds))


def first_coarse_faces(
    bone: UInt8[Array, "Z Y X"], in_bone: Float[Array, "S"], grid: Grid
) -> Faces:
    """Conductances of the first coarse level; `grid` has the slabs after gathering.

    A coarse face is made of up to four fine ones of three kinds. Their numbers, as digits to the
    base 5, fit a byte, so that only bytes are handled at the size of the lattice; a table then
    gives the conductance of each combination.
    """
    one = Grid(grid.periodic, 1, grid.slabs)
    kind = (bone != 0).astype(jnp.uint8)
    plane = neighbour_planes(kind, grid.slabs, grid.periodic[0])[0]
    size = extents(kind.shape, one)
    marrow, mixed, both = jnp.uint8(25), jnp.uint8(5), jnp.uint8(1)
    result = []
    for axis in range(3):
        lower = shift(kind, axis, True, one, plane)
        k = jnp.where(kind != lower, mixed, jnp.where(kind != 0, both, marrow))
        if not grid.periodic[axis] or size[axis] == 1:
            first = lax.broadcasted_iota(jnp.int32, k.shape, axis) == 0
            if axis == 0:
                first = first & (slab_index(grid.slabs) == 0)
            k = jnp.where(first, jnp.uint8(0), k)
        scale = 1.0
        if size[axis] > 1:
            k, scale = pair(k, axis, 1)[0], scale * 0.25
        for other in range(3):
            if other != axis and size[other] > 1:
                low, high = pair(k, other, 1)
                k, scale = low + high, scale * 0.5
        rows = scale * combinations(in_bone)[k.astype(jnp.int32)]
        result.append(rows.reshape(*k.shape[:2], -1))
    return Faces(*result)


def combinations(in_bone: Float[Array, "S"]) -> Float[Array, "125 S"]:
    """The sum of the conductances of n0 marrow, n1 mixed and n2 bone faces at 25 n0 + 5 n1 + n2."""
    digits = jnp.stack(jnp.unravel_index(jnp.arange(125), (5, 5, 5)), axis=1)
    kinds = jnp.stack([jnp.ones_like(in_bone), 2 * in_bone / (1 + in_bone), in_bone])
    return jnp.sum(digits[:, :, None].astype(in_bone.dtype) * kinds, axis=1)


def build_hierarchy(
    bone: UInt8[Array, "Z Y X"],
    in_bone: Float[Array, "S"],
    *,
    periodic: tuple[bool, bool, bool] = (False, False, False),
    slabs: Slabs = WHOLE,
) -> Hierarchy:
    """Prepares implicit steps on a lattice with bone.

    `bone` is this device's slab, non-zero where a voxel is bone; `in_bone` the factor on each
    species' diffusion there (0 to 1); `periodic` is for z, y, x. Any extents. Costs about as much
    as a few sweeps of the solver, so it may be rebuilt whenever bone has changed.
    """
    coarse = build_coarse_levels(bone, in_bone, periodic=periodic, slabs=slabs)
    return with_finest(bone, in_bone, coarse, periodic=periodic, slabs=slabs)


def with_finest(
    bone: UInt8[Array, "Z Y X"],
    in_bone: Float[Array, "S"],
    coarse: tuple[Faces, ...],
    *,
    periodic: tuple[bool, bool, bool] = (False, False, False),
    slabs: Slabs = WHOLE,
) -> Hierarchy:
    """The hierarchy over coarse levels that were kept; the finest takes a few byte operations."""
    grid = Grid(periodic, in_bone.shape[0], slabs)
    return Hierarchy(neighbour_codes(bone, grid), in_bone, coarse)


def build_coarse_levels(
    bone: UInt8[Array, "Z Y X"],
    in_bone: Float[Array, "S"],
    *,
    periodic: tuple[bool, bool, bool] = (False, False, False),
    slabs: Slabs = WHOLE,
) -> tuple[Faces, ...]:
    """The part of a hierarchy that is worth keeping between steps, about 11 bytes per voxel for six
    species."""
    grid = Grid(periodic, in_bone.shape[0], slabs)
    level: UInt8[Array, "Z Y X"] | Faces = bone
    coarse = []
    for gather in coarsenings(bone.shape, slabs):
        if gather:
            level = jax.tree.map(partial(gather_planes, slabs=grid.slabs), level)
            grid = replace(grid, slabs=WHOLE)
        if isinstance(level, Faces):
            level = coarse_faces(level, grid)
        else:
            level = first_coarse_faces(level, in_bone, grid)
        coarse.append(level)
    return tuple(coarse)


@dataclass(frozen=True)
class Operator:
    """One level of (c + diffusion) at one step length; built and used within one trace.

    `mass` is the part of each cell that lies inside the lattice (None: all of it); `sink` a
    further diagonal, times `mass` already (None: none).
    """

    level: UInt8[Array, "Z Y XS"] | Faces
    value: Conductance | Float[Array, "XS"]
    mass: Float[Array, "Z Y XS"] | None
    sink: Float[Array, "Z Y XS"] | None
    grid: Grid
    true: Array
    weights: tuple[Float[Array, "XS"], Float[Array, "XS"]]
    gather: bool = False

    def run(self, function, *arguments):
        """`function(operator, *arguments)` with this operator and rows between their neighbours'
        planes."""
        grid = self.grid

        def surrounded(a):
            return None if a is None else extended(a, grid)

        if isinstance(self.level, Faces):
            level = Faces(extended(self.level.z, grid, True), *map(surrounded, self.level[1:]))
        else:
            level = surrounded(self.level)
        wide = replace(self, level=level, mass=surrounded(self.mass), sink=surrounded(self.sink))
        wide = replace(wide, grid=alone(grid) if joins_planes(grid) else grid)
        rows = [surrounded(a) for a in arguments]
        return inner(boundary(self.true, lambda *a: function(wide, *a), *rows), grid)

    def apply(self, u: Float[Array, "Z Y XS"]) -> Float[Array, "Z Y XS"]:
        """A u."""
        return self.run(lambda here, u: -here.rest(jnp.zeros_like(u), u, here.faces()), u)

    def residual(self, u: Float[Array, "Z Y XS"], r: Float[Array, "Z Y XS"]):
        """r - A u."""
        return self.run(lambda here, u, r: here.rest(r, u, here.faces()), u, r)

    def first_sweep(self, r: Float[Array, "Z Y XS"], weight: Float[Array, "XS"]):
        """A Jacobi sweep from zero."""
        return self.run(lambda here, r: weight * r / here.whole_diagonal(here.faces()), r)

    def sweep(
        self, u: Float[Array, "Z Y XS"], r: Float[Array, "Z Y XS"], weight: Float[Array, "XS"]
    ):
        """A Jacobi sweep for A u = r."""

        def change(here, u, r):
            faces = here.faces()
            return u + weight * here.rest(r, u, faces) / here.whole_diagonal(faces)

        return self.run(change, u, r)

    def lowest(self):
        """Minus infinity, unknown to the compiler."""
        return jnp.where(
            self.true, -jnp.inf, jnp.zeros((), jnp.result_type(*jax.tree.leaves(self.value)))
        )

    def faces(self):
        """Six conductances on every voxel."""
        return six_faces(self.level, self.value, self.grid, self.lowest())

    def whole_diagonal(self, faces):
        """The diagonal of A. At an end of the finest level it counts the closed face too, which
        only damps the sweep."""
        c = 1.0 if self.mass is None else self.mass
        c = c if self.sink is None else c + self.sink
        return c + sum_faces(faces)

    def rest(self, start, u, faces):
        """start - A u."""
        lowest = self.lowest()
        start = start - (u if self.mass is None else rounded(self.mass * u, lowest))
        if self.sink is not None:
            start = start - rounded(self.sink * u, lowest)
        return subtract_outflow(start, u, faces, self.grid, lowest)


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


def mass_after(
    mass: tuple[Array, Array, Array], shape: tuple[int, int, int]
) -> tuple[Array, Array, Array]:
    """The filled part of each cell along each axis, after one coarsening."""
    result = []
    for vector, extent in zip(mass, shape, strict=True):
        if extent > 1:
            even = jnp.pad(vector, (0, extent % 2)).reshape(-1, 2)
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
    mass = tuple(jnp.ones(n, diffusion.dtype) for n in size)
    partial = False
    for faces, gather in zip(
        hierarchy.coarse, coarsenings((shape[0], *size[1:]), grid.slabs), strict=True
    ):
        if gather:
            grid = replace(grid, slabs=WHOLE)
        if sink is not None:
            sink = gather_planes(sink, levels[-1].grid.slabs) if gather else sink
            sink = boundary(true, lambda a, g=grid: restrict(a, g), sink)
        partial = partial or any(n > 1 and n % 2 for n in size)
        mass = mass_after(mass, size)
        size = tuple(halved(n) for n in size)
        rows = None
        if partial:
            line = jnp.repeat(mass[2], grid.species)
            # Slabs that are still divided are even along z, so their cells are full there.
            column = 1.0 if grid.slabs.divided else mass[0][:, None, None]
            rows = jnp.broadcast_to(column * mass[1][:, None] * line, faces.z.shape)
        factor = jnp.tile(diffusion, size[2])
        weights = boundary(true, sweep_weights, factor * 0.25 ** len(levels))
        levels.append(Operator(faces, factor, rows, sink, grid, true, weights, gather))
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
    below = levels[1]
    rest = here.residual(u, r)
    if below.gather:
        rest = gather_planes(rest, here.grid.slabs)
    coarse = cycle(levels[1:], boundary(here.true, lambda a: restrict(a, below.grid), rest))
    species = here.grid.species
    lines = boundary(here.true, lambda e: doubled_lines(e, u.shape[2], species), coarse)
    if below.gather:
        whole = add_blocks(
            jnp.zeros((u.shape[0] * here.grid.slabs.count, *u.shape[1:]), u.dtype), lines
        )
        u = u + own_planes(whole, here.grid.slabs)
    else:
        u = boundary(here.true, add_blocks, u, lines)
    u = here.sweep(u, r, here.weights[1])
    return here.sweep(u, r, here.weights[0])
