"""Bone from three-dimensional images: TIFF, NRRD, MetaImage, NIfTI, NumPy and HDF5.

Arrays are ``[z, y, x]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lattice.io.segmentation import (
    UNWRAPPED,
    Resampling,
    Triple,
    chosen,
    otsu_of,
    reach,
    smoothed,
)
from lattice.io.volumes import Volume, open_volume
from lattice.model.errors import InputError, OsteolatticeError
from lattice.model.pieces import find_pieces
from lattice.model.planes import Planes, Ranges, Workspace
from lattice.model.setting import Geometry, Lattice


@dataclass(frozen=True)
class Image:
    """Grey values ``[z, y, x]``, the size of a voxel ``(z, y, x)`` in um, and the file."""

    values: np.ndarray
    voxel_um: Triple
    source: Path


@dataclass(frozen=True)
class _Opened:
    volume: Volume
    voxel_um: Triple
    source: Path

    @property
    def dtype(self) -> np.dtype:
        """The type of the values that are read."""
        found = self.volume.dtype.newbyteorder("=")
        return np.dtype(np.uint8) if found.kind == "b" else found

    def read(self, first: int, last: int) -> np.ndarray:
        """Planes of grey values. Raises InputError."""
        with _explained(self.source):
            values = self.volume.read(first, last)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(
                f"geometry.image: {self.source} holds values that are not finite: replace them "
                "first"
            )
        return np.ascontiguousarray(values, self.dtype)


def read_image(path: Path, voxel_um: float | None = None) -> Image:
    """Reads a grey image in three dimensions.

    `path` is a file, a folder of TIFF files (taken in natural order: 2 before 10), or
    ``file.h5:dataset``. `voxel_um` overrides what the file says. Raises InputError, with the
    key to set, for anything that cannot be used.
    """
    image = _opened(Path(path), voxel_um)
    return Image(image.read(0, image.volume.shape[0]), image.voxel_um, image.source)


def planes_from_image(geometry: Geometry, lattice: Lattice, workspace: Workspace) -> Planes:
    """The bone (uint8) that a geometry of kind "image" puts on a lattice, made slab by slab.

    Grey values are smoothed, then resampled (`segmentation.Resampling`), then compared with the
    threshold. What is about the image as a whole does not depend on the part taken: Otsu's
    threshold is that of the whole smoothed image, and with `largest_component` the part keeps
    the pieces that belong to the largest 26-connected piece of the whole image, joined inside
    the part or not. Raises InputError when the lattice reaches beyond the image or holds no bone,
    StorageError without room for temporary files.
    """
    if geometry.image is None:
        raise InputError('geometry.image: kind = "image" needs the path of an image')
    image = _opened(Path(geometry.image), geometry.image_voxel)
    ox, oy, oz = geometry.image_origin
    _check_extent(image, (oz, oy, ox), lattice)
    grey = _grey(image, geometry.smooth, workspace)
    slabs = workspace.slabs(grey.shape)
    level = otsu_of(grey.read, slabs) if geometry.threshold is None else geometry.threshold
    nx, ny, nz = lattice.shape
    resampling = Resampling(grey.shape, image.voxel_um, (oz, oy, ox), lattice.voxel, (nz, ny, nx))
    bone, extremes = workspace.planes((nz, ny, nx), np.uint8), []
    for first, last in _lattice_slabs(image, lattice, workspace):
        part = resampling.planes(grey.read, first, last)
        bone.write(first, part > level)
        extremes += [float(part.min()), float(part.max())]
    if geometry.largest_component:
        _keep_largest(bone, grey, level, resampling, workspace)
    if not any(bone.read(i, j).any() for i, j in workspace.slabs(bone.shape)):
        raise InputError(
            f"geometry.threshold: {image.source} has no bone above {level:g} in the part taken "
            f"(grey values {min(extremes):g} to {max(extremes):g}): lower it or move image_origin"
        )
    return bone


def temporary_bytes(geometry: Geometry, lattice: Lattice, workspace: Workspace) -> int:
    """The most bytes that temporary files take at one time while this bone is made.
    Raises InputError."""
    image = _opened(Path(geometry.image or ""), geometry.image_voxel)
    (nx, ny, nz), (z, y, x) = lattice.shape, image.volume.shape
    kept = np.dtype(np.float32) if geometry.smooth > 0 else image.dtype
    bone = workspace.on_disk((nz, ny, nx), np.uint8)
    return workspace.on_disk((z, y, x), kept) + bone * (2 if geometry.largest_component else 1)


def _grey(image: _Opened, deviation: float, workspace: Workspace) -> Planes:
    """The whole image, smoothed (float32) if `deviation` (um) is not 0."""
    z, y, x = image.volume.shape
    if deviation <= 0:
        return workspace.filled((z, y, x), image.read, image.dtype)

    def make(first: int, last: int) -> np.ndarray:
        halo = reach(image.voxel_um, deviation)
        begin = max(0, first - halo)
        part = image.read(begin, min(z, last + halo))
        return smoothed(part, image.voxel_um, deviation)[first - begin : last - begin]

    return workspace.filled((z, y, x), make, np.float32)


def _lattice_slabs(image: _Opened, lattice: Lattice, workspace: Workspace) -> Ranges:
    """Slabs of the lattice with room beside them for the planes of the image that they take."""
    taken = max(1.0, lattice.voxel / image.voxel_um[0])
    _, y, x = image.volume.shape
    nx, ny, nz = lattice.shape
    return workspace.slabs((nz, 1, max(ny * nx, int(taken * y * x))))


def _keep_largest(
    bone: Planes, grey: Planes, level: float, resampling: Resampling, workspace: Workspace
) -> None:
    """Keeps the pieces of bone that belong to the largest piece of the image."""
    slabs, image_slabs = workspace.slabs(bone.shape), workspace.slabs(grey.shape)
    pieces = find_pieces(lambda i, j: grey.read(i, j) > level, image_slabs, UNWRAPPED)
    largest = chosen(pieces, np.array([pieces.largest]))
    within = workspace.planes(bone.shape, np.uint8)
    for index, (first, last) in enumerate(image_slabs):
        within.write(*resampling.nearest(largest[pieces.slab(index)], first, last))
    parts = find_pieces(lambda i, j: bone.read(i, j) != 0, slabs, UNWRAPPED)
    met = [np.unique(parts.slab(k)[within.read(*slab) != 0]) for k, slab in enumerate(slabs)]
    kept = chosen(parts, np.concatenate(met))
    # Bone is read again where a slab is labelled, so it is replaced slab by slab, after its look.
    for index, (first, _) in enumerate(slabs):
        bone.write(first, kept[parts.slab(index)])


def _opened(path: Path, voxel_um: float | None) -> _Opened:
    with _explained(path):
        volume = open_volume(path)
    _check_kind(volume, path)
    return _Opened(volume, _voxel(volume, voxel_um, path), path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Puts what a decoder raises, which for a mangled file may be anything, into a sentence."""
    try:
        yield
    except OsteolatticeError:
        raise
    except MemoryError as error:
        raise InputError(
            f"geometry.image: {path} does not fit into memory: crop it first"
        ) from error
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise InputError(
            f"geometry.image: {path} cannot be read ({reason[0] if reason else 'no reason given'})"
            ": give an intact image of one of the supported formats"
        ) from error


def _check_extent(image: _Opened, origin: Triple, lattice: Lattice) -> None:
    tolerance = 1e-6 * lattice.voxel
    extent = [n * v for n, v in zip(image.volume.shape, image.voxel_um, strict=True)]
    room = [int((e - o + tolerance) // lattice.voxel) for e, o in zip(extent, origin, strict=True)]
    size = [f"{e:g}" for e in extent[::-1]]
    if min(origin) < 0 or min(room) < 1:
        raise InputError(
            f"geometry.image_origin: {image.source} is {' x '.join(size)} um (x, y, z) and the "
            "origin lies outside of it: give a corner inside"
        )
    if any(n > r for n, r in zip(lattice.shape[::-1], room, strict=True)):
        raise InputError(
            f"lattice.shape: {list(lattice.shape)} voxels of {lattice.voxel:g} um reach beyond "
            f"{image.source} ({' x '.join(size)} um): the largest shape from image_origin on is "
            f"{room[::-1]}"
        )


def _voxel(volume: Volume, given: float | None, path: Path) -> Triple:
    size = None if given is None else float(given)
    voxel = volume.voxel_um if size is None else (size, size, size)
    if voxel is None:
        raise InputError(
            f"geometry.image_voxel: {path} does not tell the size of its voxels: give it, for "
            'example image_voxel = "19.5 um"'
        )
    if not all(np.isfinite(v) and v > 0 for v in voxel):
        raise InputError(
            f"geometry.image_voxel: {path} has voxels of {voxel} um: give a positive length"
        )
    return voxel


def _check_kind(volume: Volume, path: Path) -> None:
    if len(volume.shape) != 3 or 0 in volume.shape:
        raise InputError(
            f"geometry.image: {path} has the shape {list(volume.shape)}: give a grey image with "
            "three axes"
        )
    if volume.dtype.kind not in "buif":
        raise InputError(
            f"geometry.image: {path} holds values of type {volume.dtype}: give a grey image"
        )
