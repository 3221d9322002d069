"""Exports open in the readers of the formats."""

import csv
import sys

import numpy as np
import pytest
import xarray
import zarr

from lattice.io.export import FORMATS, export
from lattice.io.runfile import RunWriter
from lattice.io.runread import RunFile
from lattice.model.errors import DamagedFileError, InputError
from tests.io import samples
from tests.io.test_runfile import add, assert_holds, create, row

MOMENTS = [0, 1, 4]


@pytest.fixture(params=["going", "finished"])
def run(request, tmp_path):
    with create(tmp_path / "run") as writer:
        add(writer, *MOMENTS)
        writer.finish() if request.param == "finished" else writer.flush()
    return RunFile.open(tmp_path / "run")


def test_vtkhdf_is_one_file_that_stands_alone(run, tmp_path):
    path = export(run, "vtkhdf", tmp_path / "copy.vtkhdf")
    for file in run.folder.rglob("*.h5"):
        file.unlink()
    assert_holds(path, MOMENTS)
    assert RunFile.open(path).provenance == run.provenance


def test_csv_has_time_and_every_series(run):
    path = export(run.folder, "csv")
    assert path == run.folder / "series.csv"
    with open(path, newline="") as file:
        head, *rows = list(csv.reader(file))
    assert head == ["time_h", *run.series]
    assert set(head) == {"time_h", *row(0)}
    for moment, values in zip(MOMENTS, rows, strict=True):
        assert float(values[0]) == moment
        for name, value in zip(head[1:], values[1:], strict=True):
            assert float(value) == row(moment)[name]


def test_xarray_reads_netcdf(run, tmp_path):
    path = export(run, "netcdf", tmp_path)
    with xarray.open_dataset(path, engine="h5netcdf") as found:
        np.testing.assert_array_equal(found.time, MOMENTS)
        np.testing.assert_array_equal(found.x, 10 * (np.arange(12) + 0.5))
        assert found.TNF.dims == ("time", "z", "y", "x")
        assert found.TNF.attrs["units"] == "ng/mL"
        assert found.cells.attrs["flag_meanings"] == "empty M0 M1"
        assert found.configuration.item() == run.config
        for name, array in samples.frame(4).items():
            np.testing.assert_array_equal(found[name].isel(time=2), array)
    with xarray.open_dataset(path, engine="h5netcdf", group="series") as series:
        assert series["BV_TV"].attrs == {"units": "1", "long_name": "BV/TV"}
        np.testing.assert_array_equal(series["M0"], MOMENTS)


def test_ome_zarr_follows_its_specification(run, tmp_path):
    path = export(run, "ome-zarr", tmp_path / "run.ome.zarr")
    root = zarr.open_group(str(path), mode="r", zarr_format=2)
    (image,) = root.attrs["multiscales"]
    assert image["version"] == "0.4"
    assert [axis["name"] for axis in image["axes"]] == ["t", "c", "z", "y", "x"]
    assert image["datasets"][0]["coordinateTransformations"][0] == {
        "type": "scale",
        "scale": [2.0, 1.0, 10.0, 10.0, 10.0],
    }
    labels = [channel["label"] for channel in root.attrs["omero"]["channels"]]
    assert set(labels) == {"TNF", "OPG", "osteoid", "mineral"}
    expected = samples.frame(4)
    for channel, name in enumerate(labels):
        np.testing.assert_array_equal(root["0"][2, channel], expected[name])
    assert (path / "0" / "2" / "0" / "0" / "0" / "0").is_file()
    for name in ("cells", "bone"):
        label = root[f"labels/{name}"]
        np.testing.assert_array_equal(label["0"][2, 0], expected[name])
        assert label.attrs["image-label"]["version"] == "0.4"
    names = root["labels/cells"].attrs["image-label"]["properties"]
    assert [p["name"] for p in names] == ["empty", "M0", "M1"]


def test_ome_zarr_has_coarser_copies_of_large_images(tmp_path):
    from dataclasses import replace

    from lattice.model.setting import Lattice

    model = replace(
        samples.model(fields=("cells", "TNF")), lattice=Lattice((70, 9, 8), 10.0), matrix=None
    )
    gradient = np.broadcast_to(np.arange(70.0, dtype=np.float32), (8, 9, 70))
    state = {
        "cells": np.ones((8, 9, 70), np.uint8),
        "bone": np.zeros((8, 9, 70), np.uint8),
        "cytokines": np.stack([gradient, gradient], -1),
    }
    with RunWriter.create(tmp_path / "run", model, seed=0, provenance={}) as writer:
        writer.add_snapshot(0.0, state)
        writer.finish()
    root = zarr.open_group(str(export(tmp_path / "run", "ome-zarr")), mode="r")
    assert root["1"].shape == (1, 1, 4, 4, 35)
    np.testing.assert_array_equal(root["1"][0, 0, 0, 0], 2 * np.arange(35) + 0.5)
    transform = root.attrs["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert transform[0]["scale"][2:] == [20.0] * 3
    assert transform[1]["translation"][2:] == [5.0] * 3


def test_refusals_are_one_sentence(run, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="choose vtkhdf, ome-zarr, netcdf, csv"):
        export(run, "excel")
    with pytest.raises(InputError, match="never overwritten"):
        export(run, "csv", run.folder / "run.h5")
    with pytest.raises(InputError, match="is not a folder"):
        export(run, "csv", tmp_path / "a" / "b.csv")
    for to, package in (("netcdf", "h5netcdf"), ("ome-zarr", "zarr")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(InputError, match=r"pip install 'osteolattice\[export\]'"):
                export(run, to, tmp_path)
        assert [p for p in tmp_path.iterdir() if p.name != "run"] == []


@pytest.mark.parametrize("to", sorted(set(FORMATS) - {"csv"}))
def test_a_run_without_snapshots_or_with_lost_ones_is_refused(tmp_path, to):
    with create(tmp_path / "run") as writer:
        writer.add_row(0.0, row(0))
        writer.flush()
        with pytest.raises(InputError, match="holds no snapshots"):
            export(tmp_path / "run", to)
        add(writer, 1)
        writer.flush()
    next((tmp_path / "run" / "snapshots").iterdir()).unlink()
    with pytest.raises(DamagedFileError, match="is missing"):
        export(tmp_path / "run", to)
