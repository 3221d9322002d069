"""Local thickness: the widest sphere that lies inside a structure and holds a point.

Hildebrand and Rüegsegger, J. Microsc. 185 (1997) 67-75, "A new method for the model-independent
assessment of thickness in three-dimensional images". Spheres are fitted exactly, on a grid of
half voxels (so that plates of an even number of voxels are measured as well as odd ones), with the
distance ridge of Dougherty and Kunzelmann, Microsc. Microanal. 13 (2007) 1678: a sphere that lies
wholly inside a neighbour's is left out, which changes no result.
"""

from __future__ import annotations

from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

Border = Literal["visible", "mirror"]

HALF_GRID_LIMIT = 2**19
"""Structures of more voxels than this are measured on the grid of whole voxels, to bound time."""


class Thickness(NamedTuple):
    """Local thickness in voxels (0 outside the structure) and the ridge of the widest spheres."""

    local: Float32[np.ndarray, "Z Y X"]
    axis: Bool[np.ndarray, "Z Y X"]


def thickness(mask: Bool[np.ndarray, "Z Y X"], border: Border = "visible") -> Thickness:
    """The diameter, in voxels, of the widest sphere inside `mask` around each of its voxels.

    `border` says what is assumed behind the image's faces. "mirror": the structure is reflected
    there (a gap that the face cuts is read as twice its visible width, which is unbiased for a
    structure that goes on, and is what a distance map without padding does). "visible": where a
    structure runs into a face, no sphere is wider than what the image shows of it along that
    axis, so that a plate lying on the face has its own thickness and not twice that; a plate that
    the face crosses is unaffected in both readings.

    In structures of more than `HALF_GRID_LIMIT` voxels, widths of an even number of voxels read one
    voxel low. A structure without any background, mirrored, has no thickness: NaN.
    """
    factor = 2 if np.count_nonzero(mask) <= HALF_GRID_LIMIT else 1
    if border == "visible":
        return _measure(mask, factor, border)
    if mask.all():
        nowhere = np.full(mask.shape, np.nan, np.float32)
        return Thickness(nowhere, np.zeros(mask.shape, bool))
    inner = (slice(1, -1),) * 3
    found = _measure(np.pad(mask, 1, mode="symmetric"), factor, border)
    return Thickness(found.local[inner], found.axis[inner])


def _measure(mask: np.ndarray, factor: int, border: Border) -> Thickness:
    inside = _refine(mask) if factor == 2 else mask
    radius = _radius(mask, inside, factor)
    if border == "visible":
        _limit_at_border(radius, inside, factor)
    else:  # a sphere's centre may lie on a face, which is half a voxel from the reflected voxel
        for axis in range(3):
            np.moveaxis(radius, axis, 0)[[0, -1]] = 0
    centres = _ridge(radius, factor)
    widths = 2 * radius[tuple(centres.T)] / factor - 1
    local = _paint(radius, centres, mask, factor)
    return Thickness(local, _axis(centres, widths, local, mask, factor))


def _refine(mask: np.ndarray) -> np.ndarray:
    """`mask` on the points of the half grid: inside where every voxel that a point touches is."""
    for axis in range(3):
        mask = np.moveaxis(mask, axis, 0)
        fine = np.empty((2 * mask.shape[0] - 1, *mask.shape[1:]), bool)
        fine[::2] = mask
        np.logical_and(mask[1:], mask[:-1], out=fine[1::2])
        mask = np.moveaxis(fine, 0, axis)
    return np.ascontiguousarray(mask)


def _radius(mask: np.ndarray, inside: np.ndarray, factor: int) -> np.ndarray:
    """Distance, in grid points, to the mesh of the background's voxel centres."""
    if mask.all():
        return np.full(inside.shape, np.inf, np.float32)
    outside = _refine(~mask) if factor == 2 else ~mask
    radius = np.asarray(ndimage.distance_transform_edt(~outside), np.float32)
    radius[~inside] = 0
    return radius


def _limit_at_border(radius: np.ndarray, inside: np.ndarray, factor: int) -> None:
    """Where a line through a point is inside up to a face of the image: radius <= half of it."""
    for axis in range(3):
        line, limited = np.moveaxis(inside, axis, -1), np.moveaxis(radius, axis, -1)
        n = line.shape[-1]
        position = np.arange(n)
        full = line.all(-1)
        for step in (1, -1):
            run = np.where(full, n, np.argmin(line[..., ::step], axis=-1))
            width = (run + factor - 1) / factor
            bound = (factor * (width + 1) / 2).astype(np.float32)
            reached = position < run[..., None]
            view = limited[..., ::step]
            np.minimum(view, np.where(reached, bound[..., None], np.inf), out=view)


def _ridge(radius: np.ndarray, factor: int) -> np.ndarray:
    """The points (n, 3) whose sphere is not wholly inside the sphere of a neighbour.

    Containment is that of the sets of voxel centres: sphere p lies in sphere q = p + v if the
    farthest voxel centre of p is nearer to q than q's radius (Remy and Thiel, Pattern Recognit.
    Lett. 23 (2002) 649: a look-up table over squared radii, one for each v).
    """
    square = np.pad(np.rint(4 * radius.astype(np.float64) ** 2) / 4, 1)
    strides = np.array(square.strides) // square.itemsize
    flat = square.ravel()
    kept = []
    for parity in product(range(factor), repeat=3):
        own = square[1:-1, 1:-1, 1:-1][tuple(slice(p, None, factor) for p in parity)]
        points = factor * np.argwhere(own > 0) + np.array(parity)
        if len(points):
            kept.append(points[_widest(flat, strides, points, parity, factor)])
    return np.concatenate(kept) if kept else np.empty((0, 3), int)


def _widest(flat, strides, points, parity, factor) -> np.ndarray:
    """Indices of the points (all of one parity) that no neighbour's sphere contains."""
    where = (points + 1) @ strides
    own = flat[where]
    centres = _voxel_centres(parity, factor, own.max())
    square = (centres**2).sum(1)
    last = np.searchsorted(square, own) - 1
    alive = np.arange(len(points))
    for v in product((-1, 0, 1), repeat=3):
        if v == (0, 0, 0):
            continue
        farthest = np.maximum.accumulate(square - 2 * (centres @ v)) + np.dot(v, v)
        other, mine = flat[where[alive] + strides @ v], own[alive]
        contained = other > farthest[last[alive]]
        # of two equal spheres one stays: the one that comes first in the order of points
        alive = alive[~(contained & ((other > mine) | ((other == mine) & (v < (0, 0, 0)))))]
    return alive


def _voxel_centres(parity: tuple[int, ...], factor: int, square: float) -> np.ndarray:
    """Voxel centres relative to a point of this parity, by distance, out to a squared distance."""
    reach = int(np.ceil(np.sqrt(square)))
    axes = [
        np.array([s for s in range(-reach, reach + 1) if (s + p) % factor == 0]) for p in parity
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    distance = (grid**2).sum(1)
    near = np.flatnonzero(distance < square)
    return grid[near[np.argsort(distance[near], kind="stable")]]


def _paint(radius: np.ndarray, centres: np.ndarray, mask: np.ndarray, factor: int) -> np.ndarray:
    """Each voxel takes the diameter of the widest sphere that holds its centre."""
    local = np.where(mask, 2 * radius[::factor, ::factor, ::factor] / factor - 1, 0)
    local = local.astype(np.float32)
    if not len(centres):
        return local
    r = radius[tuple(centres.T)]
    parity = (centres % factor) @ (4, 2, 1)
    order = np.lexsort((parity, r))  # ascending, so that wider spheres are laid over narrower ones
    centres, r, parity = centres[order], r[order], parity[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(r) > 0) | (np.diff(parity) != 0)])
    # No wider than the image: what reaches farther is cut off by the margin's end.
    margin = min(int(np.ceil(r[-1] / factor)) + 1, max(mask.shape))
    wide = np.pad(local, margin)
    steps = np.array(wide.strides) // wide.itemsize
    for first, last in zip(starts, np.r_[starts[1:], len(r)], strict=True):
        ball = _ball(float(r[first]), centres[first] % factor, factor, margin)
        value = np.float32(2 * r[first] / factor - 1)
        _lay(wide.ravel(), (centres[first:last] // factor + margin) @ steps, ball @ steps, value)
    inner = tuple(slice(margin, margin + n) for n in mask.shape)
    return np.where(mask, wide[inner], np.float32(0))


def _ball(r: float, parity: np.ndarray, factor: int, margin: int) -> np.ndarray:
    """Voxels (n, 3), relative to that at or below the centre, that lie nearer to it than r grid
    points; none farther than the margin allows."""
    reach = min(int(np.ceil(r / factor)), margin - 1)
    steps = np.arange(-reach, reach + 2)
    z, y, x = ((factor * steps - p).astype(float) ** 2 for p in parity)
    return np.argwhere(z[:, None, None] + y[:, None] + x < r * r - 1e-3) - reach


def _lay(flat: np.ndarray, centres: np.ndarray, ball: np.ndarray, value: np.float32) -> None:
    """Writes `value` into the balls around all centres, some at a time."""
    few = max(1, 2**20 // len(ball))
    for first in range(0, len(centres), few):
        flat[centres[first : first + few, None] + ball] = value


def _axis(centres, widths, local, mask, factor) -> np.ndarray:
    """The voxels of the structure's mid-line or mid-surface.

    Ridge points whose own sphere is the widest (to within half a voxel) that holds them: the
    branches of the ridge that lead into corners and to bumps of the surface are not kept.
    """
    voxels = centres // factor
    main = widths >= local[tuple(voxels.T)] - 0.5
    axis = np.zeros(mask.shape, bool)
    axis[tuple(voxels[main].T)] = True
    return axis & mask


def mean_and_sd(
    local: Float[np.ndarray, "Z Y X"], mask: Bool[np.ndarray, "Z Y X"]
) -> tuple[float, float]:
    """Volume-weighted mean and standard deviation over the structure; NaN if it is empty."""
    inside = local[mask]
    if not inside.size:
        return float("nan"), float("nan")
    return float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
