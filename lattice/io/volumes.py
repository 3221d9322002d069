"""Three-dimensional images in files, read plane by plane where the format allows for it.

TIFF, a folder of TIFF files, NumPy and HDF5 files and uncompressed NRRD, MetaImage and NIfTI files
are read in parts; of TIFF files that are tiled in depth and compressed medical formats all is read
at once. Every reader refuses a header that claims more data than the file can hold before it sets
memory aside.
"""

from __future__ import annotations

import logging
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

from lattice.io.optional import require
from lattice.io.raw import Raw, raw_data
from lattice.io.segmentation import Triple
from lattice.model.errors import InputError
from lattice.model.planes import MakePlanes
from lattice.model.setting import file_and_volume

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
class Volume:
    """What a file holds: shape, type of the values, size of a voxel ``(z, y, x)`` in um or None,
    and how to read the values from a first plane to before a last one."""

    shape: tuple[int, ...]
    dtype: np.dtype
    voxel_um: Triple | None
    read: MakePlanes


def open_volume(path: Path) -> Volume:
    """Looks into a file, a folder of TIFF files, or ``file.h5:dataset``.

    Raises InputError for what is absent or claims too much, and whatever a decoder raises for a
    mangled file; so does `Volume.read`."""
    name, dataset = file_and_volume(str(path))
    file = Path(name)
    if not file.exists():
        raise InputError(
            f"geometry.image: {file} does not exist: give the path of an image, relative to the "
            "model file or absolute"
        )
    return _opener(file)(file, dataset)


def _opener(path: Path) -> Callable[[Path, str], Volume]:
    name = path.name.lower()
    if path.is_dir():
        return _tiff_folder
    if name.endswith(TIFF_SUFFIXES):
        return _tiff
    if name.endswith(ITK_SUFFIXES):
        return _itk
    if name.endswith(HDF5_SUFFIXES):
        return _hdf5
    if name.endswith(".npy"):
        return _numpy
    known = ", ".join((*TIFF_SUFFIXES, *ITK_SUFFIXES, ".npy", *HDF5_SUFFIXES))
    raise InputError(
        f"geometry.image: {path} has no known ending: use one of {known} or a folder of TIFF files"
    )


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


def _in_memory(values: np.ndarray, voxel: Triple | None) -> Volume:
    return Volume(values.shape, values.dtype, voxel, lambda first, last: values[first:last])


def _numpy(path: Path, _: str) -> Volume:
    # A mapped file is never larger than what is on the disk, whatever the header claims.
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return Volume(mapped.shape, mapped.dtype, None, partial(_numpy_planes, path))


def _numpy_planes(path: Path, first: int, last: int) -> np.ndarray:
    # Mapped anew each time: the pages of an open map stay in memory.
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[first:last])


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


def _tiff(path: Path, _: str) -> Volume:
    _check_pages(path)
    with tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise InputError(f"geometry.image: {path} holds no image: give an intact TIFF file")
        series = tiff.series[0]
        if series.dtype is None:
            raise InputError(f"geometry.image: {path} has pages of several kinds: give one stack")
        _refuse_absurd(path, series.shape, series.dtype, path.stat().st_size)
        voxel = _tiff_voxel(tiff)
        if len(series.shape) == 3 and series.dataoffset is not None:
            stored = Raw(path, series.dataoffset, series.dtype.newbyteorder(tiff.byteorder))
            return Volume(series.shape, series.dtype, voxel, stored.planes(series.shape))
        page = series.keyframe.shape
        if len(series.shape) == 3 and (len(series.pages), *page) == series.shape:
            return Volume(series.shape, series.dtype, voxel, partial(_tiff_planes, path, page))
        return _in_memory(np.asarray(series.asarray()), voxel)


def _tiff_planes(path: Path, page: tuple[int, ...], first: int, last: int) -> np.ndarray:
    with tifffile.TiffFile(path) as tiff:
        found = tiff.asarray(key=slice(first, last), series=0)
    return np.asarray(found).reshape(last - first, *page)


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


def _tiff_folder(path: Path, _: str) -> Volume:
    files = [p for p in path.iterdir() if p.suffix.lower() in TIFF_SUFFIXES]
    files.sort(key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p.name)])
    if not files:
        raise InputError(f"geometry.image: the folder {path} holds no TIFF files: give another")
    first = _tiff(files[0], "")
    stored = sum(p.stat().st_size for p in files)
    _refuse_absurd(path, (len(files), *first.shape), first.dtype, stored)
    shape = (len(files), *first.shape)
    return Volume(shape, first.dtype, None, partial(_folder_planes, files, first))


def _folder_planes(files: list[Path], like: Volume, first: int, last: int) -> np.ndarray:
    stack = np.empty((last - first, *like.shape), like.dtype)
    for i, file in enumerate(files[first:last]):
        page = _tiff(file, "")
        if page.shape != like.shape or page.dtype != like.dtype:
            raise InputError(
                f"geometry.image: {file} differs from {files[0].name} in shape or type: keep one "
                "stack alone in a folder"
            )
        stack[i] = page.read(0, page.shape[0])
    return stack


def _hdf5(path: Path, name: str) -> Volume:
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
        voxel = None
        if size is not None and len(size) == 3:
            voxel = (float(size[0]), float(size[1]), float(size[2]))
        return Volume(dataset.shape, dataset.dtype, voxel, partial(_hdf5_planes, path, name))


def _hdf5_planes(path: Path, name: str, first: int, last: int) -> np.ndarray:
    with h5py.File(path, "r", locking=False) as file:
        dataset: Any = file[name]
        return dataset[first:last]


def _itk(path: Path, _: str) -> Volume:
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
    shape = tuple(reader.GetSize())[::-1]
    _refuse_absurd(path, (*shape, width), np.dtype(np.uint8), _stored_bytes(path))
    x, y, z = reader.GetSpacing()
    # Writers that know nothing about the voxels leave the formats' default of 1 mm.
    voxel = None if (x, y, z) == (1.0, 1.0, 1.0) else (1e3 * z, 1e3 * y, 1e3 * x)
    stored = raw_data(path)
    if stored is not None and stored.dtype.itemsize == width:
        return Volume(shape, stored.dtype, voxel, stored.planes(shape))
    return _in_memory(itk.GetArrayFromImage(reader.Execute()), voxel)


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
