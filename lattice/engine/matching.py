"""Neighbours of all voxels at once, for readings that hold a number in every voxel.

They are read by shifts of the lattice, never by lists of indices: the transpose of a shift is a
shift, while that of a gather is a scatter, which costs a CPU a hundred times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int32, Shaped

from lattice.engine.region import Region


def beside(
    values: Shaped[Array, "*R Z Y X"], region: Region, axis: int, direction: int
) -> Shaped[Array, "*R Z Y X"]:
    """The value of the neighbour at +1 or -1 along an axis (z, y, x), and 0 where there is none.

    The lattice is on one device."""
    place, extent = values.ndim - 3 + axis, region.shape[axis]
    if extent == 1:
        return jnp.zeros_like(values)
    if region.periodic[axis]:
        cut = 1 if direction > 0 else extent - 1
        parts = (
            lax.slice_in_dim(values, cut, extent, axis=place),
            lax.slice_in_dim(values, 0, cut, axis=place),
        )
        return jnp.concatenate(parts, axis=place)
    padding = [(0, 0, 0)] * values.ndim
    padding[place] = (-1, 1, 0) if direction > 0 else (1, -1, 0)
    return lax.pad(values, jnp.zeros((), values.dtype), padding)


def sum_beside(values: Shaped[Array, "Z Y X"], region: Region) -> Shaped[Array, "Z Y X"]:
    """The sum over the six face neighbours. As a map it is its own transpose: what each voxel gives
    to every neighbour arrives as this sum of what is given."""
    found = [beside(values, region, axis, way) for axis in range(3) for way in (-1, 1)]
    return sum(found[1:], found[0])


def rows_of(array: Shaped[Array, "R Z Y X"]) -> list[Shaped[Array, "Z Y X"]]:
    """The rows, so that what is derived with respect to them is put together once; the transpose of
    an index is a whole array for every use."""
    return [row[0] for row in lax.split(array, (1,) * array.shape[0])]


@dataclass(frozen=True)
class Matching:
    """Disjoint pairs of neighbours: voxels of even coordinate + parity along an axis are the
    `lower` ones. `code` = 2 axis + parity may be traced."""

    region: Region
    code: Int32[Array, ""]

    @property
    def lower(self) -> Bool[Array, "Z Y X"]:
        """Whether a voxel is the lower of its pair, or would be if it had a partner."""
        places = [lax.broadcasted_iota(jnp.int32, self.region.shape, axis) for axis in range(3)]
        return (lax.select_n(self.code // 2, *places) + self.code % 2) % 2 == 0

    def partner(self, values: Any) -> Any:
        """The values at every voxel's partner, and 0 where there is none: of an array whose last
        axes are [Z, Y, X], or of each array of a tree."""
        ways = [partial(self._partners, code) for code in range(6)]
        return lax.switch(self.code, ways, values)

    def _partners(self, code: int, values: Any) -> Any:
        return jax.tree.map(partial(self._partner, code), values)

    def _partner(self, code: int, values: Shaped[Array, "*R Z Y X"]) -> Shaped[Array, "*R Z Y X"]:
        (axis, parity), periodic = divmod(code, 2), self.region.periodic
        place, extent = values.ndim - 3 + axis, self.region.shape[axis]
        if extent == 1:
            return jnp.zeros_like(values)
        paired = (extent - parity) // 2 * 2
        inner = lax.slice_in_dim(values, parity, parity + paired, axis=place)
        # Exchanged by reversing pairs: masks would be kept for the way back.
        shape = inner.shape
        pairs = inner.reshape(*shape[:place], paired // 2, 2, *shape[place + 1 :])
        inner = lax.rev(pairs, (place + 1,)).reshape(shape)
        if parity and periodic[axis]:
            last, first = (lax.slice_in_dim(values, k, k + 1, axis=place) for k in (extent - 1, 0))
            return jnp.concatenate([last, inner, first], axis=place)
        padding = [(0, 0, 0)] * values.ndim
        padding[place] = (parity, extent - parity - paired, 0)
        return lax.pad(inner, jnp.zeros((), values.dtype), padding)
