"""The levels of a multigrid hierarchy: blocks of 2 x 2 x 2 cells, and what passes between levels.

Coarse cells are blocks (fewer cells at an end with an odd extent, which is as if an empty cell
stood there); transfer is piecewise constant; a coarse face is the mean of its fine ones, over four
for the doubled distance.

Source: Briggs, Henson & McCormick, A Multigrid Tutorial (2000), chapters 3 and 8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt8

from lattice.kernels.halo import WHOLE, Blocks, block_index, gather
from lattice.kernels.stencil import Conductance, Faces, Grid, beside, neighbour_codes, shift

COARSENINGS = 5


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


def coarsenings(shape: tuple[int, int, int], blocks: Blocks) -> list[tuple[int, ...]]:
    """For each coarsening of a block of this shape: the axes along which all planes are gathered
    before it, since blocks have an odd number of them."""
    size = [extent * count for extent, count in zip(shape, blocks.counts, strict=True)]
    plan = []
    while len(plan) < COARSENINGS and max(size) > 1:
        odd = tuple(a for a in range(3) if blocks.divided[a] and size[a] // blocks.counts[a] % 2)
        plan.append(odd)
        blocks = blocks.gathered(odd)
        size = [halved(extent) for extent in size]
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
    """The lattice's extents along z, y, x, from the shape of a block's rows."""
    z, y, x = grid.blocks.counts
    return shape[0] * z, shape[1] * y, shape[2] // grid.species * x


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
    """Conductances one level up; `grid` has the blocks after gathering."""
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
    """Conductances of the first coarse level; `grid` has the blocks after gathering.

    A coarse face is made of up to four fine ones of three kinds. Their numbers, as digits to the
    base 5, fit a byte, so that only bytes are handled at the size of the lattice; a table then
    gives the conductance of each combination.
    """
    one = Grid(grid.periodic, 1, grid.blocks)
    kind = (bone != 0).astype(jnp.uint8)
    size = extents(kind.shape, one)
    marrow, mixed, both = jnp.uint8(25), jnp.uint8(5), jnp.uint8(1)
    result = []
    for axis in range(3):
        lower = shift(kind, axis, True, one, beside(kind, axis, one)[0])
        k = jnp.where(kind != lower, mixed, jnp.where(kind != 0, both, marrow))
        if not grid.periodic[axis] or size[axis] == 1:
            first = lax.broadcasted_iota(jnp.int32, k.shape, axis) == 0
            first = first & (block_index(grid.blocks, axis) == 0)
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
    blocks: Blocks = WHOLE,
) -> Hierarchy:
    """Prepares implicit steps on a lattice with bone.

    `bone` is this device's block, non-zero where a voxel is bone; `in_bone` the factor on each
    species' diffusion there (0 to 1); `periodic` is for z, y, x. Any extents. Costs about as much
    as a few sweeps of the solver, so it may be rebuilt whenever bone has changed.
    """
    coarse = build_coarse_levels(bone, in_bone, periodic=periodic, blocks=blocks)
    return with_finest(bone, in_bone, coarse, periodic=periodic, blocks=blocks)


def with_finest(
    bone: UInt8[Array, "Z Y X"],
    in_bone: Float[Array, "S"],
    coarse: tuple[Faces, ...],
    *,
    periodic: tuple[bool, bool, bool] = (False, False, False),
    blocks: Blocks = WHOLE,
) -> Hierarchy:
    """The hierarchy over coarse levels that were kept; the finest takes a few byte operations."""
    grid = Grid(periodic, in_bone.shape[0], blocks)
    return Hierarchy(neighbour_codes(bone, grid), in_bone, coarse)


def build_coarse_levels(
    bone: UInt8[Array, "Z Y X"],
    in_bone: Float[Array, "S"],
    *,
    periodic: tuple[bool, bool, bool] = (False, False, False),
    blocks: Blocks = WHOLE,
) -> tuple[Faces, ...]:
    """The part of a hierarchy that is worth keeping between steps, about 11 bytes per voxel for six
    species."""
    grid = Grid(periodic, in_bone.shape[0], blocks)
    level: UInt8[Array, "Z Y X"] | Faces = bone
    coarse = []
    for axes in coarsenings(bone.shape, blocks):
        if axes:
            level = jax.tree.map(partial(gather, blocks=grid.blocks, axes=axes), level)
            grid = replace(grid, blocks=grid.blocks.gathered(axes))
        if isinstance(level, Faces):
            level = coarse_faces(level, grid)
        else:
            level = first_coarse_faces(level, in_bone, grid)
        coarse.append(level)
    return tuple(coarse)
