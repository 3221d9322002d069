"""A run in the formats of other programs: ParaView, napari and Fiji, xarray, spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lattice.io import vtkhdf
from lattice.io.files import new_hdf5, replacing, safe_sink
from lattice.io.omezarr import export_ome_zarr
from lattice.io.optional import require
from lattice.io.runfile import write_series
from lattice.io.runread import RunFile
from lattice.io.vtkhdf import ArraySpec, Part
from lattice.model.errors import InputError
from lattice.model.setting import Lattice


def export(run: RunFile | Path, to: str, out: Path | None = None) -> Path:
    """Writes a run, finished or not, in another format; returns where.

    to    "vtkhdf"    one file for ParaView that stands alone
          "csv"       the time series: first column ``time_h``, then the names in the run file
          "netcdf"    snapshots at the root, time series in the group "series" (CF conventions)
          "ome-zarr"  OME-NGFF 0.4: float arrays as channels, cells and bone as labels
    out   a path, or an existing folder to put it in (None: the run folder)

    Raises InputError for an unknown format, an existing target, a run without snapshots or a
    package that is not installed; StorageError when the disk refuses.
    """
    run = run if isinstance(run, RunFile) else RunFile.open(run)
    if to not in FORMATS:
        raise InputError(f"--to {to}: there is no such format: choose {', '.join(FORMATS)}")
    name, write = FORMATS[to]
    target = Path(out) if out is not None else run.folder
    target = target / name if target.is_dir() else target
    if target.exists():
        raise InputError(f"{target} exists and is never overwritten: remove it or name another")
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is not a folder: create it or name another with --out")
    if to != "csv" and not run.times:
        raise InputError(
            f"{run.path} holds no snapshots: set output.snapshots in the model file and run again"
        )
    run.check_parts()
    write(run, target)
    return target


def _vtkhdf(run: RunFile, target: Path) -> None:
    parts = run.parts or (Part(run.path, run.times),)
    specs = [ArraySpec(name, unit, "") for name, unit in run.arrays.items()]
    with replacing(target) as temporary, new_hdf5(temporary) as file:
        write_series(file, run.config, run.about, run.series_time, run.series)
        vtkhdf.write_joined(file, _lattice(run), specs, run.states, parts)


def _lattice(run: RunFile) -> Lattice:
    if run.shape is None or run.voxel_um is None:
        raise InputError(f"{run.path} holds no snapshots: nothing tells its lattice")
    return Lattice(run.shape, run.voxel_um)


def _csv(run: RunFile, target: Path) -> None:
    columns = [run.series_time, *(values for values, _ in run.series.values())]
    with (
        replacing(target) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time_h", *run.series])
        for row in zip(*(c.tolist() for c in columns), strict=True):
            writer.writerow(row)


def _netcdf(run: RunFile, target: Path) -> None:
    h5netcdf = require("h5netcdf", "--to netcdf", "export")
    lattice = _lattice(run)
    with (
        replacing(target) as temporary,
        safe_sink(temporary) as sink,
        h5netcdf.File(sink, "w") as file,
    ):
        file.attrs["Conventions"] = "CF-1.11"
        file.attrs["title"] = "osteolattice run"
        file.attrs["history"] = f"seed {run.seed}, {run.provenance.get('utc', '')}"
        file.dimensions = {"time": len(run.times), **dict(zip("xyz", lattice.shape, strict=True))}
        _coordinate(file, "time", np.array(run.times), "hour")
        for axis, count in zip("xyz", lattice.shape, strict=True):
            centres = lattice.voxel * (np.arange(count) + 0.5)
            _coordinate(file, axis, centres, "um").attrs["axis"] = axis.upper()
        # An attribute of HDF5 holds 64 kB at most, so the model file is a variable.
        file.create_variable("configuration", (), dtype=h5py.string_dtype())[...] = run.config
        _netcdf_snapshots(run, file)
        group = file.create_group("series")
        group.dimensions = {"time": run.series_time.size}
        _coordinate(group, "time", run.series_time, "hour")
        for name, (values, unit) in run.series.items():
            # netCDF forbids a slash in a name.
            variable = group.create_variable(name.replace("/", "_"), ("time",), data=values)
            variable.attrs["units"] = unit
            variable.attrs["long_name"] = name


def _coordinate(group: Any, name: str, values: np.ndarray, unit: str) -> Any:
    variable = group.create_variable(name, (name,), data=np.asarray(values, dtype=np.float64))
    variable.attrs["units"] = unit
    return variable


def _netcdf_snapshots(run: RunFile, file: Any) -> None:
    for index in range(len(run.times)):
        for name, array in run.snapshot(index).items():
            if index == 0:
                variable = file.create_variable(
                    name,
                    ("time", "z", "y", "x"),
                    dtype=array.dtype,
                    chunks=(1, *array.shape),
                    compression="gzip",
                    compression_opts=1,
                    shuffle=True,
                )
                variable.attrs["units"] = run.arrays[name]
                variable.attrs["long_name"] = name
            file[name][index] = array
    if "cells" in run.arrays:
        file["cells"].attrs["flag_values"] = np.arange(len(run.states), dtype=np.uint8)
        file["cells"].attrs["flag_meanings"] = " ".join(run.states)


FORMATS: dict[str, tuple[str, Callable[[RunFile, Path], None]]] = {
    "vtkhdf": ("run.vtkhdf", _vtkhdf),
    "ome-zarr": ("run.ome.zarr", export_ome_zarr),
    "netcdf": ("run.nc", _netcdf),
    "csv": ("series.csv", _csv),
}
"""Format -> the name of the file it makes in a folder, and what writes it."""
