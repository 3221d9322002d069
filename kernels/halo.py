"""Blocks of a lattice, one for each device, and what crosses between them.

Axes are numbered as arrays have them: 0 is z, 1 is y, 2 is x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Blocks:
    """A decomposition along z, y and x, inside `jax.shard_map`.

    `names` are the mesh axes (None: nothing is divided along this one); `counts` the number of
    blocks along each axis, all of the same extents.
    """

    names: tuple[str | None, str | None, str | None] = (None, None, None)
    counts: Triple = (1, 1, 1)

    def __post_init__(self) -> None:
        for name, count in zip(self.names, self.counts, strict=True):
            if count < 1 or (count > 1 and name is None):
                raise ValueError("more than one block along an axis needs the name of a mesh axis")

    @property
    def divided(self) -> tuple[bool, bool, bool]:
        """Along which axes planes have to travel between devices."""
        z, y, x = self.counts
        return z > 1, y > 1, x > 1

    def mesh_axes(self, axes: Sequence[int] = (0, 1, 2)) -> tuple[str, ...]:
        """The names of those of some axes that are divided: what a sum over devices runs over."""
        return tuple(n for a in axes if self.divided[a] and (n := self.names[a]) is not None)

    def gathered(self, axes: Sequence[int]) -> Blocks:
        """The decomposition once each device holds everything along some axes."""
        z, y, x = (1 if axis in axes else count for axis, count in enumerate(self.counts))
        return Blocks(self.names, (z, y, x))


WHOLE = Blocks()


def block_index(blocks: Blocks, axis: int) -> Array:
    """The position of this device's block along an axis, from 0 at the lowest coordinate."""
    if not blocks.divided[axis]:
        return jnp.zeros((), jnp.int32)
    return lax.axis_index(blocks.names[axis])


def neighbour_planes(
    array: Shaped[Array, "Z Y *rest"], blocks: Blocks, axis: int, periodic: bool, width: int = 1
) -> tuple[Shaped[Array, "..."], Shaped[Array, "..."]]:
    """The `width` planes before the first and those after the last of this block along an axis.

    At the two ends of a lattice that is not periodic the planes are zeros. Every dtype travels
    unchanged.
    """
    size = array.shape[axis]
    first = lax.slice_in_dim(array, 0, width, axis=axis)
    last = lax.slice_in_dim(array, size - width, size, axis=axis)
    if not blocks.divided[axis]:
        return (last, first) if periodic else (jnp.zeros_like(last), jnp.zeros_like(first))
    # ppermute leaves zeros where nobody sends.
    n, name = blocks.counts[axis], blocks.names[axis]
    up = [(i, (i + 1) % n) for i in range(n if periodic else n - 1)]
    down = [((i + 1) % n, i) for i in range(n if periodic else n - 1)]
    return lax.ppermute(last, name, up), lax.ppermute(first, name, down)


def gather(
    array: Shaped[Array, "Z Y *rest"], blocks: Blocks, axes: Sequence[int]
) -> Shaped[Array, "..."]:
    """All planes of the lattice along some axes, in order, on every device."""
    for axis in axes:
        if blocks.divided[axis]:
            array = lax.all_gather(array, blocks.names[axis], axis=axis, tiled=True)
    return array


def own(
    array: Shaped[Array, "Z Y *rest"], blocks: Blocks, axes: Sequence[int]
) -> Shaped[Array, "..."]:
    """The planes of this block along some axes, out of all of them."""
    for axis in axes:
        if blocks.divided[axis]:
            extent = array.shape[axis] // blocks.counts[axis]
            start = block_index(blocks, axis) * extent
            array = lax.dynamic_slice_in_dim(array, start, extent, axis=axis)
    return array


def exchange_lines(
    array: Shaped[Array, "Z Y XS"], blocks: Blocks
) -> tuple[Shaped[Array, "z N XS"], int]:
    """Whole lines along y of some of this block's planes, instead of parts of the lines of all:
    the devices that lie beside each other along y share their planes out. Planes of zeros make up
    the number. Also returns how many planes of the block there are (see `all_planes`)."""
    planes, count = array.shape[0], blocks.counts[1]
    missing = -planes % count
    if missing:
        array = lax.pad(array, jnp.zeros((), array.dtype), [(0, missing, 0), (0, 0, 0), (0, 0, 0)])
    name = blocks.names[1]
    return lax.all_to_all(array, name, split_axis=0, concat_axis=1, tiled=True), planes


def all_planes(
    array: Shaped[Array, "z Y XS"], blocks: Blocks, planes: int
) -> Shaped[Array, "Z Y XS"]:
    """What was made of each plane after `exchange_lines`, for all planes of the block."""
    whole = lax.all_gather(array, blocks.names[1], axis=0, tiled=True)
    return lax.slice_in_dim(whole, 0, planes)
