"""Medical images whose values lie uncompressed in a file: where, and of which type.

Only headers whose every word about the values is understood are; all others are left to SimpleITK.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lattice.model.planes import MakePlanes

HEADER_BYTES = 100_000  # more than any header of text has

_NRRD = {"signed char": "i1", "int8": "i1", "int8_t": "i1", "uchar": "u1", "unsigned char": "u1"}
_NRRD |= {"uint8": "u1", "uint8_t": "u1", "short": "i2", "int16": "i2", "ushort": "u2"}
_NRRD |= {"unsigned short": "u2", "uint16": "u2", "int": "i4", "uint": "u4", "unsigned int": "u4"}
_NRRD |= {"float": "f4", "double": "f8"}
_META = {"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"}
_META |= {"MET_INT": "i4", "MET_UINT": "u4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
_NIFTI = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}


@dataclass(frozen=True)
class Raw:
    """Values that lie in a file as in memory, from a byte on."""

    file: Path
    offset: int
    dtype: np.dtype

    def planes(self, shape: tuple[int, ...]) -> MakePlanes:
        """What reads planes of an array of that shape."""
        return partial(self._read, shape)

    def _read(self, shape: tuple[int, ...], first: int, last: int) -> np.ndarray:
        plane = math.prod(shape[1:])
        place = self.offset + first * plane * self.dtype.itemsize
        count = (last - first) * plane
        if self.file.stat().st_size < place + count * self.dtype.itemsize:
            raise EOFError("it ends too early")
        values = np.fromfile(self.file, self.dtype, count, offset=place)
        return values.reshape(last - first, *shape[1:])


def raw_data(path: Path) -> Raw | None:
    """Where the values of an NRRD, MetaImage or NIfTI file lie; None if they must be decoded."""
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    name = path.name.lower()
    if name.endswith((".nrrd", ".nhdr")):
        return _nrrd(path, head)
    if name.endswith((".mha", ".mhd")):
        return _meta(path, head)
    return _nifti(path, head) if name.endswith(".nii") else None


def _nrrd(path: Path, head: bytes) -> Raw | None:
    end = re.search(rb"\r?\n\r?\n", head)
    text = head[: end.start() if end else len(head)].decode("latin-1")
    keys = dict(re.findall(r"^([a-z ]+): *(.*?)\s*$", text, re.M | re.I))
    kind, skips = (
        _NRRD.get(keys.get("type", "")),
        {"byte skip", "line skip", "byteskip", "lineskip"},
    )
    if kind is None or keys.get("encoding") != "raw" or skips & keys.keys():
        return None
    if kind[1] != "1" and keys.get("endian") not in ("little", "big"):
        return None
    dtype = np.dtype((">" if keys.get("endian") == "big" else "<") + kind)
    beside = keys.get("data file", keys.get("datafile"))
    if beside is None:
        return Raw(path, end.end(), dtype) if end else None
    return _beside(path, beside, dtype)


def _meta(path: Path, head: bytes) -> Raw | None:
    end = re.search(rb"^ElementDataFile\s*=\s*(\S+)[ \t]*\r?\n?", head, re.M)
    if end is None:
        return None
    text = head[: end.start()].decode("latin-1")
    keys = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", text, re.M))
    kind = _META.get(keys.get("ElementType", ""))
    shifted = any(key.startswith(("ElementToIntensity", "HeaderSize")) for key in keys)
    plain = keys.get("CompressedData", "False"), keys.get("BinaryData", "True")
    if kind is None or shifted or plain != ("False", "True"):
        return None
    order = keys.get("BinaryDataByteOrderMSB", keys.get("ElementByteOrderMSB", "False"))
    dtype = np.dtype((">" if order == "True" else "<") + kind)
    beside = end[1].decode("latin-1")
    return Raw(path, end.end(), dtype) if beside == "LOCAL" else _beside(path, beside, dtype)


def _nifti(path: Path, head: bytes) -> Raw | None:
    if len(head) < 352 or head[344:348] != b"n+1\0":
        return None
    order = "<" if head[:4] == struct.pack("<i", 348) else ">"
    (kind,) = struct.unpack_from(order + "h", head, 70)
    offset, slope, shift = struct.unpack_from(order + "3f", head, 108)
    if kind not in _NIFTI or (slope, shift) not in ((0.0, 0.0), (1.0, 0.0)):
        return None
    return Raw(path, int(offset), np.dtype(order + _NIFTI[kind]))


def _beside(path: Path, name: str, dtype: np.dtype) -> Raw | None:
    """Values in one file of their own; None for a list or a pattern of files."""
    file = path.parent / name
    return Raw(file, 0, dtype) if file.is_file() else None
