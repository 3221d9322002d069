"""The commands on a tiny run: contracts, resuming to the same bits, stopping, damaged files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time

import h5py
import pytest

from lattice.cli.main import COMMANDS, main
from lattice.io.checkpoint import list_checkpoints
from tests.cli.tiny import command, environment, run_command, write_model

CONTRACT = {
    "model",
    "seed",
    "step",
    "time_h",
    "shape",
    "voxel_um",
    "digest",
    "checkpoints",
    "devices",
    "versions",
    "commit",
    "last",
}


def done(capsys, *arguments: object) -> str:
    """What a command that succeeds prints."""
    code = main(list(map(str, arguments)))
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def digest_of(capsys, folder) -> str:
    return done(capsys, "info", folder, "--digest").strip()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of ten hours, and its model file."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_model(folder)
    assert main(["run", str(config), "--out", str(folder / "run"), "--seed", "5", "--quiet"]) == 0
    return config, folder / "run"


def test_a_run_folder_holds_what_it_promises(whole):
    _, folder = whole
    names = {p.name for p in folder.iterdir() if not p.name.startswith(".")}
    assert names == {"config.toml", "run.h5", "checkpoints", "log.txt"}
    with h5py.File(folder / "run.h5") as file:
        for name in ("time", "M0", "M1", "TNF.mean", "TNF.max", "BV/TV"):
            assert file[f"series/{name}"].attrs["unit"]
        assert file["series/time"][:].tolist() == list(range(11))
        assert set(file["VTKHDF/CellData"]) >= {"cells", "TNF"}


def test_info_says_what_scripts_rely_on(whole, capsys):
    _, folder = whole
    facts = json.loads(done(capsys, "info", folder, "--json"))
    assert set(facts) >= CONTRACT
    assert (facts["model"], facts["seed"], facts["step"], facts["time_h"]) == ("tiny", 5, 20, 10.0)
    assert (facts["shape"], facts["voxel_um"], facts["devices"]) == ([8, 8, 8], 10.0, 1)
    assert facts["last"]["time"] == 10.0
    assert facts["last"]["M0"] + facts["last"]["M1"] > 0
    assert facts["checkpoints"] == [f"step-{n:09d}.h5" for n in (12, 16, 20)]
    assert digest_of(capsys, folder) == facts["digest"]
    text = done(capsys, "info", folder)
    assert facts["digest"] in text
    assert "TNF.mean" in text


def test_a_run_that_is_resumed_ends_like_one_that_was_not(whole, capsys, tmp_path):
    config, folder = whole
    parts = tmp_path / "parts"
    done(capsys, "run", config, "--out", parts, "--seed", 5, "--until", "3 h", "--quiet")
    assert 'until = "3 hour"' in (parts / "config.toml").read_text()
    assert digest_of(capsys, parts) != digest_of(capsys, folder)
    done(capsys, "resume", parts, "--until", "7 h", "--quiet")
    done(capsys, "resume", parts, "--until", "10 h", "--quiet")
    assert digest_of(capsys, parts) == digest_of(capsys, folder)
    with h5py.File(parts / "run.h5") as one, h5py.File(folder / "run.h5") as other:
        for name in ("time", "M0", "M1", "TNF.mean"):
            assert one[f"series/{name}"][:].tolist() == other[f"series/{name}"][:].tolist()
        assert one["config"].asstr()[()] == (parts / "config.toml").read_text()
        assert 'until = "10 hour"' in one["config"].asstr()[()]


def test_a_run_cannot_end_before_where_it_stands(whole, capsys):
    _, folder = whole
    before = (folder / "config.toml").read_text()
    assert main(["resume", str(folder), "--until", "1 h"]) == 2
    assert "10 h already" in capsys.readouterr().err
    assert (folder / "config.toml").read_text() == before


def test_the_wall_time_ends_a_run_with_a_checkpoint(whole, capsys, tmp_path):
    config, folder = whole
    limited = tmp_path / "limited"
    arguments = ("run", config, "--out", limited, "--seed", 5, "--max-walltime", "0.001 s")
    said = done(capsys, *arguments, "--quiet")
    assert "stopped: the wall time" in said
    assert f"osteolattice resume {limited}" in said
    assert json.loads(done(capsys, "info", limited, "--json"))["step"] < 20
    done(capsys, "resume", limited, "--quiet")
    assert digest_of(capsys, limited) == digest_of(capsys, folder)


def test_a_signal_ends_a_run_with_a_checkpoint(capsys, tmp_path):
    config, stopped = write_model(tmp_path), tmp_path / "stopped"
    process = subprocess.Popen(
        command("run", config, "--out", stopped, "--until", "9000 day"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = stopped / "log.txt"
    for _ in range(1200):
        if log.is_file() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    assert "stopped: SIGTERM was received" in said
    assert "Traceback" not in complaints
    step = json.loads(done(capsys, "info", stopped, "--json"))["step"]
    end = f"{(step + 7) / 2} h"
    done(capsys, "resume", stopped, "--until", end, "--quiet")
    done(capsys, "run", config, "--out", tmp_path / "straight", "--until", end, "--quiet")
    assert digest_of(capsys, stopped) == digest_of(capsys, tmp_path / "straight")


def test_a_damaged_checkpoint_is_passed_over_and_the_last_one_is_refused(whole, capsys, tmp_path):
    config, folder = whole
    copy = tmp_path / "copy"
    done(capsys, "run", config, "--out", copy, "--seed", 5, "--until", "9 h", "--quiet")
    newest, *others = list_checkpoints(copy)
    _damage(newest)
    assert main(["resume", str(copy), "--until", "10 h", "--quiet"]) == 0
    assert f"passed over: {newest} is damaged" in capsys.readouterr().err
    assert digest_of(capsys, copy) == digest_of(capsys, folder)
    for path in list_checkpoints(copy):
        _damage(path)
    assert others
    for arguments in (["info", str(copy)], ["resume", str(copy)], ["info", str(newest)]):
        assert main(arguments) == 4
        said = capsys.readouterr().err
        assert "damaged" in said
        assert said.count("\n") == 1


def _damage(path) -> None:
    """Overwrite a few bytes in the middle of a file."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = b"overrun!"
    path.write_bytes(data)


def test_series_are_exported_for_spreadsheets(whole, capsys, tmp_path):
    _, folder = whole
    path = tmp_path / "series.csv"
    assert str(path) in done(capsys, "export", folder, "--to", "csv", "--out", path)
    with path.open() as file:
        rows = list(csv.reader(file))
    assert rows[0][0] == "time_h"
    assert {"M0", "M1", "TNF.mean", "BV/TV"} <= set(rows[0])
    assert [float(r[0]) for r in rows[1:]] == list(range(11))


def test_a_report_is_written(whole, capsys):
    _, folder = whole
    assert "report" in done(capsys, "report", folder)
    page = next((folder / "report").glob("*.html")).read_text()
    assert "TNF" in page
    assert "polarise" in page


def test_bone_of_a_run_is_measured(whole, capsys, tmp_path):
    _, folder = whole
    assert "written" in done(capsys, "morphometry", folder, "--out", tmp_path)
    assert any("BV/TV" in p.read_text() for p in tmp_path.glob("*.csv"))


def test_check_prints_the_model(capsys, tmp_path):
    text = done(capsys, "check", write_model(tmp_path), "--until", "3 day")
    for word in ("TNF", "polarise", "0.6 /day", "78 min", "3 day"):
        assert word in text
    assert "properties" in json.loads(done(capsys, "schema"))


def test_the_version_is_told(capsys):
    assert done(capsys, "--version").startswith("osteolattice ")
    assert "COMMAND" in done(capsys)


HELP = """
import sys, time
from lattice.cli.main import COMMANDS, main
for command in ("", *COMMANDS):
    try:
        main([*command.split(), "--help"])
    except SystemExit as end:
        assert not end.code
heavy = ("jax", "numpy", "h5py", "scipy", "matplotlib", "rich", "lattice.engine", "lattice.io")
print("imported:", [name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def test_help_is_instant_and_imports_nothing_heavy():
    environ = environment()
    found = subprocess.run(
        [*command()[:1], "-c", HELP], env=environ, capture_output=True, text=True, check=True
    )
    assert found.stderr.strip() == "imported: []"
    for name in COMMANDS:
        assert f"osteolattice {name}" in found.stdout
    before = os.times()
    run_command("--help")
    after = os.times()
    used = after.children_user - before.children_user + after.children_system
    assert used - before.children_system < 0.6, "seconds of CPU, several times what it takes"
