"""Checkpoints of many processes: each writes the block that it holds, the first one the master.

A part is a sealed file of its own, ``step-<9 digits>.part-<i>-of-<n>.<attempt>.h5``, with the
same groups as a checkpoint: the voxels [z0:z1, y0:y1, x0:x1] of each array, whose lowest corner
``/first`` tells (one number, z0, in those of programs that divided z alone). The master,
``step-<9 digits>.h5``, holds manifest, configuration and small arrays, shows the others as virtual
datasets, and lists the parts with length and SHA-256. It is written when all parts are complete, so
a checkpoint without it never was.

The processes share a folder and nothing else here: the first one waits until the parts appear.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lattice.engine.layout import AXES
from lattice.io.datasets import write_array
from lattice.io.files import StorageError, dataset_in, new_hdf5, replacing, text_in
from lattice.io.seal import SEAL_BYTES, Damage, check_seal, write_seal
from lattice.model.errors import InputError

PATIENCE = 600.0
"""Seconds that the first process waits for the parts of the others."""

PART = re.compile(r"\.?step-(\d{9,})\.part-\d+-of-\d+\.[0-9a-f]+\.h5(\.part)?")


@dataclass(frozen=True)
class Share:
    """The block that one of several processes holds: which process it is, of how many, where its
    block begins (z, y, x), the shape of the lattice (z, y, x), and a number that all processes of
    this attempt share (files of an earlier attempt at the same step are not mistaken for its
    own)."""

    index: int
    count: int
    first: tuple[int, ...]
    shape: tuple[int, int, int]
    attempt: int

    def name(self, step: int, index: int | None = None) -> str:
        """The name of the part of a process (this one's own if not said)."""
        i = self.index if index is None else index
        return f"step-{step:09d}.part-{i}-of-{self.count}.{self.attempt:x}.h5"


def is_shared(dims: tuple[str, ...]) -> bool:
    """Whether an array of these axes lies in parts."""
    return any(axis in dims for axis in AXES)


def is_written(first: Sequence[int], dims: tuple[str, ...]) -> bool:
    """Whether a part that begins there holds an array of these axes: of what is the same for all
    blocks along an axis, the first of them does."""
    return all(axis in dims or begin == 0 for axis, begin in zip(AXES, first, strict=True))


def write_part(
    folder: Path,
    share: Share,
    step: int,
    arrays: Mapping[str, np.ndarray],
    dims: Mapping[str, tuple[str, ...]],
    compression: str,
) -> Path:
    """Write the block of this process, by full names such as ``state/cells``; `dims` names the axes
    of each array.

    Raises StorageError when the disk refuses."""
    path = folder / share.name(step)
    with replacing(path) as temporary:
        with new_hdf5(temporary, user_block=SEAL_BYTES) as file:
            file["first"] = share.first
            for name, array in arrays.items():
                if not is_written(share.first, dims[name]):
                    continue
                write_array(file, name, array, compression)
        write_seal(temporary)
    return path


def await_parts(folder: Path, share: Share, step: int) -> list[dict[str, Any]]:
    """What the master says of each part, once all are there: file, seal, lowest
    corner and shape.

    Raises StorageError if one does not come."""
    return [_described(path) for path in await_files(folder, share, step)]


def await_files(folder: Path, share: Share, step: int) -> list[Path]:
    """The files of all processes, once they are there. Raises StorageError if one does not come."""
    paths = [folder / share.name(step, i) for i in range(share.count)]
    end = time.monotonic() + PATIENCE
    while missing := [path for path in paths if not path.exists()]:
        if time.monotonic() > end:
            raise StorageError(
                f"{missing[0]} was not written within {PATIENCE:g} s: another process has stopped; "
                "go on with `osteolattice resume` from the checkpoint before"
            )
        os.listdir(folder)  # makes a network file system look again
        time.sleep(0.02)
    return paths


def _described(path: Path) -> dict[str, Any]:
    with open(path, "rb") as raw:
        seal = raw.read(SEAL_BYTES).rstrip(b"\0").decode()
    with h5py.File(path, "r", locking=False) as file:
        return {
            "file": path.name,
            "seal": seal,
            "first": np.asarray(dataset_in(file, "first")[()]).tolist(),
            "shape": list(dataset_in(file, "state/cells").shape),
        }


def show_parts(
    file: h5py.File,
    parts: list[dict[str, Any]],
    name: str,
    dims: tuple[str, ...],
    lattice: tuple[int, int, int],
    like: np.ndarray,
) -> None:
    """A virtual dataset over the parts, of an array with the axes `dims` on a lattice of this shape
    (z, y, x); `like` is this process's part of the array."""

    def extents(of_axes: Sequence[int]) -> tuple[int, ...]:
        sizes = dict(zip(dims, like.shape, strict=True)) | dict(zip(AXES, of_axes, strict=True))
        return tuple(sizes[axis] for axis in dims)

    layout = h5py.VirtualLayout(shape=extents(lattice), dtype=like.dtype)
    for part in parts:
        if not is_written(part["first"], dims):
            continue
        own, begins = extents(part["shape"]), dict(zip(AXES, part["first"], strict=True))
        place = tuple(
            slice(begins.get(axis, 0), begins.get(axis, 0) + n)
            for axis, n in zip(dims, own, strict=True)
        )
        layout[place] = h5py.VirtualSource(part["file"], name, shape=own, dtype=like.dtype)
    file.create_virtual_dataset(name, layout)


def check_parts(master: Path, parts: list[Mapping[str, Any]]) -> int:
    """Bytes in the parts of a checkpoint, once each is what the master says. Raises Damage."""
    total = 0
    for part in parts:
        name = str(part["file"])
        path = master.parent / name
        if PART.fullmatch(name) is None:
            raise Damage(f"it names {name!r}, which is no part of a checkpoint")
        if not path.is_file():
            raise Damage(f"its part {name} is missing")
        try:
            found = check_seal(path)
        except Damage as damage:
            raise Damage(f"its part {name} is damaged: {damage}") from damage
        except InputError as error:
            raise Damage(f"its part {name} cannot be used: {error}") from error
        if found.rstrip(b"\0").decode() != part["seal"]:
            raise Damage(f"its part {name} belongs to another checkpoint")
        total += path.stat().st_size
    return total


def remove_parts(folder: Path, newest: int, masters: list[Path]) -> None:
    """Remove parts of steps up to `newest` that no master names."""
    named = {name for path in masters for name in _named_by(path)}
    for path in folder.iterdir():
        found = PART.fullmatch(path.name)
        if found is not None and int(found[1]) <= newest and path.name not in named:
            path.unlink(missing_ok=True)


def _named_by(master: Path) -> list[str]:
    """The parts that a master names; none if it cannot be read."""
    try:
        with h5py.File(master, "r", locking=False) as file:
            return [part["file"] for part in json.loads(text_in(file, "manifest"))["parts"]]
    except (OSError, KeyError, ValueError, TypeError, RuntimeError):
        return []


@dataclass(frozen=True)
class Stored:
    """An array of a checkpoint that stays in its file: only the part that is asked for is read."""

    path: Path
    name: str
    shape: tuple[int, ...]

    def __getitem__(self, part) -> np.ndarray:
        with h5py.File(self.path, "r", locking=False) as file:
            return np.asarray(dataset_in(file, self.name)[part])
