"""Trabeculae made of whole arrays: the reference that slabs must agree with, bit for bit."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.fft import next_fast_len
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lattice.model.geometry import FRACTIONS, PERFORATION, THICKNESSES, _random
from lattice.model.setting import Geometry, Lattice
from lattice.model.waves import BANDWIDTH

TOUCHING = np.ones((3, 3, 3), bool)


def trabeculae(geometry: Geometry, lattice: Lattice, seed: int) -> np.ndarray:
    shape, periodic = lattice.shape[::-1], lattice.periodic[::-1]
    fraction = geometry.bone_fraction
    wavelength = geometry.thickness / float(np.interp(fraction, FRACTIONS, THICKNESSES))
    fields = (
        band_limited_field(shape, periodic, wavelength / lattice.voxel, _random(seed, name))
        for name in ("trabecular.plates", "trabecular.perforation")
    )
    rank = ranked(next(fields) ** 2 + np.float32(PERFORATION) * next(fields) ** 2)
    wanted = max(1, round(fraction * rank.size))
    if not geometry.largest_component:
        return rank < wanted
    return connected_piece(rank, wanted, periodic)


def ranked(score: np.ndarray) -> np.ndarray:
    rank = np.empty(score.size, np.int64)
    rank[np.argsort(score, axis=None, kind="stable")] = np.arange(score.size)
    return rank.reshape(score.shape)


def band_limited_field(
    shape: tuple[int, int, int],
    periodic: tuple[bool, bool, bool],
    wavelength: float,
    random: np.random.Generator,
) -> np.ndarray:
    margin = round(1.5 * wavelength)
    box = tuple(
        n if wraps else int(next_fast_len(n + margin, real=True) or n + margin)
        for n, wraps in zip(shape, periodic, strict=True)
    )
    waves = [np.fft.fftfreq(n) for n in box[:2]] + [np.fft.rfftfreq(box[2])]
    square = sum(k**2 for k in np.meshgrid(*waves, indexing="ij", sparse=True))
    weight = np.exp(-0.5 * ((np.sqrt(square) * wavelength - 1) / BANDWIDTH) ** 2)
    weight[0, 0, 0] = 0
    noise = np.fft.rfftn(random.standard_normal(box, dtype=np.float32))
    field = np.fft.irfftn(noise * weight.astype(np.float32), s=box, axes=(0, 1, 2))
    return (field / field.std())[: shape[0], : shape[1], : shape[2]]


def connected_piece(rank: np.ndarray, wanted: int, periodic: tuple[bool, bool, bool]) -> np.ndarray:
    """A connected piece of exactly `wanted` voxels, made of voxels of the lowest rank.

    The largest piece of {rank < r} grows with r; the last r before it is large enough is found by
    bisection. The rest is taken from the next one, layer by layer around what there is.
    """
    low = high = wanted
    while largest_piece(rank < high, periodic).sum() < wanted:
        low, high = high, min(high + high // 8 + 1, rank.size)
    if low == high:  # in one piece from the start
        return rank < wanted
    while high - low > 1:
        middle = (low + high) // 2
        if largest_piece(rank < middle, periodic).sum() < wanted:
            low = middle
        else:
            high = middle
    whole = largest_piece(rank < high, periodic)
    piece = largest_piece(whole & (rank < low), periodic)
    while (missing := wanted - int(piece.sum())) > 0:
        layer = _dilated(piece, periodic) & whole & ~piece
        ranks = np.sort(rank[layer])
        piece |= layer & (rank <= ranks[min(missing, ranks.size) - 1])
    return piece


def largest_piece(mask: np.ndarray, periodic: tuple[bool, bool, bool]) -> np.ndarray:
    wrapped = _wrapped(mask, periodic)
    label = np.zeros(wrapped.shape, np.int32)
    ndimage.label(wrapped, TOUCHING, output=label)
    inside = label[_core(periodic)]
    if any(periodic):
        # A voxel of the rim and the one it repeats belong to one piece.
        pairs = (label[wrapped], _wrapped(inside, periodic)[wrapped])
        size = int(label.max()) + 1
        graph = coo_array((np.ones(pairs[0].size, bool), pairs), shape=(size, size))
        inside = connected_components(graph, directed=False)[1][inside]
    sizes = np.bincount(inside[mask]) if mask.any() else np.zeros(1)
    return mask & (inside == np.argmax(sizes))


def _dilated(mask: np.ndarray, periodic: tuple[bool, bool, bool]) -> np.ndarray:
    return ndimage.binary_dilation(_wrapped(mask, periodic), TOUCHING)[_core(periodic)]


def _wrapped(array: np.ndarray, periodic: tuple[bool, bool, bool]) -> np.ndarray:
    """`array` with a rim of one voxel that repeats the opposite side, on periodic axes."""
    return np.pad(array, [(int(wraps), int(wraps)) for wraps in periodic], mode="wrap")


def _core(periodic: tuple[bool, bool, bool]) -> tuple[slice, slice, slice]:
    """What `_wrapped` has put a rim around."""
    return tuple(slice(1, -1) if wraps else slice(None) for wraps in periodic)  # type: ignore
