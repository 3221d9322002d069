"""Arrays in HDF5: chunks of a few planes, compressed, each with its checksum.

The deflate of HDF5 itself would take several times the processor time of all else that is written
beside a run. So the chunks are made here, with Intel's ISA-L, as HDF5's own filters would make them
(shuffle, deflate, Fletcher's checksum), and handed over as they are: any HDF5 library reads them.

Source: H5Zshuffle.c, H5Zdeflate.c, H5Zfletcher32.c and H5checksum.c of the HDF5 library.
"""

from __future__ import annotations

import h5py
import numpy as np
from isal import isal_zlib
from jaxtyping import Shaped

CHUNK_BYTES = 1 << 20
"""Aim for the size of one chunk: a few planes of a lattice of 128 cubed."""

LEVEL = 1
"""Of ISA-L: what it leaves is as small as at level 1 of zlib."""

BLOCK = 1 << 18
"""So many words of a checksum are added at once: their weighted sum is exact in a float64."""

WEIGHTS = np.arange(BLOCK, 0.0, -1.0)


def write_array(
    group: h5py.Group,
    name: str,
    array: Shaped[np.ndarray, "..."],
    compression: str,
    *,
    frames: bool = False,
    dividing: int | None = None,
) -> h5py.Dataset:
    """Write an array as a new dataset of the group, and return that.

    `compression` is "gzip", "lzf" or "none". `frames`: the first axis is time, not z. `dividing`: a
    number of planes that those of a chunk divide.
    """
    lead = int(frames)
    options = storage_options(array.shape, array.dtype, compression, lead, dividing)
    if options.get("compression") != "gzip":
        return group.create_dataset(name, data=array, **options)
    dataset = group.create_dataset(name, shape=array.shape, dtype=array.dtype, **options)
    assert dataset.chunks is not None
    planes, rest = dataset.chunks[lead], (0,) * (array.ndim - lead - 1)
    for frame in range(array.shape[0]) if frames else (None,):
        whole = array if frame is None else array[frame]
        for first in range(0, whole.shape[0], planes):
            at = (first, *rest) if frame is None else (frame, first, *rest)
            data = filtered(whole[first : first + planes], planes)
            dataset.id.write_direct_chunk(at, data)
    return dataset


def storage_options(
    shape: tuple[int, ...],
    dtype: np.dtype,
    compression: str,
    lead: int = 0,
    dividing: int | None = None,
) -> dict[str, object]:
    """Arguments of `create_dataset`: a few z planes a chunk, checksummed, compressed.

    `lead` axes stand before z; a chunk has one of each. Its planes divide the number `dividing`, if
    that is given. A number has no chunks.
    """
    if len(shape) <= lead or 0 in shape:
        return {}
    plane = int(np.prod(shape[lead + 1 :], dtype=np.int64)) * dtype.itemsize
    planes = max(1, min(shape[lead], CHUNK_BYTES // plane))
    if dividing is not None:
        planes = next(n for n in range(planes, 0, -1) if dividing % n == 0)
    options: dict[str, object] = {
        "chunks": (1,) * lead + (planes, *shape[lead + 1 :]),
        "fletcher32": True,
    }
    if compression != "none":
        options |= {"compression": compression, "shuffle": True}
    if compression == "gzip":
        options["compression_opts"] = LEVEL
    return options


def filtered(values: Shaped[np.ndarray, "planes *rest"], planes: int) -> bytes:
    """A chunk of so many planes as it lies in the file; zeros make up planes that are missing."""
    size = values.dtype.itemsize
    plain = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    missing = (planes - values.shape[0]) * (plain.size // values.shape[0])
    plain = np.pad(plain, (0, missing)) if missing else plain
    shuffled = np.ascontiguousarray(plain.reshape(-1, size).T)
    packed = isal_zlib.compress(shuffled, LEVEL)
    return packed + fletcher32(packed).to_bytes(4, "little")


def fletcher32(data: bytes) -> int:
    """Fletcher's checksum as HDF5 computes it: of big-endian words of 16 bits, modulo 65535, where
    65535 stands for a sum that is 0 only modulo that."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.float64)
    once = twice = 0
    for first in range(0, words.size, BLOCK):
        block = words[first : first + BLOCK]
        rest = words.size - first - block.size
        total = int(block.sum())
        once += total
        twice += int(block @ WEIGHTS[-block.size :]) + total * rest
    low, high = (s % 65535 or (65535 if s else 0) for s in (once, twice))
    return high << 16 | low
