from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile

from lattice.analysis.tables import morphometry_table, write_morphometry
from lattice.io.runfile import RunFile
from lattice.model.errors import InputError
from tests.analysis.phantoms import plates


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "plates.tif"
    tifffile.imwrite(
        path, plates(4, 12, 2, across=12).astype(np.uint8) * 200, photometric="minisblack"
    )
    return path


def test_an_image(image):
    rows = {r.symbol: r for r in morphometry_table(image, voxel_um=20.0)}
    assert rows["Tb.Th"].value == pytest.approx(80.0)
    assert rows["BV/TV"].value == pytest.approx(100 / 3, rel=1e-5)
    assert all(r.time_h is None and r.description for r in rows.values())


def test_a_run_has_its_first_and_last_snapshot(invented_run):
    rows = morphometry_table(invented_run)
    assert {r.time_h for r in rows} == {0.0, 240.0}
    found = {(r.symbol, r.time_h): r for r in rows}
    run = RunFile.open(invented_run)
    for index, time in enumerate(run.times):
        snapshot = run.snapshot(index)
        share = (snapshot["osteoid"] + snapshot["mineral"]).mean(dtype=np.float64)
        assert found["BV/TV", time].value == pytest.approx(100 * share, rel=1e-5)
    assert found["OV", 240.0].value > found["OV", 0.0].value
    assert 0 < found["Oc.S/BS", 0.0].value < found["Ob.S/BS", 0.0].value < 100


def test_exact_flux_is_per_surface_and_day(invented_run):
    found = {r.symbol: r for r in morphometry_table(invented_run) if r.time_h == 240.0}
    formed, unit = RunFile.open(invented_run).series["matrix.formed"]
    assert unit == "mm^3"
    rate = found["BFR/BS (exact)"]
    assert rate.unit == "um^3/um^2/d"
    expected = (formed[-1] - formed[0]) * 1e9 / (found["BS"].value * 1e6) / 10
    assert rate.value == pytest.approx(expected)


def test_files(image, tmp_path):
    table, text = write_morphometry(image, tmp_path / "out", voxel_um=20.0)
    with open(table, newline="", encoding="utf-8") as file:
        rows = {r["symbol"]: r for r in csv.DictReader(file)}
    assert float(rows["Tb.Th"]["value"]) == pytest.approx(80.0)
    assert rows["Tb.Th"]["unit"] == "um"
    measures = json.loads(text.read_text(encoding="utf-8"))["measures"]
    assert [m["symbol"] for m in measures] == list(rows)


def test_an_image_without_voxel_size_is_refused(image):
    with pytest.raises(InputError, match="voxel"):
        morphometry_table(image)


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        morphometry_table(tmp_path / "nothing.tif", voxel_um=10.0)
