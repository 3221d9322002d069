"""Wrong input ends in one sentence that names file, key and fix, and in exit code 2."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from lattice.cli.main import main
from tests.cli.tiny import run_command, write_model

BROKEN = {
    "misspelt key": ("half_life", "halflife", ["cytokine.TNF.halflife", "half_life"]),
    "wrong unit": ("30 um^2/s", "30 um/s", ["cytokine.TNF.diffusion", "30 um^2/s"]),
    "bare number": ('"0.6 /day"', "0.6", ["rule.polarise.rate", "0.6 /day"]),
    "unknown signal": ('signal = "TNF"', 'signal = "TNFa"', ["TNFa", "did you mean", "TNF"]),
    "unknown state": ('to = "M1"', 'to = "M2"', ["rule.polarise.to", "M2", "M1"]),
    "negative rate": ('"0.6 /day"', '"-0.6 /day"', ["rule.polarise.rate", "negative"]),
    "place where the state may not live": (
        'name = "M1"',
        'name = "M1"\nlives = "bone"',
        ["rule.polarise.to", "lives in bone", "state.M1.lives"],
    ),
    "missing image": (
        'kind = "plate"\nthickness = "20 um"\naxis = "z"',
        'image = "nowhere.tif"\nimage_voxel = "10 um"',
        ["geometry.image", "nowhere.tif", "does not exist"],
    ),
    "image without voxel size": (
        'kind = "plate"\nthickness = "20 um"\naxis = "z"',
        'image = "bone.tif"',
        ["geometry.image_voxel", "um"],
    ),
    "not TOML": ("[lattice]", "[lattice", ["TOML"]),
}


def refused(capsys, *arguments: object) -> str:
    """The sentence with which a command refuses its input."""
    assert main(list(map(str, arguments))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("osteolattice: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_faulty_model_file_is_refused(capsys, tmp_path, fault, command):
    tifffile.imwrite(tmp_path / "bone.tif", np.zeros((4, 4, 4), np.uint8))
    old, new, words = BROKEN[fault]
    path = write_model(tmp_path, (old, new))
    rest = ["--out", tmp_path / "run"] if command == "run" else []
    sentence = refused(capsys, command, path, *rest)
    assert "tiny.toml" in sentence
    for word in words:
        assert word in sentence, sentence
    assert not (tmp_path / "run").exists()


OPTIONS = [
    (["--seed", "-1"], ["--seed -1", "0 to 2**64 - 1"]),
    (["--seed", "1.5"], ["--seed", "1.5"]),
    (["--seed", str(2**64)], ["--seed"]),
    (["--devices", "0"], ["--devices 0", "from 1 upwards"]),
    (["--devices", "many"], ["--devices", "many"]),
    (["--until", "3"], ["--until", "3.5 h"]),
    (["--until", "3 kg"], ["--until", "3 kg", "time"]),
    (["--until", "-3 h"], ["--until", "above 0"]),
    (["--until", "soon"], ["--until", "soon"]),
    (["--max-walltime", "2"], ["--max-walltime", "3.5 h"]),
    (["--set", "rule.polarize.rate=1 /day"], ["--set", "did you mean", "rule.polarise.rate"]),
    (["--set", "rule.polarise.rate"], ["--set", "key=value"]),
    (["--set", "rule.polarise.rate=-1 /day"], ["--set", "negative"]),
    (["--set", "rule.polarise.rate=1 um"], ["--set", "rule.polarise.rate", "rate"]),
    (["--fast"], ["--fast", "osteolattice --help"]),
]


@pytest.mark.parametrize(("options", "words"), OPTIONS)
def test_a_wrong_option_is_refused(capsys, tmp_path, options, words):
    path = write_model(tmp_path)
    sentence = refused(capsys, "run", path, "--out", tmp_path / "run", *options)
    for word in words:
        assert word in sentence, sentence
    assert not (tmp_path / "run").exists()


def test_more_devices_than_fit_are_refused(tmp_path):
    path = write_model(tmp_path)
    done = run_command("run", path, "--out", tmp_path / "run", "--devices", 3)
    assert done.returncode == 2
    assert "8 x 8 x 8 voxels" in done.stderr
    assert "by 3 devices" in done.stderr
    assert "2 or 4 can share it" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_that_exists_is_never_overwritten(capsys, tmp_path):
    path = write_model(tmp_path)
    occupied = tmp_path / "run"
    occupied.mkdir()
    (occupied / "notes.txt").write_text("mine")
    sentence = refused(capsys, "run", path, "--out", occupied)
    assert "never overwritten" in sentence
    assert "--out" in sentence
    assert [p.name for p in occupied.iterdir()] == ["notes.txt"]
    assert "never overwritten" in refused(capsys, "run", path, "--out", path)


MISSING = [
    ("check", "absent.toml"),
    ("run", "absent.toml"),
    ("resume", "absent"),
    ("info", "absent"),
    ("info", "."),
    ("report", "absent"),
    ("report", "."),
    ("export", "absent", "--to", "csv"),
    ("morphometry", "absent.tif"),
    ("morphometry", "tiny.toml"),
]


@pytest.mark.parametrize("arguments", MISSING)
def test_what_is_not_there_is_named(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path)
    sentence = refused(capsys, *arguments)
    assert arguments[1] in sentence or "run.h5" in sentence
    assert "geometry" not in sentence


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["run"], "CONFIG"),
        (["export", "here"], "--to"),
        (["export", "here", "--to", "xls"], "vtkhdf"),
    ],
)
def test_an_unknown_command_or_a_missing_argument_is_refused(capsys, arguments, word):
    sentence = refused(capsys, *arguments)
    assert word in sentence
    assert "--help" in sentence
