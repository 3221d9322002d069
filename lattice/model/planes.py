"""Arrays larger than memory: planes ``[z, y, x]`` that lie in memory or in a temporary file."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lattice.model.errors import StorageError

MEMORY = 2 << 30
"""Bytes that the making of a geometry takes at most, but for single planes of a lattice."""

BYTES_PER_VOXEL = 64
"""What the dearest step (transforms, numbers of pieces) takes for each voxel it looks at at once,
arrays kept in memory for the next step included."""

Shape = tuple[int, int, int]
Kind = type[np.generic] | np.dtype
Ranges = tuple[tuple[int, int], ...]
MakePlanes = Callable[[int, int], np.ndarray]
"""Makes the planes from a first one to before a last one."""


@dataclass(frozen=True)
class Workspace:
    """How many bytes of memory may be used, and the folder for temporary files (None: the one for
    temporary files of this machine, which TMPDIR names)."""

    memory: int = MEMORY
    folder: Path | None = None

    def slabs(self, shape: Shape, axis: int = 0) -> Ranges:
        """Ranges along an axis (0 = z) that together are the whole, each as much as may be worked
        on at once, or one plane."""
        count = shape[axis]
        plane = max(1, math.prod(shape) // max(1, count))
        thick = max(1, self.memory // (BYTES_PER_VOXEL * plane))
        return tuple((i, min(i + thick, count)) for i in range(0, count, thick))

    def planes(self, shape: Shape, dtype: Kind) -> Planes:
        """A new array: in memory if all of it may be worked on at once, else in a file.

        Raises StorageError if the folder has no room for it."""
        if not self.on_disk(shape, dtype):
            return Planes(shape, np.dtype(dtype), np.empty(shape, dtype))
        return Planes(shape, np.dtype(dtype), None, self.folder)

    def on_disk(self, shape: Shape, dtype: Kind) -> int:
        """Bytes of the file of such an array; 0 if it would lie in memory."""
        return 0 if len(self.slabs(shape)) <= 1 else math.prod(shape) * np.dtype(dtype).itemsize

    def filled(self, shape: Shape, make: MakePlanes, dtype: Kind) -> Planes:
        """A new array of the planes that `make` makes."""
        whole = self.planes(shape, dtype)
        for first, last in self.slabs(shape):
            whole.write(first, make(first, last))
        return whole


class Planes:
    """An array ``[z, y, x]`` in memory or in a temporary file; `Workspace.planes` makes it.

    The file has no name: it is gone with the last reference to the array, and with the process
    however that ends. What is read from memory is no copy. Writing raises StorageError.
    """

    def __init__(
        self, shape: Shape, dtype: np.dtype, memory: np.ndarray | None, folder: Path | None = None
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._memory = memory
        if memory is None:
            self._folder = folder
            try:
                file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115
                self._file = file.fileno()
                weakref.finalize(self, file.close)
                os.ftruncate(self._file, self.nbytes)
                room = os.fstatvfs(self._file)
            except OSError as error:
                raise self._refused(error.strerror or str(error)) from error
            if room.f_bavail * room.f_frsize < self.nbytes:
                raise self._refused("no space left")

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def plane(self) -> int:
        """Voxels of one plane."""
        return self.shape[1] * self.shape[2]

    def read(self, first: int, last: int) -> np.ndarray:
        """The planes from `first` to before `last`."""
        found = self.flat(first * self.plane, last * self.plane)
        return found.reshape(last - first, *self.shape[1:])

    def write(self, first: int, planes: np.ndarray) -> None:
        """Puts planes in place, from the plane `first` on."""
        if self._memory is not None:
            self._memory[first : first + len(planes)] = planes
        else:
            self._put(first * self.plane, planes)

    def read_rows(self, first: int, last: int) -> np.ndarray:
        """Of every plane the rows (y) from `first` to before `last`."""
        if self._memory is not None:
            return self._memory[:, first:last]
        rows = np.empty((self.shape[0], last - first, self.shape[2]), self.dtype)
        for z in range(self.shape[0]):
            rows[z] = self._rows(z, first, last)
        return rows

    def write_rows(self, first: int, rows: np.ndarray) -> None:
        """Puts rows in place in every plane, from the row `first` on."""
        if self._memory is not None:
            self._memory[:, first : first + rows.shape[1]] = rows
            return
        for z, part in enumerate(rows):
            self._put((z * self.shape[1] + first) * self.shape[2], part)

    def flat(self, first: int, last: int) -> np.ndarray:
        """Voxels in the order of memory, from `first` to before `last`."""
        if self._memory is not None:
            return self._memory.reshape(-1)[first:last]
        found = np.empty(last - first, self.dtype)
        left, place = found.view(np.uint8).data, first * self.dtype.itemsize
        while left:
            count = os.preadv(self._file, [left], place)
            left, place = left[count:], place + count
        return found

    def at(self, places: np.ndarray) -> np.ndarray:
        """The values of voxels, given by their indices in the order of memory."""
        found = np.empty(places.size, self.dtype)
        for z, chosen in self._by_plane(places):
            found[chosen] = self.flat(z * self.plane, (z + 1) * self.plane)[
                places[chosen] - z * self.plane
            ]
        return found

    def put_at(self, places: np.ndarray, value: int) -> None:
        """Gives voxels a value; see `at`."""
        for z, chosen in self._by_plane(places):
            plane = self.read(z, z + 1)
            plane.reshape(-1)[places[chosen] - z * self.plane] = value
            self.write(z, plane)

    def __getitem__(self, part: tuple[slice, ...]) -> np.ndarray:
        """A block, given by three slices without steps."""
        if self._memory is not None:
            return self._memory[part]
        z, y, x = (s.indices(n)[:2] for s, n in zip(part, self.shape, strict=True))
        block = np.empty([last - first for first, last in (z, y, x)], self.dtype)
        for i, plane in enumerate(range(*z)):
            block[i] = self._rows(plane, *y)[:, slice(*x)]
        return block

    def whole(self) -> np.ndarray:
        """All of it, in memory."""
        return self.read(0, self.shape[0])

    def _rows(self, z: int, first: int, last: int) -> np.ndarray:
        start, nx = z * self.shape[1], self.shape[2]
        return self.flat((start + first) * nx, (start + last) * nx).reshape(-1, nx)

    def _by_plane(self, places: np.ndarray):
        planes = places // self.plane
        return ((int(z), np.flatnonzero(planes == z)) for z in np.unique(planes))

    def _put(self, first: int, values: np.ndarray) -> None:
        packed = np.ascontiguousarray(values, self.dtype).reshape(-1)
        left, place = packed.view(np.uint8).data, first * self.dtype.itemsize
        try:
            while left:
                count = os.pwrite(self._file, left, place)
                left, place = left[count:], place + count
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from error

    def _refused(self, reason: str) -> StorageError:
        folder, other = self._folder, "write the run (--out) to another disk"
        if folder is None:
            folder, other = tempfile.gettempdir(), "let TMPDIR name a folder with more"
        return StorageError(
            f"{folder}: a temporary file of {self.nbytes / 1e9:.2g} GB for the geometry could not "
            f"be written ({reason}): make room there, or {other}"
        )
