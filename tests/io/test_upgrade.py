"""Files of every schema that was ever written stay readable; newer ones name what reads them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from lattice.cli.main import main
from lattice.io.checkpoint import digest, list_checkpoints, newest_checkpoint, read_checkpoint
from lattice.io.runfile import RunFile
from lattice.model.errors import InputError
from tests.io.test_checkpoint import seal

DATA = Path(__file__).with_name("data")
# Schema -> digest of the checkpoint in the stored run of that schema.
STORED = {1: "058f5560f95ff174d8e500ea908f7d9e41566f6f1f190cd38463becc2949380b"}


@pytest.fixture(params=STORED)
def old(request, tmp_path) -> tuple[Path, str]:
    """A run folder as a program of some schema has left it, after 8 steps of half an hour."""
    folder = tmp_path / "old"
    with zipfile.ZipFile(DATA / f"schema_{request.param}.zip") as stored:
        stored.extractall(folder)
    return folder, STORED[request.param]


def test_an_old_run_is_read_and_goes_on(old, capsys):
    folder, expected = old
    before = newest_checkpoint(folder)
    assert (before.step, before.seed, before.digest) == (8, 2, expected)
    assert digest(before.state) == expected
    assert main(["resume", str(folder), "--until", "6 h", "--quiet"]) == 0
    after = newest_checkpoint(folder)
    assert (after.step, after.seed, after.skipped) == (12, 2, ())
    assert set(after.state) == set(before.state)
    assert np.isfinite(after.state["cytokines"]).all()
    assert not np.array_equal(after.state["cytokines"], before.state["cytokines"])
    run = RunFile.open(folder)
    assert run.series_time.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert run.series["M0"][0][0] + run.series["M1"][0][0] > 0


def claim(path: Path, name: str, version: str | None) -> None:
    """Makes a file say that it has schema 2 and which version has written it."""
    with h5py.File(path, "r+") as file:
        about = json.loads(file[name][()])
        written = {"versions": {"osteolattice": version}} if version else {}
        del file[name]
        file[name] = json.dumps({**about, "schema": 2, "provenance": written})


@pytest.mark.parametrize(
    ("version", "needed"),
    [("0.9.3", r"osteolattice 0\.9\.3 or newer"), (None, "the newer version")],
)
def test_a_newer_file_names_the_version_needed(old, version, needed):
    folder, _ = old
    path = list_checkpoints(folder)[0]
    claim(path, "manifest", version)
    seal(path, schema=3)
    expected = rf"schema 3, this one reads 2\): install {needed}$"
    with pytest.raises(InputError, match=expected) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    claim(folder / "run.h5", "about", version)
    expected = rf"schema 2, this one reads 1\): install {needed}$"
    with pytest.raises(InputError, match=expected):
        RunFile.open(folder)


def test_a_newer_file_that_is_damaged_is_not_opened(old):
    """Its version would come from bytes that nobody vouches for."""
    folder, _ = old
    path = list_checkpoints(folder)[0]
    claim(path, "manifest", "0.9.3")
    seal(path, schema=3)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="install the newer version"):
        read_checkpoint(path)
