"""Synthetic bone: the geometries that need no image.

Trabeculae are where two independent Gaussian random fields a and b, with wavelengths in a narrow
band, are both small: a^2 + PERFORATION b^2 below a threshold. One field alone, cut around its zero
level, gives curved plates (level-cut random waves: Berk, Phys. Rev. Lett. 58 (1987) 2718); the
second opens holes in them and turns their rims into rods, as in trabecular bone.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from lattice.model.errors import InputError
from lattice.model.growth import connected_piece
from lattice.model.pieces import Wraps
from lattice.model.planes import MakePlanes, Planes, Shape, Workspace
from lattice.model.scores import Scores
from lattice.model.setting import Geometry, Lattice
from lattice.model.waves import band_limited_field, box_of, spectrum_of

__all__ = ["synthetic_bone", "synthetic_planes", "temporary_bytes"]

PERFORATION = 0.15

FRACTIONS = (0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90)
THICKNESSES = (0.066, 0.096, 0.121, 0.146, 0.197, 0.254, 0.319, 0.397, 0.508, 0.671, 1.016)
"""Mean max-sphere thickness in wavelengths at each bone fraction, measured on such fields."""

_AXES = "xyz"


def synthetic_bone(geometry: Geometry, lattice: Lattice, seed: int) -> UInt8[np.ndarray, "Z Y X"]:
    """The bone that `geometry` describes on `lattice`: 1 in bone, 0 elsewhere.

    Trabecular bone has exactly the wanted fraction of voxels (and is one connected piece if
    `geometry.largest_component`) and, up to the sampling error of a box of few trabeculae, the
    wanted mean thickness; it depends on `seed`, and wraps where the lattice is periodic. Plates
    and rods are evenly spaced, rods in rows over the plane across their axis.

    Raises InputError for bone that does not fit into the lattice or is too thin for its voxels,
    StorageError without room for temporary files, and ValueError for an unknown kind.
    """
    return synthetic_planes(geometry, lattice, seed, Workspace()).whole()


def synthetic_planes(
    geometry: Geometry, lattice: Lattice, seed: int, workspace: Workspace
) -> Planes:
    """The same bone, made slab by slab: it never lies in memory as a whole unless `workspace`
    allows for that. The bits do not depend on the slabs."""
    if geometry.kind == "trabecular":
        return _trabeculae(geometry, lattice, seed, workspace)
    makers = {"empty": _nothing, "plate": _plates, "rod": _rods, "sphere": _sphere}
    if geometry.kind not in makers:
        raise ValueError(f"{geometry.kind!r} is not a synthetic geometry")
    solid = makers[geometry.kind](geometry, lattice)
    nx, ny, nz = lattice.shape
    return workspace.filled((nz, ny, nx), solid, np.uint8)


def temporary_bytes(geometry: Geometry, lattice: Lattice, workspace: Workspace) -> int:
    """The most bytes that temporary files take at one time while this bone is made."""
    (nx, ny, nz), (wraps_x, wraps_y, wraps_z) = lattice.shape, lattice.periodic
    shape = (nz, ny, nx)
    if geometry.kind != "trabecular":
        return workspace.on_disk(shape, np.uint8)
    wavelength = _fraction_and_wavelength(geometry, lattice)[1]
    box = box_of(shape, (wraps_z, wraps_y, wraps_x), wavelength)
    field = workspace.on_disk(spectrum_of(box), np.complex64) + workspace.on_disk(box, np.float32)
    return workspace.on_disk(shape, np.float32) + max(field, workspace.on_disk(shape, np.uint8))


def _nothing(_: Geometry, lattice: Lattice) -> MakePlanes:
    return lambda first, last: np.zeros((last - first, *lattice.shape[1::-1]), bool)


def _plates(geometry: Geometry, lattice: Lattice) -> MakePlanes:
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
    whole = np.broadcast_to(solid.reshape(_column(axis)), lattice.shape[::-1])
    return lambda first, last: whole[first:last]


def _rods(geometry: Geometry, lattice: Lattice) -> MakePlanes:
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

    def solid(first: int, last: int) -> np.ndarray:
        one, other = (_places(lattice, i, first, last) for i in across)
        found = np.zeros((last - first, *lattice.shape[1::-1]), bool)
        for size, level in zip(sizes, _centres(rows, height), strict=True):
            for centre in _centres(size, width):
                found |= (one - centre) ** 2 + (other - level) ** 2 <= diameter**2 / 4
        return found

    return solid


def _sphere(geometry: Geometry, lattice: Lattice) -> MakePlanes:
    radius = _length(geometry.radius, "radius", lattice.voxel, least=1) / lattice.voxel
    smallest = min(lattice.shape)
    if 2 * radius > smallest:
        raise InputError(
            f"geometry.radius: a sphere of {radius * lattice.voxel:g} um does not fit into a "
            f"lattice that is {smallest * lattice.voxel:g} um wide; make it smaller or the lattice "
            "larger"
        )

    def solid(first: int, last: int) -> np.ndarray:
        x, y, z = (
            (_places(lattice, i, first, last) - n / 2) ** 2 for i, n in enumerate(lattice.shape)
        )
        return x + y + z <= radius**2

    return solid


def _trabeculae(geometry: Geometry, lattice: Lattice, seed: int, workspace: Workspace) -> Planes:
    (nx, ny, nz), (wraps_x, wraps_y, wraps_z) = lattice.shape, lattice.periodic
    shape, periodic = (nz, ny, nx), (wraps_z, wraps_y, wraps_x)
    fraction, wavelength = _fraction_and_wavelength(geometry, lattice)
    scores = _scores(shape, periodic, wavelength, seed, workspace)
    wanted = max(1, round(fraction * (nz * ny * nx)))
    if geometry.largest_component:
        return connected_piece(scores, wanted, periodic, workspace)
    return workspace.filled(shape, scores.below(scores.lowest(wanted)), np.uint8)


def _fraction_and_wavelength(geometry: Geometry, lattice: Lattice) -> tuple[float, float]:
    """The share of the voxels that trabeculae take, and the wavelength (voxels) of the fields that
    give them the wanted thickness. Raises InputError."""
    thickness = _length(geometry.thickness, "thickness", lattice.voxel)
    fraction, width = geometry.bone_fraction, max(lattice.shape) * lattice.voxel
    if fraction is None or not 0 < fraction < 1:
        raise InputError("geometry.bone_fraction: write a number between 0 and 1, such as 0.2")
    wavelength = thickness / float(np.interp(fraction, FRACTIONS, THICKNESSES))
    if wavelength > width:
        raise InputError(
            f"geometry.thickness: trabeculae of {thickness:g} um that fill {fraction:g} of the "
            f"lattice are {wavelength:.0f} um apart, but the lattice is only {width:g} um wide; "
            "make them thinner or the lattice larger"
        )
    return fraction, wavelength / lattice.voxel


def _scores(
    shape: Shape, periodic: Wraps, wavelength: float, seed: int, workspace: Workspace
) -> Scores:
    """a^2 + PERFORATION b^2 of two fields with such a wavelength (voxels); see above."""
    slabs = workspace.slabs(shape)
    total = workspace.filled(shape, lambda i, j: np.zeros((j - i, *shape[1:])), np.float32)

    def add(name: str, share: float) -> None:
        field = band_limited_field(shape, periodic, wavelength, _random(seed, name), workspace)
        for first, last in slabs:
            square = field.normalised(first, last, shape) ** 2
            total.write(first, total.read(first, last) + np.float32(share) * square)

    add("trabecular.plates", 1.0)
    add("trabecular.perforation", PERFORATION)
    return Scores(total, slabs)


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


def _places(lattice: Lattice, axis: int, first: int, last: int) -> np.ndarray:
    """The centres (voxels) of some planes of a lattice along an axis (0 = x, 1 = y, 2 = z)."""
    along = np.arange(first, last) if axis == 2 else np.arange(lattice.shape[axis])
    return along.reshape(_column(axis)) + 0.5


def _column(axis: int) -> tuple[int, int, int]:
    """The shape that lays a vector along `axis` (0 = x) of an array [z, y, x]."""
    return tuple(-1 if i == 2 - axis else 1 for i in range(3))  # type: ignore[return-value]


def _random(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
