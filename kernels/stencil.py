"""The seven-point diffusion operator with conductances on faces.

Fields are held as rows ``[z, y, x * S]``, the flat view of ``[z, y, x, S]``: a neighbour along x
is S places away and every loop over a row is contiguous. The operator is

    (A u)_i = c_i u_i + sum over the six faces of i of k_face (u_i - u_neighbour),

in this form of differences, since the expanded one loses four digits in float32. A closed face
has k = 0, which is all that a no-flux end needs.

Inside the lattice a conductance takes one of three values, by what the face separates (marrow,
bone or one of each, where it is the harmonic mean), so the finest level stores two bits a face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped, UInt8

from lattice.kernels.halo import WHOLE, Slabs, neighbour_planes

CLOSED, MARROW, MIXED, BONE = 0, 1, 2, 3


@dataclass(frozen=True)
class Grid:
    """What the stencil must know of the lattice: which axes (z, y, x) wrap, how many species a
    row interleaves, and the decomposition."""

    periodic: tuple[bool, bool, bool]
    species: int
    slabs: Slabs = WHOLE


def shift(
    rows: Shaped[Array, "Z Y XS"],
    axis: int,
    down: bool,
    grid: Grid,
    plane: Shaped[Array, "1 Y XS"] | None = None,
) -> Shaped[Array, "Z Y XS"]:
    """The neighbour's value: with the lower index if `down`, else the higher one.

    Beyond an end that does not wrap it is 0. Along z with more than one slab, `plane` is the
    neighbour's plane.
    """
    step = grid.species if axis == 2 else 1
    size = rows.shape[axis]
    if axis == 0 and grid.slabs.divided:
        parts = (plane, rows[:-1]) if down else (rows[1:], plane)
        return jnp.concatenate(parts, axis=0)
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


def planes_of(rows: Shaped[Array, "Z Y XS"], grid: Grid):
    """The planes below and above this slab; nothing travels when the lattice is whole."""
    if not grid.slabs.divided:
        return None, None
    return neighbour_planes(rows, grid.slabs, grid.periodic[0])


class Codes(NamedTuple):
    """The finest level: for each voxel the kind of its lower face along z (bits 0 and 1), y and
    x, repeated for every species, and the codes of the plane above the slab."""

    code: UInt8[Array, "Z Y XS"]
    above: UInt8[Array, "1 Y XS"]


class Faces(NamedTuple):
    """A coarser level: conductances of the lower faces, per unit of diffusion, and those along z
    of the plane above the slab."""

    z: Float[Array, "Z Y XS"]
    y: Float[Array, "Z Y XS"]
    x: Float[Array, "Z Y XS"]
    above: Float[Array, "1 Y XS"]


class Conductance(NamedTuple):
    """Rows of one x-line: a face's conductance by its kind, for every species."""

    marrow: Float[Array, "XS"]
    mixed: Float[Array, "XS"]
    bone: Float[Array, "XS"]


def face_codes(bone: UInt8[Array, "Z Y X"], grid: Grid) -> Codes:
    """What each face separates, from a mask whose non-zero voxels are bone."""
    kind = (bone != 0).astype(jnp.uint8)
    present = kind + jnp.uint8(1)
    one = Grid(grid.periodic, 1, grid.slabs)
    below, _ = planes_of(present, one)
    code = jnp.zeros_like(kind)
    for axis in range(3):
        lower = shift(present, axis, True, one, below)
        face = jnp.where(lower > 0, kind + lower, 0).astype(jnp.uint8)
        if bone.shape[axis] * (grid.slabs.count if axis == 0 else 1) == 1:
            face = jnp.zeros_like(face)  # a voxel that would be its own neighbour
        code = code | (face << (2 * axis)).astype(jnp.uint8)
    code = jnp.broadcast_to(code[..., None], (*code.shape, grid.species))
    code = code.reshape(*code.shape[:2], -1)
    return Codes(code, neighbour_planes(code, grid.slabs, grid.periodic[0])[1])


def six_faces(level: Codes | Faces, value: Conductance | Float[Array, "XS"], grid: Grid):
    """Conductances towards lower and higher z, y, x, in this order.

    `value` is a table by kind for codes, a factor on each row for stored conductances.
    """
    if isinstance(level, Codes):

        def pick(code):
            k = jnp.where(code == MIXED, value.mixed, value.bone)
            return jnp.where(code == CLOSED, 0, jnp.where(code == MARROW, value.marrow, k))

        lower = [pick((level.code >> (2 * axis)) & 3) for axis in range(3)]
        upper = [
            pick((shift(level.code, axis, False, grid, level.above) >> (2 * axis)) & 3)
            for axis in range(3)
        ]
    else:
        stored = (level.z, level.y, level.x)
        lower = [value * k for k in stored]
        upper = [value * shift(k, a, False, grid, level.above) for a, k in enumerate(stored)]
    return lower[0], upper[0], lower[1], upper[1], lower[2], upper[2]


def outflow(rows: Float[Array, "Z Y XS"], planes, faces, grid: Grid) -> Float[Array, "Z Y XS"]:
    """The sum over faces of k (u - u_neighbour)."""
    total = None
    for face, (axis, down) in zip(
        faces, [(a, d) for a in range(3) for d in (True, False)], strict=True
    ):
        plane = planes[0] if down else planes[1]
        term = face * (rows - shift(rows, axis, down, grid, plane))
        total = term if total is None else total + term
    return total
