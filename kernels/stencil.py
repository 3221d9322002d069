"""The seven-point diffusion operator with conductances on faces.

Fields are held as rows ``[z, y, x * S]``, the flat view of ``[z, y, x, S]``: a neighbour along x
is S places away and every loop over a row is contiguous. The operator is

    (A u)_i = c_i u_i + sum over the six faces of i of k_face (u_i - u_neighbour),

in this form of differences, since the expanded one loses four digits in float32. Beyond an end of
the lattice that does not wrap the difference is 0, which is no-flux.

On the lattice itself a conductance takes one of three values, by what the face separates (marrow,
bone or one of each, where it is the harmonic mean). One byte a voxel says what its neighbours are,
so that the finest level, which costs most, reads no conductances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Shaped, UInt, UInt8

from lattice.kernels.fusion import always, boundary
from lattice.kernels.halo import WHOLE, Blocks, block_index, neighbour_planes

OWN = 64
"""The bit of a code that is set inside bone; bit 2 * axis is the lower neighbour along z, y or x,
the next one the upper."""

SIDES = tuple((axis, down) for axis in range(3) for down in (True, False))


@dataclass(frozen=True)
class Grid:
    """What the stencil must know of the lattice: which axes (z, y, x) wrap, how many species a
    row interleaves, and the decomposition."""

    periodic: tuple[bool, bool, bool]
    species: int
    blocks: Blocks = WHOLE


def entries(axis: int, grid: Grid) -> int:
    """How many entries of a row lie between a voxel and its neighbour along an axis of rows."""
    return grid.species if axis == 2 else 1


def shift(
    rows: Shaped[Array, "Z Y XS"],
    axis: int,
    down: bool,
    grid: Grid,
    plane: Shaped[Array, "..."] | None = None,
) -> Shaped[Array, "Z Y XS"]:
    """The neighbour's value: with the lower index if `down`, else the higher one.

    Beyond an end that does not wrap it is 0. Along an axis with more than one block, `plane` is
    the neighbouring block's plane.
    """
    step = entries(axis, grid)
    size = rows.shape[axis]
    if plane is not None:
        start, stop = (0, size - step) if down else (step, size)
        kept = lax.slice_in_dim(rows, start, stop, axis=axis)
        return jnp.concatenate((plane, kept) if down else (kept, plane), axis=axis)
    if grid.periodic[axis]:
        cut = size - step if down else step
        parts = (
            lax.slice_in_dim(rows, cut, size, axis=axis),
            lax.slice_in_dim(rows, 0, cut, axis=axis),
        )
        return jnp.concatenate(parts, axis=axis)
    padding = [(0, 0, 0)] * 3
    padding[axis] = (step, -step, 0) if down else (-step, step, 0)
    return lax.pad(rows, jnp.zeros((), rows.dtype), padding)


def beside(
    rows: Shaped[Array, "Z Y XS"], axis: int, grid: Grid
) -> tuple[Shaped[Array, "..."] | None, Shaped[Array, "..."] | None]:
    """The planes of the neighbouring blocks below and above, for `shift`; None along an axis that
    is not divided."""
    if not grid.blocks.divided[axis]:
        return None, None
    width = entries(axis, grid)
    return neighbour_planes(rows, grid.blocks, axis, grid.periodic[axis], width)


def joined_axes(grid: Grid) -> tuple[int, ...]:
    """The axes along which `extended` puts planes at the ends of a block: the divided ones, and z
    if it wraps."""
    z, y, x = grid.blocks.divided
    joined = (z or grid.periodic[0], y, x)
    return tuple(axis for axis in range(3) if joined[axis])


def extended(
    rows: Shaped[Array, "Z Y XS"], grid: Grid, closed: int | None = None
) -> Shaped[Array, "W V US"]:
    """The block between its neighbours' planes, where it has any.

    Kernels then run on the extended block as on a whole lattice and the outer planes are dropped:
    the compiler contracts products and sums alike in both, so that the bits are the same.
    At an end of the lattice the plane is the block's own, which makes the difference vanish, or
    zeros along the axis `closed`.
    """
    for axis in joined_axes(grid):
        width, size = entries(axis, grid), rows.shape[axis]
        below, above = neighbour_planes(rows, grid.blocks, axis, grid.periodic[axis], width)
        if not grid.periodic[axis] and axis != closed:
            index = block_index(grid.blocks, axis)
            first = lax.slice_in_dim(rows, 0, width, axis=axis)
            last = lax.slice_in_dim(rows, size - width, size, axis=axis)
            below = jnp.where(index == 0, first, below)
            above = jnp.where(index == grid.blocks.counts[axis] - 1, last, above)
        rows = jnp.concatenate([below, rows, above], axis=axis)
    return rows


def widened(line: Float[Array, "XS"], grid: Grid) -> Float[Array, "US"]:
    """A line of values that are the same in every voxel, for rows of an extended block."""
    if 2 not in joined_axes(grid):
        return line
    return jnp.concatenate([line[: grid.species], line, line[: grid.species]])


def inner(rows: Shaped[Array, "W V US"], grid: Grid) -> Shaped[Array, "Z Y XS"]:
    """What `extended` began with."""
    for axis in joined_axes(grid):
        width = entries(axis, grid)
        rows = lax.slice_in_dim(rows, width, rows.shape[axis] - width, axis=axis)
    return rows


def alone(grid: Grid) -> Grid:
    """The grid of an extended block."""
    joined = joined_axes(grid)
    z, y, x = (wraps and axis not in joined for axis, wraps in enumerate(grid.periodic))
    return Grid((z, y, x), grid.species)


def difference(
    rows: Float[Array, "Z Y XS"], axis: int, down: bool, grid: Grid
) -> Float[Array, "Z Y XS"]:
    """u minus its neighbour, the one with the lower index if `down`; 0 at an end."""
    if grid.periodic[axis]:
        return rows - shift(rows, axis, down, grid)
    step = entries(axis, grid)
    size = rows.shape[axis]
    upper = lax.slice_in_dim(rows, min(step, size), size, axis=axis)
    lower = lax.slice_in_dim(rows, 0, max(size - step, 0), axis=axis)
    padding = [(0, 0, 0)] * 3
    padding[axis] = (min(step, size), 0, 0) if down else (0, min(step, size), 0)
    return lax.pad(upper - lower if down else lower - upper, jnp.zeros((), rows.dtype), padding)


class Faces(NamedTuple):
    """A coarser level: conductances of the lower faces, per unit of diffusion; 0 at an end."""

    z: Float[Array, "Z Y XS"]
    y: Float[Array, "Z Y XS"]
    x: Float[Array, "Z Y XS"]


class Conductance(NamedTuple):
    """Rows of one x-line: a face's conductance by its kind, for every species."""

    marrow: Float[Array, "XS"]
    mixed: Float[Array, "XS"]
    bone: Float[Array, "XS"]


def neighbour_codes(bone: UInt8[Array, "Z Y X"], grid: Grid) -> UInt8[Array, "Z Y XS"]:
    """Each voxel's kind and those of its six neighbours, repeated for every species; non-zero is
    bone, and what lies beyond an end is marrow."""
    kind = (bone != 0).astype(jnp.uint8)
    one = Grid(grid.periodic, 1, grid.blocks)
    planes = [beside(kind, axis, one) for axis in range(3)]

    def codes(kind):
        code = kind * jnp.uint8(OWN)
        for bit, (axis, down) in enumerate(SIDES):
            code = code | shift(kind, axis, down, one, planes[axis][not down]) << jnp.uint8(bit)
        return code

    def repeated(code):
        return jnp.broadcast_to(code[..., None], (*code.shape, grid.species))

    # Units of their own: a code is not made anew for each species, nor its place from a flat index.
    true = always(kind)
    return boundary(true, repeated, boundary(true, codes, kind)).reshape(*kind.shape[:2], -1)


def is_bone(code: UInt8[Array, "Z Y XS"], bit: int):
    """Whether a bit of a code is set."""
    return (code & jnp.uint8(bit)) != 0


def six_faces(level, value: Conductance | Float[Array, "XS"], grid: Grid, nothing: UInt[Array, ""]):
    """Conductances towards lower and higher z, y, x, in this order.

    `level` is the codes of the finest level with a table, or `Faces` with a factor on each row.
    """
    if isinstance(level, Faces):
        stored = (level.z, level.y, level.x)
        lower = [rounded(value * k, nothing) for k in stored]
        shifted = [shift(k, axis, False, grid) for axis, k in enumerate(stored)]
        upper = [rounded(value * k, nothing) for k in shifted]
        return lower[0], upper[0], lower[1], upper[1], lower[2], upper[2]
    own = is_bone(level, OWN)
    to_marrow = jnp.where(own, value.mixed, value.marrow)
    to_bone = jnp.where(own, value.bone, value.mixed)
    return tuple(jnp.where(is_bone(level, 1 << bit), to_bone, to_marrow) for bit in range(6))


def subtract_outflow(
    start: Float[Array, "Z Y XS"],
    rows: Float[Array, "Z Y XS"],
    faces,
    grid: Grid,
    nothing: UInt[Array, ""],
) -> Float[Array, "Z Y XS"]:
    """start minus the sum over faces of k (u - u_neighbour); `nothing` as in `rounded`."""
    for face, (axis, down) in zip(faces, SIDES, strict=True):
        start = start - rounded(face * difference(rows, axis, down, grid), nothing)
    return start


@jax.custom_jvp
def rounded(product: Float[Array, "Z Y XS"], nothing: UInt[Array, ""]) -> Float[Array, "Z Y XS"]:
    """A product that the compiler rounds before it adds it.

    On CPU it contracts some products and sums and not others, by the shape of the loop, and the
    bits would depend on the extents of a block. `nothing` is the integer 0, unknown to it (see
    `unknown_zero`); an `or` of bits costs less than a comparison, which must heed NaN.
    """
    bits = lax.bitcast_convert_type(product, nothing.dtype)
    return lax.bitcast_convert_type(bits | nothing, product.dtype)


@rounded.defjvp
def _same_derivative(primals, tangents):
    return rounded(*primals), tangents[0]


def unknown_zero(true: Bool[Array, ""], dtype: DTypeLike) -> UInt[Array, ""]:
    """The integer 0, as wide as a float of this dtype; `true` as in `fusion.always`."""
    word = jnp.dtype(f"uint{8 * jnp.dtype(dtype).itemsize}")
    return jnp.where(true, jnp.zeros((), word), jnp.ones((), word))
