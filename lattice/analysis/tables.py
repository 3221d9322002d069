"""Histomorphometry of an image or of a run, as rows for CSV, JSON and the report."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lattice.analysis import cellular, morphometry
from lattice.analysis.morphometry import Measure
from lattice.io.images import read_image
from lattice.io.runfile import RunFile
from lattice.io.segmentation import segment
from lattice.model import loads
from lattice.model.errors import InputError
from lattice.model.structure import Model

FLUX_DESCRIPTIONS = {
    "BFR/BS (exact)": "bone formation rate: matrix laid down in the whole run, per bone surface",
    "BRs.R/BS (exact)": "bone resorption rate: matrix removed in the whole run, per bone surface",
}
DESCRIPTIONS = morphometry.DESCRIPTIONS | cellular.DESCRIPTIONS | FLUX_DESCRIPTIONS


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
    return _rows(None, morphometry.morphometry(bone, float(voxel[0])))


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
    rows = []
    for index in chosen:
        measures = snapshot_measures(run.snapshot(index), run.states, model, run.voxel_um)
        if index == last:
            measures |= _exact_flux(run, measures["BS"].value)
        rows += _rows(run.times[index], measures)
    return rows


def snapshot_measures(
    snapshot: dict[str, np.ndarray], states: tuple[str, ...], model: Model, voxel_um: float
) -> dict[str, Measure]:
    """All measures of one snapshot: of bone, and of cells and osteoid where it holds them."""
    bone = snapshot["bone"] != 0
    whole = {"cells", "osteoid", "mineral"} <= set(snapshot)
    if not whole:
        return morphometry.morphometry(bone, voxel_um)
    fraction = np.clip(snapshot["osteoid"] + snapshot["mineral"], 0, 1)
    measures = morphometry.morphometry(fraction, voxel_um)
    return measures | cellular.cellular_morphometry(
        bone,
        snapshot["cells"],
        snapshot["osteoid"],
        snapshot["mineral"],
        states,
        cellular.roles_of_model(model),
        voxel_um,
        measures["BS"].value,
    )


def _exact_flux(run: RunFile, bone_surface_mm2: float) -> dict[str, Measure]:
    """Matrix formed and resorbed over the whole run, per surface and day (um3/um2/d)."""
    days = (run.series_time[-1] - run.series_time[0]) / 24.0 if len(run.series_time) > 1 else 0.0
    result = {}
    for symbol, name in (("BFR/BS (exact)", "formed"), ("BRs.R/BS (exact)", "resorbed")):
        if f"matrix.{name}" in run.series and days > 0:
            total = run.series[f"matrix.{name}"][0]
            rate = morphometry.ratio(1000.0 * float(total[-1] - total[0]) / days, bone_surface_mm2)
            result[symbol] = Measure(rate, "um^3/um^2/d")
    return result


def _rows(time_h: float | None, measures: dict[str, Measure]) -> list[Row]:
    return [Row(time_h, name, *m, DESCRIPTIONS[name]) for name, m in measures.items()]


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
