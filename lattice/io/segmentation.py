"""Grey values to bone: resampling, threshold, clean-up. Arrays are ``[z, y, x]``, lengths um."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, sparse

from lattice.model.errors import InputError

Triple = tuple[float, float, float]

OTSU_BINS = 256


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
    """The grey value that splits the histogram with the largest variance between the classes.

    Whole numbers of at most 16 bits have a bin each, other values 256 bins over their range.
    Otsu 1979, IEEE Trans. SMC 9, 62, equation 18. Raises InputError for an image of one value.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise InputError(
            f"the image has the one grey value {low:g}, so that Otsu finds no threshold: give "
            "another image or a threshold"
        )
    if values.dtype.kind in "ui" and high - low < 1 << 16:
        bins = int(high - low) + 1
        # Plane by plane: the count needs eight bytes for each value.
        planes = (
            np.bincount(p.ravel().astype(np.int64) - int(low), minlength=bins) for p in values
        )
        counts = sum(planes, np.zeros(bins))
        centres = low + np.arange(counts.size)
    else:
        found, edges = np.histogram(values, bins=OTSU_BINS, range=(low, high))
        counts, centres = found.astype(np.float64), (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    moment = np.cumsum(counts * centres)
    mean_below = moment[:-1] / below
    mean_above = (moment[-1] - moment[:-1]) / above
    between = below * above * (mean_below - mean_above) ** 2
    return float(centres[np.argmax(between)])


def largest_piece(bone: np.ndarray) -> np.ndarray:
    """The largest 26-connected piece of a mask; among equals the first in memory."""
    labels, count = _pieces(bone)
    if count <= 1:
        return bone
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == np.argmax(sizes)


def touching(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The 26-connected pieces of a mask that hold at least one voxel of `seeds`."""
    labels, count = _pieces(mask)
    kept = np.zeros(count + 1, bool)
    kept[labels[seeds]] = True
    kept[0] = False
    return kept[labels]


def _pieces(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """A number for each 26-connected piece, 0 outside, and how many there are."""
    found: Any = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return found


def smoothed(values: np.ndarray, voxel: Triple, deviation: float) -> np.ndarray:
    """Gaussian smoothing, float32; `deviation` is the standard deviation in um."""
    sigma = [deviation / v for v in voxel]
    return ndimage.gaussian_filter(values.astype(np.float32), sigma, mode="nearest")


def resample(
    values: np.ndarray, voxel: Triple, origin: Triple, spacing: float, shape: tuple[int, int, int]
) -> np.ndarray:
    """Grey values (float32) on a lattice of cubic voxels of edge `spacing` inside an image.

    `voxel`, `origin` (the lattice's corner in the image) and `shape` are ``(z, y, x)``. Along each
    axis a coarser voxel gets the mean over its length, which preserves the mean exactly and keeps
    fine structure from aliasing; a finer one is interpolated linearly at its centre. Equal voxels
    in place are left as they are.
    """
    result = values
    for axis in range(3):
        weights, first = _weights(
            values.shape[axis], voxel[axis], origin[axis], spacing, shape[axis]
        )
        part = np.moveaxis(result, axis, 0)[first : first + weights.shape[1]]
        flat = np.ascontiguousarray(part, dtype=np.float32).reshape(part.shape[0], -1)
        done = (weights @ flat).reshape(shape[axis], *part.shape[1:])
        result = np.moveaxis(done, 0, axis)
    return np.ascontiguousarray(result)


def nearest(
    values: np.ndarray, voxel: Triple, origin: Triple, spacing: float, shape: tuple[int, int, int]
) -> np.ndarray:
    """The values of the image voxels at the centres of the lattice voxels; see `resample`."""
    axes = zip(values.shape, voxel, origin, shape, strict=True)
    picks = [
        np.clip(((o + spacing * (np.arange(n) + 0.5)) / v).astype(int), 0, count - 1)
        for count, v, o, n in axes
    ]
    return values[np.ix_(*picks)]


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
