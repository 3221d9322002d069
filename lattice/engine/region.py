"""Where a voxel is and who its neighbours are, on one device or on a block of many.

The step works on flat indices into a *padded block*: the voxels of this device and, along each axis
that several devices share, `HALO` planes of the neighbours on either side, edges and corners
included. On one device there is no padding. Random numbers and parities use the global voxel
index, so that the same voxel draws the same numbers whatever the decomposition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt32

from lattice.kernels.halo import WHOLE, Blocks, Triple, block_index, neighbour_planes

HALO = 2
"""Planes of padding: a pair rule may read the neighbours of a partner."""


@dataclass(frozen=True)
class Region:
    """A block of the lattice. `shape` is that of the whole lattice, (z, y, x), as is `periodic`."""

    shape: Triple
    periodic: tuple[bool, bool, bool]
    blocks: Blocks = WHOLE

    @property
    def block(self) -> Triple:
        """Extents of this block without padding."""
        z, y, x = (n // c for n, c in zip(self.shape, self.blocks.counts, strict=True))
        return z, y, x

    @property
    def halo(self) -> Triple:
        """Planes of padding on each side, along each axis."""
        z, y, x = (HALO if divided else 0 for divided in self.blocks.divided)
        return z, y, x

    @property
    def padded(self) -> Triple:
        """Shape of a padded block."""
        z, y, x = (n + 2 * h for n, h in zip(self.block, self.halo, strict=True))
        return z, y, x

    @property
    def size(self) -> int:
        """Voxels in a padded block."""
        nz, ny, nx = self.padded
        return nz * ny * nx

    @property
    def strides(self) -> Triple:
        """Steps of the flat index along each axis."""
        _, ny, nx = self.padded
        return ny * nx, nx, 1

    def first(self, axis: int) -> Int32[Array, ""]:
        """Global coordinate of plane 0 of the padded block along an axis (may be negative)."""
        if not self.halo[axis]:
            return jnp.int32(0)
        start = block_index(self.blocks, axis) * self.block[axis]
        return start.astype(jnp.int32) - self.halo[axis]

    def pad(self, array: Array) -> Array:
        """The block with its halo. Axis by axis, each with the halo of those before it, so that
        edges and corners come along."""
        for axis, width in enumerate(self.halo):
            if width:
                ends = neighbour_planes(array, self.blocks, axis, self.periodic[axis], width)
                array = jnp.concatenate([ends[0], array, ends[1]], axis=axis)
        return array

    def refresh(self, padded: Array) -> Array:
        """The padded block with its halo replaced by what the neighbours hold now."""
        return self.pad(self.strip(padded))

    def strip(self, padded: Array) -> Array:
        """The block without its halo."""
        for axis, width in enumerate(self.halo):
            if width:
                end = width + self.block[axis]
                padded = jax.lax.slice_in_dim(padded, width, end, axis=axis)
        return padded

    def coordinates(self, index: Int32[Array, "N"]) -> tuple[Array, Array, Array]:
        """Global (z, y, x) of flat indices into the padded block."""
        _, ny, nx = self.padded
        row = index // nx
        return row // ny + self.first(0), row % ny + self.first(1), index % nx + self.first(2)

    def global_index(self, index: Int32[Array, "N"]) -> UInt32[Array, "N"]:
        """Flat index in the whole lattice: what random numbers are keyed by.

        Voxels of a periodic halo are wrapped, so that both owners of a pair agree."""
        if not any(self.halo):
            return index.astype(jnp.uint32)
        wrapped = (
            jnp.mod(place, extent) if width else place
            for place, extent, width in zip(
                self.coordinates(index), self.shape, self.halo, strict=True
            )
        )
        z, y, x = (place.astype(jnp.uint32) for place in wrapped)
        return (z * self.shape[1] + y) * self.shape[2] + x

    def start(self, axis: int) -> Int32[Array, ""]:
        """Global coordinate of plane 0 of the block without its halo."""
        return self.first(axis) + self.halo[axis]

    def of_block(self, index: Int32[Array, "N"]) -> UInt32[Array, "N"]:
        """Flat index in the whole lattice of flat indices into the block without its halo."""
        if not any(self.halo):
            return index.astype(jnp.uint32)
        _, ny, nx = self.block
        row = index // nx
        places = (row // ny, row % ny, index % nx)
        z, y, x = ((p + self.start(k)).astype(jnp.uint32) for k, p in enumerate(places))
        return (z * self.shape[1] + y) * self.shape[2] + x

    def own_index(self) -> UInt32[Array, "N"]:
        """Global indices of the voxels of this block without its halo, in order."""
        return self.of_block(jnp.arange(math.prod(self.block), dtype=jnp.int32))

    def owned(self, index: Int32[Array, "N"]) -> Bool[Array, "N"]:
        """Whether a voxel of the padded block belongs to this device (padding entries do not)."""
        inside = (index >= 0) & (index < self.size)
        for axis, (width, stride) in enumerate(zip(self.halo, self.strides, strict=True)):
            if width:
                place = index // stride if axis == 0 else index // stride % self.padded[axis]
                inside = inside & (place >= width) & (place < width + self.block[axis])
        return inside

    def neighbour(
        self,
        index: Int32[Array, "N"],
        coordinate: Int32[Array, "N"],
        axis: Int32[Array, ""] | int,
        direction: Int32[Array, "..."] | int,
    ) -> tuple[Int32[Array, "N"], Bool[Array, "N"]]:
        """Flat index of the neighbour at +1 or -1 along an axis, and whether there is one.

        `coordinate` is the voxel's global coordinate on that axis; `axis` and `direction` may be
        traced. Where there is none, the voxel's own index is returned.
        """
        extents = jnp.asarray(self.shape, jnp.int32)[axis]
        wraps = jnp.asarray(self.periodic)[axis]
        stride = jnp.asarray(self.strides, jnp.int32)[axis]
        target = coordinate + direction
        outside = (target < 0) | (target >= extents)
        # A halo already holds the wrapped voxel; without halo the index wraps.
        jumps = outside & (jnp.asarray(self.halo)[axis] == 0) if any(self.halo) else outside
        wrapped = index + stride * (direction - direction * extents * jumps)
        exists = (~outside | wraps) & (extents > 1)
        if any(self.halo):
            first = jnp.stack([self.first(k) for k in range(3)])[axis]
            last = jnp.asarray(np.array(self.padded) - 1, jnp.int32)[axis]
            place = target - first
            exists = exists & (jumps | ((place >= 0) & (place <= last)))
        return jnp.where(exists, wrapped, index), exists


def over_devices(
    collective: Callable, value: Array, region: Region, axes: tuple[int, ...] = (0, 1, 2)
) -> Array:
    """`psum`, `pmax` or `pmin` of a value over the blocks that lie along some axes."""
    names = region.blocks.mesh_axes(axes)
    return collective(value, names) if names else value


def touching(
    index: Int32[Array, "N"], region: Region
) -> tuple[Int32[Array, "6 N"], Bool[Array, "6 N"]]:
    """Flat indices of the six face neighbours of each voxel, and which of them exist."""
    coordinates = region.coordinates(index)
    found = [
        region.neighbour(index, coordinates[axis], axis, direction)
        for axis in range(3)
        for direction in (-1, 1)
    ]
    return jnp.stack([f[0] for f in found]), jnp.stack([f[1] for f in found])
