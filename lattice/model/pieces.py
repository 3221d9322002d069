"""Connected pieces of a mask ``[z, y, x]`` that is looked at slab by slab.

Voxels that share a corner are connected, also across the sides of a lattice that wraps. Each slab
is labelled by itself; labels that meet at a seam are one piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lattice.model.planes import MakePlanes, Ranges

__all__ = ["NEIGHBOURS", "Pieces", "find_pieces", "joined", "wrapped_planes"]

_TOUCHING = np.ones((3, 3, 3), bool)

NEIGHBOURS = np.array([d for d in np.ndindex(3, 3, 3) if d != (1, 1, 1)]) - 1
"""Steps (z, y, x) to the 26 voxels that share at least a corner with one."""

Wraps = tuple[bool, bool, bool]


@dataclass(frozen=True)
class Pieces:
    """The pieces of a mask, numbered from 1 in the order of their first voxels in memory.

    `sizes`: voxels of each; that of number 0, which is no piece, is 0."""

    sizes: np.ndarray
    _mask: MakePlanes
    _slabs: Ranges
    _numbers: tuple[np.ndarray, ...]  # label in a slab -> number

    @property
    def largest(self) -> int:
        """The number of the largest piece, of the first one among equals; 0 if there is none."""
        return int(np.argmax(self.sizes))

    def slab(self, index: int) -> np.ndarray:
        """The number of the piece (0: none) at each voxel of a slab."""
        first, last = self._slabs[index]
        return self._numbers[index][_labelled(self._mask(first, last))[0]]


def find_pieces(mask: MakePlanes, slabs: Ranges, periodic: Wraps) -> Pieces:
    """The pieces of a mask. `mask` is asked again whenever a slab is looked at."""
    counts, starts, seams = [np.zeros(1, np.int64)], [0], []
    top = bottom = np.zeros((0, 0), np.int64)
    for first, last in slabs:
        label, count = _labelled(mask(first, last))
        counts.append(np.bincount(label.ravel(), minlength=count + 1)[1:])
        begin = starts[-1]
        if periodic[1]:
            pairs = _meeting(label[:, -1], label[:, 0], (False, periodic[2]))
            seams.append(pairs + begin)
        if periodic[2]:
            pairs = _meeting(label[:, :, -1], label[:, :, 0], (False, periodic[1]))
            seams.append(pairs + begin)
        begins, ends = (np.where(p > 0, p + np.int64(begin), 0) for p in (label[0], label[-1]))
        if first > 0:
            seams.append(_meeting(bottom, begins, periodic[1:]))
        top, bottom = begins if first == 0 else top, ends
        starts.append(begin + count)
    if periodic[0]:
        seams.append(_meeting(bottom, top, periodic[1:]))
    pairs = np.concatenate([np.zeros((2, 0), np.int64), *seams], axis=1)
    number = joined(starts[-1] + 1, pairs)
    sizes = np.bincount(number, np.concatenate(counts)).astype(np.int64)
    ranges = pairwise(starts)
    tables = (np.concatenate([[0], number[i + 1 : j + 1]]).astype(np.int32) for i, j in ranges)
    return Pieces(sizes, mask, slabs, tuple(tables))


def joined(count: int, pairs: np.ndarray) -> np.ndarray:
    """For each of `count` nodes the number of the part of the graph that it belongs to, in the
    order of their first nodes. `pairs`: the edges, as two rows of nodes."""
    graph = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def wrapped_planes(planes: np.ndarray, wraps: tuple[bool, bool]) -> np.ndarray:
    """Planes with a rim of one voxel along the last two axes: the opposite side, or 0."""
    for axis, around in zip((-2, -1), wraps, strict=True):
        rim = [(0, 0)] * planes.ndim
        rim[axis] = (1, 1)
        planes = np.pad(planes, rim, mode="wrap" if around else "constant")
    return planes


def _labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    label = np.empty(mask.shape, np.int32)
    count: Any = ndimage.label(mask, _TOUCHING, output=label)
    return label, count


def _meeting(one: np.ndarray, other: np.ndarray, wraps: tuple[bool, bool]) -> np.ndarray:
    """The pairs of labels, as two rows, that meet where one plane lies on another."""
    rimmed, base = wrapped_planes(other, wraps), int(other.max()) + 1
    found = []
    for y, x in np.ndindex(3, 3):
        near = rimmed[y : y + one.shape[0], x : x + one.shape[1]]
        both = (one > 0) & (near > 0)
        found.append(one[both] * np.int64(base) + near[both])
    return np.stack(np.divmod(np.unique(np.concatenate(found)), base))
