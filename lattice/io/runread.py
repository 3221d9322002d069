"""Reading a run: its time series, its snapshots and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lattice.io.files import dataset_in, group_in, newer, text_in
from lattice.io.vtkhdf import CELL_DATA, GROUP, Part
from lattice.model.errors import DamagedFileError, InputError

NAME = "run.h5"
PARTS = "snapshots"
SCHEMA = 1


@dataclass(frozen=True)
class RunFile:
    """What a run has written so far.

    series       name -> (values, unit), each as long as `series_time` (hours)
    times        hours of the snapshots
    arrays       name -> unit of the arrays in each snapshot
    states       names of the cell states; the array "cells" holds positions in this list
    shape        voxels (x, y, z); `voxel_um` their edge; both None without a snapshot
    about        seed, schema, provenance and, after a resume, "resumed"
    parts        the files that hold the snapshots while the run goes on
    """

    path: Path
    series_time: np.ndarray
    series: dict[str, tuple[np.ndarray, str]]
    times: tuple[float, ...]
    arrays: dict[str, str]
    states: tuple[str, ...]
    shape: tuple[int, int, int] | None
    voxel_um: float | None
    config: str
    about: dict[str, Any]
    parts: tuple[Part, ...] = field(default=())

    @classmethod
    def open(cls, path: Path) -> RunFile:
        """Reads all but the snapshots of a run folder or of a ``run.h5``.

        Raises InputError when there is no run or a newer one, DamagedFileError when it is broken.
        """
        path = Path(path)
        path = path / NAME if path.is_dir() else path
        if not path.is_file():
            raise InputError(f"{path} does not exist: name the folder of a run or its {NAME}")
        with _reading(path) as file:
            if "about" not in file or "series" not in file:
                raise InputError(f"{path} is not a run of osteolattice: name a run folder")
            about = json.loads(text_in(file, "about"))
            if about["schema"] > SCHEMA:
                versions = about.get("provenance", {}).get("versions", {})
                raise newer(path, about["schema"], SCHEMA, versions.get("osteolattice"))
            if not isinstance(about["seed"], int) or not isinstance(about["provenance"], dict):
                raise ValueError("its seed or its provenance is none")
            series = _series(group_in(file, "series"))
            return cls(
                path=path,
                series_time=series.pop("time")[0],
                series=series,
                config=text_in(file, "config"),
                about=about,
                **_snapshots(path, file),
            )

    @property
    def stands_alone(self) -> bool:
        """Whether ``run.h5`` holds the snapshots itself, as it does when the run has finished."""
        return not self.parts

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.about["seed"]

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, commit, machine and time of the process that started the run."""
        return self.about["provenance"]

    def snapshot(self, index: int) -> dict[str, np.ndarray]:
        """The arrays ``[z, y, x]`` of one snapshot by name; -1 is the last.

        Raises IndexError without such a snapshot, DamagedFileError when it cannot be read.
        """
        path, at = self.path, range(len(self.times))[index]
        for part in self.parts:
            path = part.path
            if at < part.frames:
                break
            at -= part.frames
        if self.parts and not path.is_file():
            # A run that has finished since it was opened has moved its snapshots into run.h5.
            now = RunFile.open(self.path)
            now.check_parts()
            return now.snapshot(index)
        with _reading(path) as file:
            return {name: dataset_in(file, f"{CELL_DATA}/{name}")[at] for name in self.arrays}

    def check_parts(self) -> None:
        """Raises DamagedFileError when a file that holds snapshots is missing.

        HDF5 itself would show zeros in its place.
        """
        for part in self.parts:
            if not part.path.is_file():
                raise DamagedFileError(
                    f"{part.path} is missing: put back this snapshot of {self.path} from a copy, "
                    "or run again from the configuration"
                )

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.path.parent


@contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): go back to a copy, or run "
            "again from the configuration"
        ) from error


def _series(group: h5py.Group) -> dict[str, tuple[np.ndarray, str]]:
    found: dict[str, tuple[np.ndarray, str]] = {}

    # A name such as BV/TV is a dataset in a group of its own.
    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (item[()], str(item.attrs["unit"]))

    group.visititems(visit)
    return found


def _snapshots(path: Path, file: h5py.File) -> dict[str, Any]:
    if GROUP not in file:
        return {"times": (), "arrays": {}, "states": (), "shape": None, "voxel_um": None}
    attributes: Any = group_in(file, GROUP).attrs
    data = {name: dataset_in(file, f"{CELL_DATA}/{name}") for name in group_in(file, CELL_DATA)}
    times = tuple(np.asarray(dataset_in(file, f"{GROUP}/Steps/Values")[()]).tolist())
    nx, ny, nz = (int(n) for n in attributes["WholeExtent"][1::2])
    names = json.loads(str(data["cells"].attrs["state_names_json"])) if "cells" in data else []
    return {
        "times": times,
        "arrays": {name: str(array.attrs["unit"]) for name, array in data.items()},
        "states": tuple(names),
        "shape": (nx, ny, nz),
        "voxel_um": float(attributes["Spacing"][0]),
        "parts": _parts(path.parent / PARTS, file, times),
    }


def _parts(folder: Path, file: h5py.File, times: tuple[float, ...]) -> tuple[Part, ...]:
    if "parts" not in file:
        return ()
    frames = zip(json.loads(text_in(file, "parts")), times, strict=True)
    return tuple(
        Part(folder / name, tuple(t for _, t in group))
        for name, group in groupby(frames, key=lambda frame: frame[0])
    )
