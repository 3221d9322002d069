"""Where a voxel is and who its neighbours are, on one device or on a slab of many.

The step works on flat indices into a *padded slab*: the planes of this device and, when the
lattice is shared by several devices, `halo` planes of the neighbours on either side. On one
device there is no padding. Random numbers and parities use the global voxel index, so that the
same voxel draws the same numbers whatever the decomposition.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, UInt32

from lattice.kernels.halo import Slabs, neighbour_planes


@dataclass(frozen=True)
class Region:
    """A slab along z. `shape` is that of the whole lattice, (z, y, x), as is `periodic`."""

    shape: tuple[int, int, int]
    periodic: tuple[bool, bool, bool]
    slabs: Slabs = Slabs()  # noqa: RUF009  (frozen and hashable)

    @property
    def planes(self) -> int:
        """Planes of this slab without padding."""
        return self.shape[0] // self.slabs.count

    @property
    def halo(self) -> int:
        """Planes of padding on each side: a pair rule may read the neighbours of a partner."""
        return 2 if self.slabs.count > 1 else 0

    @property
    def padded(self) -> tuple[int, int, int]:
        """Shape of a padded slab."""
        return (self.planes + 2 * self.halo, *self.shape[1:])

    @property
    def size(self) -> int:
        """Voxels in a padded slab."""
        nz, ny, nx = self.padded
        return nz * ny * nx

    def first_plane(self) -> Int32[Array, ""]:
        """Global z of plane 0 of the padded slab (may be negative)."""
        if self.slabs.axis_name is None:
            return jnp.int32(0)
        start = jax.lax.axis_index(self.slabs.axis_name) * self.planes
        return start.astype(jnp.int32) - self.halo

    def pad(self, array: Array) -> Array:
        """The slab with its halo, planes along axis 0."""
        if not self.halo:
            return array
        below, above = [], []
        width = self.halo
        for k in range(width):
            # One plane at a time keeps one halo exchange for every kind of array.
            low, high = neighbour_planes(
                jax.lax.slice_in_dim(array, k, array.shape[0] - (width - 1 - k)),
                self.slabs,
                self.periodic[0],
            )
            below.append(low)
            above.append(high)
        return jnp.concatenate([*below, array, *above], axis=0)

    def refresh(self, padded: Array) -> Array:
        """The padded slab with its halo planes replaced by the neighbours' present ones."""
        if not self.halo:
            return padded
        return self.pad(self.strip(padded))

    def strip(self, padded: Array) -> Array:
        """The slab without its halo."""
        if not self.halo:
            return padded
        return jax.lax.slice_in_dim(padded, self.halo, self.halo + self.planes)

    def coordinates(self, index: Int32[Array, "N"]) -> tuple[Array, Array, Array]:
        """Global (z, y, x) of flat indices into the padded slab."""
        _, ny, nx = self.padded
        row = index // nx
        return row // ny + self.first_plane(), row % ny, index % nx

    def global_index(self, index: Int32[Array, "N"]) -> UInt32[Array, "N"]:
        """Flat index in the whole lattice: what random numbers are keyed by.

        Voxels of a periodic halo are wrapped, so that both owners of a pair agree."""
        _, ny, nx = self.shape
        if not self.halo:
            return index.astype(jnp.uint32)
        z, y, x = self.coordinates(index)
        z = jnp.mod(z, self.shape[0])
        return (z.astype(jnp.uint32) * ny + y.astype(jnp.uint32)) * nx + x.astype(jnp.uint32)

    def owned(self, index: Int32[Array, "N"]) -> Bool[Array, "N"]:
        """Whether a voxel of the padded slab belongs to this device (padding entries do not)."""
        plane = self.shape[1] * self.shape[2]
        low, high = self.halo * plane, (self.halo + self.planes) * plane
        return (index >= low) & (index < high)

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
        _, ny, nx = self.padded
        extents = jnp.asarray(self.shape, jnp.int32)[axis]
        wraps = jnp.asarray(self.periodic)[axis]
        stride = jnp.asarray([ny * nx, nx, 1], jnp.int32)[axis]
        target = coordinate + direction
        outside = (target < 0) | (target >= extents)
        # In z a halo plane already holds the wrapped voxel; without halo the index wraps.
        jumps = outside & ((jnp.asarray(axis) != 0) | (self.halo == 0))
        wrapped = index + stride * (direction - direction * extents * jumps)
        exists = (~outside | wraps) & (extents > 1)
        if self.halo:
            exists = exists & (wrapped >= 0) & (wrapped < self.size)
        return jnp.where(exists, wrapped, index), exists


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
