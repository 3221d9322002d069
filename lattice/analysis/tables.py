"""Histomorphometry of an image or of a run, as rows for CSV, JSON and the report."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lattice.analysis import morphometry, stiffness
from lattice.analysis.histomorphometry import PARTS, Snapshot, describe, histomorphometry
from lattice.analysis.morphometry import Measure
from lattice.analysis.rates import Ledger
from lattice.io.images import read_image
from lattice.io.runfile import RunFile
from lattice.io.segmentation import segment
from lattice.model import loads
from lattice.model.errors import InputError
from lattice.model.structure import Model


@dataclass(frozen=True)
class Row:
    """One measure of one image or snapshot. `time_h` is None for an image."""

    time_h: float | None
    symbol: str
    value: float
    unit: str
    description: str


def morphometry_table(
    path: Path | str,
    *,
    voxel_um: float | None = None,
    threshold: float | None = None,
    every_snapshot: bool = False,
) -> list[Row]:
    """The measures of an image (one time) or of a run (first and last snapshot, or every one).

    `path` is a run folder, a ``run.h5``, or any image that `lattice.io.images.read_image` reads.
    `voxel_um` (edge of a voxel) and `threshold` (None: Otsu's) are for images only; an image of
    two values is taken as it is. Raises InputError for what cannot be read or holds no bone.
    """
    path = Path(path)
    if path.name == "run.h5" or (path.is_dir() and (path / "run.h5").is_file()):
        return run_table(RunFile.open(path), every_snapshot=every_snapshot)
    image = read_image(path, voxel_um)
    values, voxel = image.values, image.voxel_um
    if not np.allclose(voxel, voxel[0], rtol=1e-3):
        raise InputError(
            f"{path} has voxels of {voxel[2]:g} x {voxel[1]:g} x {voxel[0]:g} um (x, y, z); "
            "morphometry needs cubic ones: resample the image first."
        )
    distinct = np.unique(values[:: max(1, len(values) // 8)])
    if threshold is None and distinct.size <= 2 and np.unique(values).size <= 2:
        bone = values > values.min()
    else:
        bone = segment(values, threshold, largest_component=False).bone
    measures = morphometry.morphometry(bone, float(voxel[0]))
    return _rows(None, measures | stiffness.stiffness_measures(bone))


def run_table(run: RunFile, every_snapshot: bool = False) -> list[Row]:
    """The measures of a run's snapshots; empty if it has no bone.

    Raises InputError if the run has no snapshots yet."""
    if not run.times:
        raise InputError(
            f"{run.path} has no snapshots: set output.snapshots in the model file and run again."
        )
    if "bone" not in run.arrays or run.voxel_um is None:
        return []
    model = loads(run.config, folder=run.folder, file=str(run.folder / "config.toml"))
    last = len(run.times) - 1
    chosen = range(len(run.times)) if every_snapshot else sorted({0, last})
    return [row for i in chosen for row in _rows(run.times[i], snapshot_measures(run, model, i))]


def snapshot_measures(
    run: RunFile, model: Model, index: int, parts: Collection[str] = PARTS
) -> dict[str, Measure]:
    """`histomorphometry` of a run's snapshot (0 is the first), with all that lies before it."""
    snapshots, ledger = _Frames(run, index), _ledger(run, run.times[index])
    return histomorphometry(model, snapshots, ledger, parts=parts)


class _Frames(Mapping[float, Snapshot]):
    """Snapshots of a run up to one of them, read when they are asked for."""

    def __init__(self, run: RunFile, last: int) -> None:
        self._run = run
        self._index = {time: i for i, time in enumerate(run.times[: last + 1])}

    def __getitem__(self, time: float) -> Snapshot:
        return self._run.snapshot(self._index[time])

    def __iter__(self) -> Iterator[float]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


def _ledger(run: RunFile, until_h: float) -> Ledger | None:
    """The columns of the series up to a time; None before there are two rows."""
    rows = int(np.searchsorted(run.series_time, until_h * (1 + 1e-12), side="right"))
    if rows < 2:
        return None
    columns = {name: values[:rows] for name, (values, _) in run.series.items()}
    return columns | {"time": run.series_time[:rows]}


def _rows(time_h: float | None, measures: dict[str, Measure]) -> list[Row]:
    return [Row(time_h, name, *m, describe(name)) for name, m in measures.items()]


def write_morphometry(
    path: Path | str, out: Path | str | None = None, **options: Any
) -> tuple[Path, Path]:
    """Writes `morphometry_table` (same options) as ``morphometry.csv`` and ``morphometry.json``.

    `out` is a folder, by default the run folder or the folder of the image. Returns both paths.
    A value that is not defined is empty in the CSV and null in the JSON.
    """
    path = Path(path)
    rows = [asdict(row) for row in morphometry_table(path, **options)]
    for row in rows:
        row["value"] = row["value"] if math.isfinite(row["value"]) else None
    run = path.is_dir() and (path / "run.h5").is_file()
    folder = Path(out) if out is not None else (path if run else path.parent)
    folder.mkdir(parents=True, exist_ok=True)
    names = list(Row.__dataclass_fields__)
    with open(folder / "morphometry.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    text = json.dumps({"source": path.name, "measures": rows}, indent=1, allow_nan=False)
    (folder / "morphometry.json").write_text(text + "\n", encoding="utf-8")
    return folder / "morphometry.csv", folder / "morphometry.json"
