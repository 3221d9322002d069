"""Voxels in the order of a score, which is held slab by slab."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from lattice.model.planes import MakePlanes, Planes, Ranges

__all__ = ["Level", "Scores"]


class Level(NamedTuple):
    """Below it are the voxels of a lower score, and those of the same score before one of them."""

    score: np.float32
    place: int = 0

    def raised(self, steps: int) -> Level:
        """A higher one by some steps of a floating-point number; at most infinity."""
        bits = int(self.score.view(np.uint32)) + steps
        return _level(min(bits, int(np.float32(np.inf).view(np.uint32))))


def _level(bits: int) -> Level:
    return Level(np.uint32(bits).view(np.float32))


@dataclass(frozen=True)
class Scores:
    """Positive numbers (float32) by which voxels are ordered, the first in memory among equals."""

    values: Planes
    slabs: Ranges

    def below(self, level: Level) -> MakePlanes:
        """The mask of the voxels below a level."""
        return partial(self._below, level)

    def _below(self, level: Level, first: int, last: int) -> np.ndarray:
        values = self.values.read(first, last)
        chosen = values < level.score
        if level.place:
            tied = np.flatnonzero(values == level.score)
            before = tied + first * self.values.plane < level.place
            chosen.reshape(-1)[tied[before]] = True
        return chosen

    def lowest(self, count: int) -> Level:
        """The level below which there are so many voxels."""
        high, left = self._split(count, None)
        low, left = self._split(left, high)
        score = np.uint32((high << 16) + low).view(np.float32)
        for first, last in self.slabs:
            tied = np.flatnonzero(self.values.read(first, last) == score)
            if left <= tied.size:
                return Level(score, first * self.values.plane + int(tied[left - 1]) + 1)
            left -= tied.size
        raise ValueError(f"there are fewer voxels than {count}")

    def _split(self, count: int, high: int | None) -> tuple[int, int]:
        """The upper half of the bits of the voxel that has `count` - 1 lower ones, and how many of
        the `count` share it; or the lower half, among those with the upper half `high`."""
        bins = np.zeros(1 << 16, np.int64)
        for first, last in self.slabs:
            bits = self.values.read(first, last).view(np.uint32).reshape(-1)
            half = bits >> 16 if high is None else bits[bits >> 16 == high] & 0xFFFF
            bins += np.bincount(half, minlength=bins.size)
        up_to = np.cumsum(bins)
        found = int(np.searchsorted(up_to, count))
        return found, count - int(up_to[found] - bins[found])
