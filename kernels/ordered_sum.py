"""Sums over the lattice whose bits do not depend on the number of devices or of species.

Every addition is written out as a tree over the lattice's own indices: along y, then along x, then
along z. The compiler has no freedom to reorder, and the error of a float32 sum grows with the
logarithm of the number of voxels.

Where the lattice is divided along x or z, the sums so far are gathered: there are few of them. The
first tree, along y, needs whole lines: where y is divided, devices beside each other along it
exchange parts of lines, which costs as much as a field for each operand.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from lattice.kernels.fusion import always, boundary, stored
from lattice.kernels.halo import WHOLE, Blocks, all_planes, exchange_lines, gather


def parts_of(a: Array, axis: int, groups: int) -> list[Array]:
    """Equal parts of an axis (zeros make up a missing rest)."""
    part = -(-a.shape[axis] // groups)
    if part * groups != a.shape[axis]:
        padding = [(0, 0, 0)] * a.ndim
        padding[axis] = (0, part * groups - a.shape[axis], 0)
        a = lax.pad(a, jnp.zeros((), a.dtype), padding)
    return [lax.slice_in_dim(a, i * part, (i + 1) * part, axis=axis) for i in range(groups)]


def fold(a: Array, axis: int, groups: int) -> Array:
    """Add `groups` equal parts of an axis, as a balanced tree."""
    parts = parts_of(a, axis, groups)
    while len(parts) > 1:
        parts = [parts[i] + parts[i + 1] for i in range(0, len(parts), 2)]
    return parts[0]


def collapse(a: Array, axis: int) -> Array:
    """Add everything along an axis, eight at a time; the axis stays, with extent 1."""
    while a.shape[axis] > 1:
        a = fold(a, axis, 8 if a.shape[axis] > 4 else 1 << (a.shape[axis] - 1).bit_length())
    return a


def line_sums(rows: Float[Array, "Z Y XS"]) -> Float[Array, "Z 1 XS"]:
    """The sum over each plane's lines."""
    return collapse(rows, 1)


def line_products(a: Float[Array, "Z Y XS"], b: Float[Array, "Z Y XS"]) -> Float[Array, "Z 1 XS"]:
    """The sum of a * b over each plane's lines.

    Each addition has one product: a compiler that contracts the two has one way to do it.
    """
    # A zero that the compiler cannot see, so that the first product is rounded like the others.
    total = a[0, 0, 0] * 0
    for p, q in zip(parts_of(a, 1, 8), parts_of(b, 1, 8), strict=True):
        total = total + p * q
    return collapse(total, 1)


def plane_sums(lines: Float[Array, "Z 1 XS"], species: int) -> Float[Array, "Z S"]:
    """The sum over each plane, from that over its lines."""
    return collapse(lines.reshape(lines.shape[0], -1, species), 1)[:, 0, :]


def sum_rows(
    true: Bool[Array, ""],
    rows: Float[Array, "Z Y XS"],
    species: int,
    blocks: Blocks = WHOLE,
    *,
    times: Float[Array, "Z Y XS"] | None = None,
) -> Float[Array, "S"]:
    """The sum over the whole lattice of rows, or of rows * times, for each species.

    A row is x by species, species last. `true` (see `fusion`) keeps what made the rows out of the
    additions, where it would be rounded differently.
    """
    planes = rows.shape[0]
    rows, times = stored(rows), None if times is None else stored(times)
    if blocks.divided[1]:
        rows, planes = exchange_lines(rows, blocks)
        times = None if times is None else exchange_lines(times, blocks)[0]
    # Lines are a unit of their own: fused with the split into species, their loop is that over
    # species, too short for vectors.
    if times is None:
        lines = boundary(true, line_sums, rows)
    else:
        lines = boundary(true, line_products, rows, times)
    if blocks.divided[1]:
        lines = all_planes(lines, blocks, planes)
    lines = stored(gather(lines, blocks, (2,)))
    sums = boundary(true, lambda a: plane_sums(a, species), lines)
    return boundary(true, lambda a: collapse(a, 0)[0], gather(sums, blocks, (0,)))


def sum_lattice(a: Float[Array, "Z Y X *S"], blocks: Blocks = WHOLE) -> Float[Array, "*S"]:
    """The sum over the three axes of the whole lattice, keeping any further axis."""
    rest = a.shape[3:]
    species = 1
    for extent in rest:
        species *= extent
    rows = a.reshape(a.shape[0], a.shape[1], -1)
    return sum_rows(always(rows), rows, species, blocks).reshape(rest)
