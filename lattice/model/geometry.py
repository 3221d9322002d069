"""Synthetic bone: the geometries that need no image.

Trabeculae are where two independent Gaussian random fields a and b, with wavelengths in a narrow
band, are both small: a^2 + PERFORATION b^2 below a threshold. One field alone, cut around its zero
level, gives curved plates (level-cut random waves: Berk, Phys. Rev. Lett. 58 (1987) 2718); the
second opens holes in them and turns their rims into rods, as in trabecular bone.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float32, Integer, UInt8
from scipy import ndimage
from scipy.fft import next_fast_len
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lattice.model.errors import InputError
from lattice.model.setting import Geometry, Lattice

__all__ = ["synthetic_bone"]

PERFORATION = 0.15
BANDWIDTH = 0.2
"""Standard deviation of the wave number, relative to its mean."""

FRACTIONS = (0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90)
THICKNESSES = (0.066, 0.096, 0.121, 0.146, 0.197, 0.254, 0.319, 0.397, 0.508, 0.671, 1.016)
"""Mean max-sphere thickness in wavelengths at each bone fraction, measured on such fields."""

_AXES = "xyz"
_TOUCHING = np.ones((3, 3, 3), bool)  # 26-connectivity


def synthetic_bone(geometry: Geometry, lattice: Lattice, seed: int) -> UInt8[np.ndarray, "Z Y X"]:
    """The bone that `geometry` describes on `lattice`: 1 in bone, 0 elsewhere.

    Trabecular bone has exactly the wanted fraction of voxels (and is one connected piece if
    `geometry.largest_component`) and, up to the sampling error of a box of few trabeculae, the
    wanted mean thickness; it depends on `seed`, and wraps where the lattice is periodic. Plates
    and rods are evenly spaced, rods in rows over the plane across their axis.

    Raises InputError for bone that does not fit into the lattice or is too thin for its voxels,
    and ValueError for an unknown kind.
    """
    makers = {
        "empty": lambda: np.zeros(lattice.shape[::-1], bool),
        "plate": lambda: _plates(geometry, lattice),
        "rod": lambda: _rods(geometry, lattice),
        "sphere": lambda: _sphere(geometry, lattice),
        "trabecular": lambda: _trabeculae(geometry, lattice, seed),
    }
    if geometry.kind not in makers:
        raise ValueError(f"{geometry.kind!r} is not a synthetic geometry")
    return makers[geometry.kind]().astype(np.uint8)


def _plates(geometry: Geometry, lattice: Lattice) -> Bool[np.ndarray, "Z Y X"]:
    length, voxel, axis = lattice.shape[geometry.axis], lattice.voxel, geometry.axis
    thickness = _length(geometry.thickness, "thickness", voxel)
    layers = round(thickness / voxel)
    if layers * geometry.count > length:
        raise InputError(
            f"geometry.thickness: {geometry.count} plate(s) of {thickness:g} um do not fit into "
            f"{length * voxel:g} um along {_AXES[axis]}; make them thinner or the lattice larger"
        )
    solid = np.zeros(length, bool)
    for centre in _centres(geometry.count, length):
        first = int(np.floor(centre - layers / 2 + 0.5))
        solid[first : first + layers] = True
    along = [1, 1, 1]
    along[2 - axis] = length
    return np.broadcast_to(solid.reshape(along), lattice.shape[::-1])


def _rods(geometry: Geometry, lattice: Lattice) -> Bool[np.ndarray, "Z Y X"]:
    voxel, axis = lattice.voxel, geometry.axis
    diameter = _length(geometry.thickness, "thickness", voxel) / voxel
    across = [i for i in range(3) if i != axis]
    width, height = (lattice.shape[i] for i in across)
    rows = max(1, round(np.sqrt(geometry.count * height / width)))
    sizes = [len(part) for part in np.array_split(np.arange(geometry.count), rows)]
    if diameter > height / rows or diameter > width / max(sizes):
        raise InputError(
            f"geometry.thickness: {geometry.count} rod(s) of {diameter * voxel:g} um do not fit "
            f"into {width * voxel:g} x {height * voxel:g} um across {_AXES[axis]}; make them "
            "thinner or the lattice larger"
        )
    places = {i: np.arange(lattice.shape[i]).reshape(_column(i)) + 0.5 for i in across}
    solid = np.zeros(lattice.shape[::-1], bool)
    for size, second in zip(sizes, _centres(rows, height), strict=True):
        for first in _centres(size, width):
            distance = (places[across[0]] - first) ** 2 + (places[across[1]] - second) ** 2
            solid |= distance <= diameter**2 / 4
    return solid


def _sphere(geometry: Geometry, lattice: Lattice) -> Bool[np.ndarray, "Z Y X"]:
    radius = _length(geometry.radius, "radius", lattice.voxel, least=1) / lattice.voxel
    smallest = min(lattice.shape)
    if 2 * radius > smallest:
        raise InputError(
            f"geometry.radius: a sphere of {radius * lattice.voxel:g} um does not fit into a "
            f"lattice that is {smallest * lattice.voxel:g} um wide; make it smaller or the lattice "
            "larger"
        )
    distance = np.zeros(lattice.shape[::-1])
    for i, n in enumerate(lattice.shape):
        distance += (np.arange(n).reshape(_column(i)) + 0.5 - n / 2) ** 2
    return distance <= radius**2


def _trabeculae(geometry: Geometry, lattice: Lattice, seed: int) -> Bool[np.ndarray, "Z Y X"]:
    voxel, (nx, ny, nz), (wraps_x, wraps_y, wraps_z) = (
        lattice.voxel,
        lattice.shape,
        lattice.periodic,
    )
    shape, periodic = (nz, ny, nx), (wraps_z, wraps_y, wraps_x)
    thickness = _length(geometry.thickness, "thickness", voxel)
    fraction = geometry.bone_fraction
    if fraction is None or not 0 < fraction < 1:
        raise InputError("geometry.bone_fraction: write a number between 0 and 1, such as 0.2")
    wavelength = thickness / float(np.interp(fraction, FRACTIONS, THICKNESSES))
    if wavelength > max(shape) * voxel:
        raise InputError(
            f"geometry.thickness: trabeculae of {thickness:g} um that fill {fraction:g} of the "
            f"lattice are {wavelength:.0f} um apart, but the lattice is only "
            f"{max(shape) * voxel:g} um wide; make them thinner or the lattice larger"
        )
    fields = (
        _band_limited_field(shape, periodic, wavelength / voxel, _random(seed, name))
        for name in ("trabecular.plates", "trabecular.perforation")
    )
    score = next(fields) ** 2 + np.float32(PERFORATION) * next(fields) ** 2
    rank = np.empty(score.size, np.int64)
    rank[np.argsort(score, axis=None, kind="stable")] = np.arange(score.size)
    rank = rank.reshape(shape)
    wanted = max(1, round(fraction * score.size))
    if not geometry.largest_component:
        return rank < wanted
    return _connected_piece(rank, wanted, periodic)


def _length(value: float | None, key: str, voxel: float, least: int = 2) -> float:
    """A length that the lattice can show: at least `least` voxels."""
    if value is None:
        raise InputError(f'geometry.{key}: this geometry needs a {key}; write a length, "50 um"')
    if value < least * voxel * (1 - 1e-9):
        raise InputError(
            f"geometry.{key}: {value:g} um is less than {least} voxel(s) of {voxel:g} um; "
            "make it larger or the voxels smaller"
        )
    return value


def _centres(count: int, length: int) -> Iterator[float]:
    return ((i + 0.5) * length / count for i in range(count))


def _column(axis: int) -> tuple[int, int, int]:
    """The shape that lays a vector along `axis` (0 = x) of an array [z, y, x]."""
    return tuple(-1 if i == 2 - axis else 1 for i in range(3))  # type: ignore[return-value]


def _random(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def _band_limited_field(
    shape: tuple[int, int, int],
    periodic: tuple[bool, bool, bool],
    wavelength: float,
    random: np.random.Generator,
) -> Float32[np.ndarray, "Z Y X"]:
    """A Gaussian random field of variance 1 with wave numbers around 1 / `wavelength` (voxels).

    It is made periodic; axes that are not are cut from a box that is longer by more than the
    field's memory, so that their two ends are independent.
    """
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


def _connected_piece(
    rank: Integer[np.ndarray, "Z Y X"], wanted: int, periodic: tuple[bool, bool, bool]
) -> Bool[np.ndarray, "Z Y X"]:
    """A connected piece of exactly `wanted` voxels, made of voxels of the lowest rank.

    The largest piece of {rank < r} grows with r; the last r before it is large enough is found by
    bisection. The rest is taken from the next one, layer by layer around what there is.
    """
    low = high = wanted
    while _largest_piece(rank < high, periodic).sum() < wanted:
        low, high = high, min(high + high // 8 + 1, rank.size)
    if low == high:  # in one piece from the start
        return rank < wanted
    while high - low > 1:
        middle = (low + high) // 2
        if _largest_piece(rank < middle, periodic).sum() < wanted:
            low = middle
        else:
            high = middle
    whole = _largest_piece(rank < high, periodic)
    piece = _largest_piece(whole & (rank < low), periodic)
    while (missing := wanted - int(piece.sum())) > 0:
        layer = _dilated(piece, periodic) & whole & ~piece
        ranks = np.sort(rank[layer])
        piece |= layer & (rank <= ranks[min(missing, ranks.size) - 1])
    return piece


def _largest_piece(
    mask: Bool[np.ndarray, "Z Y X"], periodic: tuple[bool, bool, bool]
) -> Bool[np.ndarray, "Z Y X"]:
    wrapped = _wrapped(mask, periodic)
    label = np.zeros(wrapped.shape, np.int32)
    ndimage.label(wrapped, _TOUCHING, output=label)
    inside = label[_core(periodic)]
    if any(periodic):
        # A voxel of the rim and the one it repeats belong to one piece.
        pairs = (label[wrapped], _wrapped(inside, periodic)[wrapped])
        size = int(label.max()) + 1
        graph = coo_array((np.ones(pairs[0].size, bool), pairs), shape=(size, size))
        inside = connected_components(graph, directed=False)[1][inside]
    sizes = np.bincount(inside[mask]) if mask.any() else np.zeros(1)
    return mask & (inside == np.argmax(sizes))


def _dilated(
    mask: Bool[np.ndarray, "Z Y X"], periodic: tuple[bool, bool, bool]
) -> Bool[np.ndarray, "Z Y X"]:
    return ndimage.binary_dilation(_wrapped(mask, periodic), _TOUCHING)[_core(periodic)]


def _wrapped(array: np.ndarray, periodic: tuple[bool, bool, bool]) -> np.ndarray:
    """`array` with a rim of one voxel that repeats the opposite side, on periodic axes."""
    return np.pad(array, [(int(wraps), int(wraps)) for wraps in periodic], mode="wrap")


def _core(periodic: tuple[bool, bool, bool]) -> tuple[slice, slice, slice]:
    """What `_wrapped` has put a rim around."""
    return tuple(slice(1, -1) if wraps else slice(None) for wraps in periodic)  # type: ignore
