"""Bone from three-dimensional images: TIFF, NRRD, MetaImage, NIfTI, NumPy and HDF5.

Every reader refuses a header that claims more data than the file can hold before it sets memory
aside. Arrays are ``[z, y, x]``.
"""

from __future__ import annotations

import logging
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

from lattice.io.optional import require
from lattice.io.segmentation import (
    Triple,
    largest_piece,
    nearest,
    otsu,
    resample,
    smoothed,
    touching,
)
from lattice.model.errors import InputError
from lattice.model.setting import Geometry, Lattice

TIFF_SUFFIXES = (".tif", ".tiff")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz")
HEADER_BYTES = 100_000  # more than any header of text has
META_WORD_BYTES = 79
COMPRESSION_LIMIT = 1100  # deflate, the strongest of the formats' methods, reaches 1032
MICROMETRES = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3}
MICROMETRES |= {"nm": 1e-3, "cm": 1e4, "\\u00b5m": 1.0, "micrometer": 1.0, "millimeter": 1e3}

# Without a handler of the user's, complaints about each tag would stand beside our one sentence.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Image:
    """Grey values ``[z, y, x]``, the size of a voxel ``(z, y, x)`` in um, and the file."""

    values: np.ndarray
    voxel_um: Triple
    source: Path


@dataclass(frozen=True)
class _Raw:
    values: np.ndarray
    voxel_um: Triple | None


def read_image(path: Path, voxel_um: float | None = None) -> Image:
    """Reads a grey image in three dimensions.

    `path` is a file, a folder of TIFF files (taken in natural order: 2 before 10), or
    ``file.h5:dataset``. `voxel_um` overrides what the file says. Raises InputError, with the
    key to set, for anything that cannot be used.
    """
    path = Path(path)
    file, dataset = _split_dataset(path)
    if not file.exists():
        raise InputError(
            f"geometry.image: {file} does not exist: give the path of an image, relative to the "
            "model file or absolute"
        )
    try:
        raw = _reader(file)(file, dataset)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"geometry.image: {path} does not fit into memory: crop it first"
        ) from error
    except Exception as error:  # a decoder may raise anything at all for a mangled file
        reason = str(error).strip().splitlines()
        raise InputError(
            f"geometry.image: {path} cannot be read ({reason[0] if reason else 'no reason given'})"
            ": give an intact image of one of the supported formats"
        ) from error
    return Image(_checked(raw.values, path), _voxel(raw, voxel_um, path), path)


def bone_from_image(geometry: Geometry, lattice: Lattice) -> np.ndarray:
    """The bone (uint8 ``[z, y, x]``) that a geometry of kind "image" puts on a lattice.

    Grey values are smoothed, then resampled (`segmentation.resample`), then compared with the
    threshold. What is about the image as a whole does not depend on the part taken: Otsu's
    threshold is that of the whole smoothed image, and with `largest_component` the part keeps
    the pieces that belong to the largest 26-connected piece of the whole image, joined inside
    the part or not. Raises InputError when the lattice reaches beyond the image or holds no bone.
    """
    if geometry.image is None:
        raise InputError('geometry.image: kind = "image" needs the path of an image')
    image = read_image(Path(geometry.image), geometry.image_voxel)
    nx, ny, nz = lattice.shape
    ox, oy, oz = geometry.image_origin
    shape, origin = (nz, ny, nx), (oz, oy, ox)
    _check_extent(image, origin, lattice)
    values = image.values
    if geometry.smooth > 0:
        values = smoothed(values, image.voxel_um, geometry.smooth)
    level = otsu(values) if geometry.threshold is None else geometry.threshold
    grey = resample(values, image.voxel_um, origin, lattice.voxel, shape)
    bone = grey > level
    if geometry.largest_component:
        whole = largest_piece(values > level)
        bone = touching(bone, nearest(whole, image.voxel_um, origin, lattice.voxel, shape))
    if not bone.any():
        raise InputError(
            f"geometry.threshold: {image.source} has no bone above {level:g} in the part taken "
            f"(grey values {grey.min():g} to {grey.max():g}): lower it or move image_origin"
        )
    return bone.astype(np.uint8)


def _check_extent(image: Image, origin: Triple, lattice: Lattice) -> None:
    tolerance = 1e-6 * lattice.voxel
    extent = [n * v for n, v in zip(image.values.shape, image.voxel_um, strict=True)]
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


def _split_dataset(path: Path) -> tuple[Path, str]:
    found = re.fullmatch(r"(.*\.(?:h5|hdf5|hdf)):(.*)", str(path), re.IGNORECASE)
    return (Path(found[1]), found[2]) if found else (path, "")


def _reader(path: Path) -> Callable[[Path, str], _Raw]:
    name = path.name.lower()
    if path.is_dir():
        return _read_tiff_folder
    if name.endswith(TIFF_SUFFIXES):
        return _read_tiff
    if name.endswith(ITK_SUFFIXES):
        return _read_itk
    if name.endswith(HDF5_SUFFIXES):
        return _read_hdf5
    if name.endswith(".npy"):
        return _read_numpy
    known = ", ".join((*TIFF_SUFFIXES, *ITK_SUFFIXES, ".npy", *HDF5_SUFFIXES))
    raise InputError(
        f"geometry.image: {path} has no known ending: use one of {known} or a folder of TIFF files"
    )


def _voxel(raw: _Raw, given: float | None, path: Path) -> Triple:
    size = None if given is None else float(given)
    voxel = raw.voxel_um if size is None else (size, size, size)
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


def _checked(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim != 3 or 0 in values.shape:
        raise InputError(
            f"geometry.image: {path} has the shape {list(values.shape)}: give a grey image with "
            "three axes"
        )
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind not in "uif":
        raise InputError(
            f"geometry.image: {path} holds values of type {values.dtype}: give a grey image"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(
            f"geometry.image: {path} holds values that are not finite: replace them first"
        )
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _refuse_absurd(path: Path, shape: Sequence[int], dtype: np.dtype, stored: int) -> None:
    """Refuses a header that claims more than its file, or this machine, can hold."""
    claimed = dtype.itemsize
    for n in shape:
        claimed *= int(n)
    if claimed > stored * COMPRESSION_LIMIT:
        raise InputError(
            f"geometry.image: the header of {path} claims {claimed:.3g} bytes in a file of "
            f"{stored}: give an intact image"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if claimed > memory:
        raise InputError(
            f"geometry.image: {path} needs {claimed / 1e9:.0f} GB and this machine has "
            f"{memory / 1e9:.0f}: crop the image first"
        )


def _read_numpy(path: Path, _: str) -> _Raw:
    # A mapped file is never larger than what is on the disk, whatever the header claims.
    return _Raw(np.array(np.load(path, mmap_mode="r", allow_pickle=False)), None)


def _page_offsets(path: Path) -> Iterator[int]:
    """Where the pages of a TIFF file stand, as far as their list can be followed."""
    with open(path, "rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        try:
            big = struct.unpack(order + "H", head[2:4])[0] == 43
            count, tag, link = ("Q", 20, "Q") if big else ("H", 12, "I")
            offset = struct.unpack_from(order + link, head, 8 if big else 4)[0]
            while offset:
                yield offset
                file.seek(offset)
                tags = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
                file.seek(tags * tag, os.SEEK_CUR)
                offset = struct.unpack(order + link, file.read(struct.calcsize(order + link)))[0]
        except (struct.error, OSError, OverflowError, ValueError):
            return


def _check_pages(path: Path) -> None:
    """Refuses a TIFF file whose list of pages leads back into itself: it is read for ever."""
    seen: set[int] = set()
    for offset in _page_offsets(path):
        if offset in seen:
            raise InputError(
                f"geometry.image: the list of pages of {path} leads back into itself: give an "
                "intact image"
            )
        seen.add(offset)


def _read_tiff(path: Path, _: str) -> _Raw:
    _check_pages(path)
    with tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise InputError(f"geometry.image: {path} holds no image: give an intact TIFF file")
        series = tiff.series[0]
        if series.dtype is None:
            raise InputError(f"geometry.image: {path} has pages of several kinds: give one stack")
        _refuse_absurd(path, series.shape, series.dtype, path.stat().st_size)
        return _Raw(np.asarray(series.asarray()), _tiff_voxel(tiff))


def _tiff_voxel(tiff: tifffile.TiffFile) -> Triple | None:
    """From ImageJ or OME metadata. The plain resolution tags are not trusted: most programs
    write a print resolution there, and they say nothing about z."""
    if tiff.ome_metadata:
        return _ome_voxel(tiff.ome_metadata)
    notes = tiff.imagej_metadata or {}
    scale = MICROMETRES.get(str(notes.get("unit", "")).strip().lower())
    tags = tiff.pages.first.tags
    if scale is None or "spacing" not in notes or "XResolution" not in tags:
        return None
    sizes = [tags[name].value for name in ("YResolution", "XResolution")]
    if any(pixels == 0 for pixels, _ in sizes):
        return None
    y, x = (scale * length / pixels for pixels, length in sizes)
    return (scale * float(notes["spacing"]), y, x)


def _ome_voxel(text: str) -> Triple | None:
    sizes = []
    for axis in "ZYX":
        size = re.search(rf'PhysicalSize{axis}="([^"]+)"', text)
        unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', text)
        scale = MICROMETRES.get(unit[1]) if unit else 1.0
        if size is None or scale is None:
            return None
        sizes.append(float(size[1]) * scale)
    return (sizes[0], sizes[1], sizes[2])


def _read_tiff_folder(path: Path, _: str) -> _Raw:
    files = [p for p in path.iterdir() if p.suffix.lower() in TIFF_SUFFIXES]
    files.sort(key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p.name)])
    if not files:
        raise InputError(f"geometry.image: the folder {path} holds no TIFF files: give another")
    first = _read_tiff(files[0], "").values
    stored = sum(p.stat().st_size for p in files)
    _refuse_absurd(path, (len(files), *first.shape), first.dtype, stored)
    stack = np.empty((len(files), *first.shape), first.dtype)
    for i, file in enumerate(files):
        page = _read_tiff(file, "").values
        if page.shape != first.shape or page.dtype != first.dtype:
            raise InputError(
                f"geometry.image: {file} differs from {files[0].name} in shape or type: keep one "
                "stack alone in a folder"
            )
        stack[i] = page
    return _Raw(stack, None)


def _read_hdf5(path: Path, name: str) -> _Raw:
    with h5py.File(path, "r", locking=False) as file:
        found: list[str] = []

        def visit(key: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim == 3:
                found.append(key)

        file.visititems(visit)
        if not name and len(found) == 1:
            name = found[0]
        if name.strip("/") not in found:
            raise InputError(
                f"geometry.image: {path} has no volume {name!r}: write {path.name}:DATASET with "
                f"one of {found or 'none at all'}"
            )
        dataset: Any = file[name]
        _refuse_absurd(path, dataset.shape, dataset.dtype, path.stat().st_size)
        # The attribute that ilastik, Fiji and BigDataViewer write, in the order of the axes.
        size: Any = dataset.attrs.get("element_size_um")
        if size is None or len(size) != 3:
            return _Raw(dataset[()], None)
        return _Raw(dataset[()], (float(size[0]), float(size[1]), float(size[2])))


def _read_itk(path: Path, _: str) -> _Raw:
    itk = require("SimpleITK", f"geometry.image: {path.name}", "images")
    _check_meta_image(path)
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetNumberOfComponents() != 1 or reader.GetDimension() != 3:
        raise InputError(f"geometry.image: {path} is not a grey image with three axes: convert it")
    pixel = itk.GetPixelIDValueAsString(reader.GetPixelID())
    bits = re.search(r"(\d+)-bit", pixel)
    width = int(bits[1]) // 8 if bits else 1
    _refuse_absurd(path, (*reader.GetSize(), width), np.dtype(np.uint8), _stored_bytes(path))
    image = reader.Execute()
    x, y, z = image.GetSpacing()
    # Writers that know nothing about the voxels leave the formats' default of 1 mm.
    voxel = None if (x, y, z) == (1.0, 1.0, 1.0) else (1e3 * z, 1e3 * y, 1e3 * x)
    return _Raw(itk.GetArrayFromImage(image), voxel)


def _check_meta_image(path: Path) -> None:
    """Refuses a MetaImage whose decoder would write beyond its own memory, so that the process
    dies: one of other than three axes, when the header claims very many, and one that lists data
    files, or gives a pattern of them, in longer words than the decoder has room for."""
    if path.suffix.lower() not in (".mha", ".mhd"):
        return
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    found = re.findall(rb"NDims\s*[=:]\s*([^\r\n]*)", head)
    if [axes.strip() for axes in found] != [b"3"]:
        raise InputError(f"geometry.image: {path} is not a grey image with three axes: convert it")
    for name in re.findall(rb"ElementDataFile\s*[=:]\s*([^\n]*)", head):
        words = name.split(b" ")
        if (b"%" in name or name.startswith(b"LIST")) and max(map(len, words)) > META_WORD_BYTES:
            raise InputError(
                f"geometry.image: {path} names its data files in more than {META_WORD_BYTES} "
                "characters: shorten the names"
            )


def _stored_bytes(path: Path) -> int:
    """Size of an image file and, for a header alone, of the data file beside it."""
    stored = path.stat().st_size
    if path.suffix.lower() in (".mhd", ".nhdr"):
        with open(path, encoding="latin-1") as file:
            head = file.read(HEADER_BYTES)
        found = re.search(r"^(?:ElementDataFile\s*=|data ?file:)\s*(\S+)", head, re.M | re.I)
        data = path.parent / found[1] if found else path.parent
        # A list or a pattern of files: the data are no larger than all that lies there.
        files = [data] if data.is_file() else [p for p in path.parent.iterdir() if p.is_file()]
        stored += sum(p.stat().st_size for p in files)
    return stored
