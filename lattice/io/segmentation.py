"""Grey values to bone: resampling, threshold, clean-up. Arrays are ``[z, y, x]``, lengths um."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, sparse

from lattice.model.errors import InputError
from lattice.model.pieces import Pieces, find_pieces
from lattice.model.planes import MakePlanes, Ranges

Triple = tuple[float, float, float]

OTSU_BINS = 256
UNWRAPPED = (False, False, False)

TRUNCATED = 4.0
"""Standard deviations of a Gaussian at which smoothing ends."""


@dataclass(frozen=True)
class Segmentation:
    """Bone (uint8, 1 = bone) and the grey value above which a voxel is bone."""

    bone: np.ndarray
    threshold: float


def segment(
    values: np.ndarray, threshold: float | None = None, *, largest_component: bool = True
) -> Segmentation:
    """Bone is where the grey value is above the threshold (None: Otsu's of these values).

    `largest_component` keeps only the largest piece, voxels that share a corner being joined.
    Raises InputError when there is no contrast or no bone.
    """
    level = otsu(values) if threshold is None else float(threshold)
    bone = values > level
    if not bone.any():
        raise InputError(
            f"threshold = {level:g}: no voxel of the image is above it (its grey values go from "
            f'{values.min():g} to {values.max():g}): give a lower one or "otsu"'
        )
    if largest_component:
        bone = largest_piece(bone)
    return Segmentation(bone.astype(np.uint8), level)


def otsu(values: np.ndarray) -> float:
    """Otsu's threshold of an image that lies in memory; see `otsu_of`."""
    return otsu_of(lambda first, last: values[first:last], ((0, len(values)),))


def otsu_of(read: MakePlanes, slabs: Ranges) -> float:
    """The grey value that splits the histogram with the largest variance between the classes.

    Whole numbers of at most 16 bits have a bin each, other values 256 bins over their range.
    Otsu 1979, IEEE Trans. SMC 9, 62, equation 18. Raises InputError for an image of one value.
    """
    extremes = [(float(part.min()), float(part.max())) for part in _parts(read, slabs)]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    if low == high:
        raise InputError(
            f"the image has the one grey value {low:g}, so that Otsu finds no threshold: give "
            "another image or a threshold"
        )
    counts, centres = _histogram(read, slabs, low, high)
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    moment = np.cumsum(counts * centres)
    mean_below = moment[:-1] / below
    mean_above = (moment[-1] - moment[:-1]) / above
    between = below * above * (mean_below - mean_above) ** 2
    return float(centres[np.argmax(between)])


def _parts(read: MakePlanes, slabs: Ranges) -> Iterator[np.ndarray]:
    return (read(first, last) for first, last in slabs)


def _histogram(
    read: MakePlanes, slabs: Ranges, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """How many values each bin has, and the centres of the bins."""
    whole = read(0, 1).dtype.kind in "ui" and high - low < 1 << 16
    bins = int(high - low) + 1 if whole else OTSU_BINS
    counts, edges = np.zeros(bins), np.linspace(low, high, bins + 1)
    for part in _parts(read, slabs):
        if whole:  # plane by plane: the count needs eight bytes for each value
            for plane in part:
                counts += np.bincount(plane.ravel().astype(np.int64) - int(low), minlength=bins)
        else:
            found, edges = np.histogram(part, bins=bins, range=(low, high))
            counts += found
    return counts, low + np.arange(bins) if whole else (edges[1:] + edges[:-1]) / 2


def largest_piece(bone: np.ndarray) -> np.ndarray:
    """The largest 26-connected piece of a mask; among equals the first in memory."""
    slabs = ((0, len(bone)),)
    pieces = find_pieces(lambda first, last: bone[first:last], slabs, UNWRAPPED)
    return chosen(pieces, np.array([pieces.largest]))[pieces.slab(0)]


def chosen(pieces: Pieces, numbers: np.ndarray) -> np.ndarray:
    """Which numbers of pieces are among these; 0, which is none, is not."""
    kept = np.zeros(len(pieces.sizes), bool)
    kept[numbers] = True
    kept[0] = False
    return kept


def smoothed(values: np.ndarray, voxel: Triple, deviation: float) -> np.ndarray:
    """Gaussian smoothing, float32; `deviation` is the standard deviation in um."""
    sigma = [deviation / v for v in voxel]
    return ndimage.gaussian_filter(
        values.astype(np.float32), sigma, mode="nearest", truncate=TRUNCATED
    )


def reach(voxel: Triple, deviation: float) -> int:
    """How many planes away smoothing looks."""
    return int(TRUNCATED * deviation / voxel[0] + 0.5)


def resample(
    values: np.ndarray, voxel: Triple, origin: Triple, spacing: float, shape: tuple[int, int, int]
) -> np.ndarray:
    """Grey values on a lattice from an image that lies in memory; see `Resampling`."""
    found = Resampling(values.shape, voxel, origin, spacing, shape)
    return found.planes(lambda first, last: values[first:last], 0, shape[0])


class Resampling:
    """Grey values (float32) on a lattice of cubic voxels of edge `spacing` inside an image.

    `voxel`, `origin` (the lattice's corner in the image) and `shape` are ``(z, y, x)``; `extent` is
    the shape of the image. Along each axis a coarser voxel gets the mean over its length, which
    preserves the mean exactly and keeps fine structure from aliasing; a finer one is interpolated
    linearly at its centre. Equal voxels in place are left as they are.
    """

    def __init__(
        self,
        extent: tuple[int, ...],
        voxel: Triple,
        origin: Triple,
        spacing: float,
        shape: tuple[int, int, int],
    ) -> None:
        axes = list(zip(extent, voxel, origin, shape, strict=True))
        self._weights = [_weights(count, v, o, spacing, n) for count, v, o, n in axes]
        self._picks = [
            np.clip(((o + spacing * (np.arange(n) + 0.5)) / v).astype(int), 0, count - 1)
            for count, v, o, n in axes
        ]

    def planes(self, read: MakePlanes, first: int, last: int) -> np.ndarray:
        """Planes of the lattice, of an image whose planes `read` gives."""
        weights, begin = self._weights[0]
        rows = weights[first:last]
        low, high = int(rows.indices.min()), int(rows.indices.max()) + 1
        result = _along(read(begin + low, begin + high), 0, rows[:, low:high])
        for axis, (weights, begin) in enumerate(self._weights[1:], start=1):
            part = result[(slice(None),) * axis + (slice(begin, begin + weights.shape[1]),)]
            result = _along(part, axis, weights)
        return np.ascontiguousarray(result)

    def nearest(self, part: np.ndarray, first: int, last: int) -> tuple[int, np.ndarray]:
        """The planes of the lattice whose centres lie in the planes `first` to before `last` of the
        image, which are `part`: the number of the first one, and the values there."""
        z, y, x = self._picks
        low, high = np.searchsorted(z, [first, last])
        return int(low), part[np.ix_(z[low:high] - first, y, x)]


def _along(values: np.ndarray, axis: int, weights: Any) -> np.ndarray:
    """Weighted sums along one axis."""
    part = np.moveaxis(values, axis, 0)
    flat = np.ascontiguousarray(part, dtype=np.float32).reshape(part.shape[0], -1)
    return np.moveaxis((weights @ flat).reshape(weights.shape[0], *part.shape[1:]), 0, axis)


def _weights(
    count: int, voxel: float, origin: float, spacing: float, cells: int
) -> tuple[Any, int]:
    """Rows: lattice voxels; columns: the image voxels from `first` on that they need."""
    edges = (origin + spacing * np.arange(cells + 1)) / voxel
    if spacing >= voxel:
        rows, columns, weights = _overlaps(edges, count)
    else:
        centre = np.clip((edges[1:] + edges[:-1]) / 2 - 0.5, 0, count - 1)
        left = np.minimum(centre.astype(int), max(count - 2, 0))
        share = centre - left
        rows = np.tile(np.arange(cells), 2)
        columns = np.concatenate([left, np.minimum(left + 1, count - 1)])
        weights = np.concatenate([1 - share, share])
    first = int(columns.min())
    size = (cells, int(columns.max()) - first + 1)
    table = sparse.csr_array((weights.astype(np.float32), (rows, columns - first)), shape=size)
    return table, first


def _overlaps(edges: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much of each lattice voxel lies in each image voxel."""
    first = np.clip(np.floor(edges[:-1]).astype(int), 0, count - 1)
    span = int(np.ceil(np.diff(edges).max())) + 1
    columns = first[:, None] + np.arange(span)
    high = np.minimum(edges[1:, None], columns + 1)
    length = np.clip(high - np.maximum(edges[:-1, None], columns), 0, None)
    length[columns >= count] = 0
    keep = length > 0
    rows = np.broadcast_to(np.arange(len(first))[:, None], columns.shape)
    share = length / length.sum(axis=1, keepdims=True)
    return rows[keep], columns[keep], share[keep]
