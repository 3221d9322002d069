"""One run in several processes: the same bits, and a word for everything that does not fit."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lattice.cli.distributed import checked, launcher, place
from lattice.io.checkpoint import list_checkpoints, newest_checkpoint
from lattice.io.runread import RunFile
from lattice.model import InputError
from tests.cli.tiny import ROOT, command, environment, run_command, write_model

SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "7"}


IN_FILES = """
import sys
from lattice.model import planes
planes.Workspace.__init__.__defaults__ = (1, None)
assert planes.Workspace().memory == 1
from lattice.cli.main import main
sys.exit(main())
"""
"""A command that has memory for one plane of a geometry."""

PLATE = 'kind = "plate"\nthickness = "20 um"\naxis = "z"'
TRABECULAE = 'kind = "trabecular"\nbone_fraction = 0.3\nthickness = "20 um"'


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(
    count: int, *arguments: object, starter: list[str] | None = None
) -> list[subprocess.CompletedProcess[str]]:
    """`count` processes of one command, or of another program that takes its arguments."""
    where = f"127.0.0.1:{free_port()}"
    joined = ("--distributed", "--coordinator", where, "--processes", count, "--process")
    started = [
        subprocess.Popen(
            [*(starter or command()), *map(str, (*arguments, *joined, i, "--quiet"))],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    ended = [p.communicate(timeout=400) for p in started]
    return [
        subprocess.CompletedProcess(p.args, p.returncode, out, error)
        for p, (out, error) in zip(started, ended, strict=True)
    ]


def assert_same_snapshots(one: Path, other: Path, common: tuple[float, ...]) -> None:
    """At these hours."""
    runs = RunFile.open(one), RunFile.open(other)
    for hours in common:
        expected, found = (run.snapshot(run.times.index(hours)) for run in runs)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("count", "blocks"),
    [
        (2, ("--devices", "1x2x1")),
        pytest.param(2, (), marks=pytest.mark.full),
        pytest.param(4, (), marks=pytest.mark.full),
        pytest.param(4, ("--devices", "2x1x2"), marks=pytest.mark.full),
        pytest.param(2, ("--devices", "2x2x2"), marks=pytest.mark.full),
    ],
)
def test_processes_change_no_bit_and_hand_over_to_one_device(tmp_path, count, blocks):
    long = ("shape = [8, 8, 8]", "shape = [8, 8, 16]")
    config = write_model(tmp_path, long, (PLATE, TRABECULAE))
    alone = run_command("run", config, "--out", tmp_path / "alone", "--seed", 5, "--quiet")
    assert alone.returncode == 0, alone.stderr
    begun = ("run", config, "--out", tmp_path / "shared", "--seed", 5, "--until", "6 h", *blocks)
    done = together(count, *begun, starter=[sys.executable, "-c", IN_FILES])
    assert [d.returncode for d in done] == [0] * count, done[0].stderr
    assert [bool("digest" in d.stdout) for d in done] == [True] + [False] * (count - 1)
    shutil.copytree(tmp_path / "shared", tmp_path / "copy")
    on = run_command("resume", tmp_path / "copy", "--until", "10 h", "--quiet")
    assert on.returncode == 0, on.stderr
    assert_same_snapshots(tmp_path / "alone", tmp_path / "shared", (0, 5))
    assert_same_snapshots(tmp_path / "alone", tmp_path / "copy", (0, 5, 10))
    expected = newest_checkpoint(tmp_path / "alone").digest
    assert newest_checkpoint(tmp_path / "copy").digest == expected
    assert "digest      " + newest_checkpoint(tmp_path / "shared").digest in done[0].stdout
    parts = sorted(p.name for p in (tmp_path / "shared" / "checkpoints").glob("*.part-*"))
    kept = len(list_checkpoints(tmp_path / "shared"))
    assert len(parts) == kept * count, parts
    # A folder that exists is refused by the first process, and no other one hangs.
    again = together(count, "run", config, "--out", tmp_path / "shared")
    assert [d.returncode for d in again] == [2] * count
    assert "shared" in again[0].stderr


def test_a_checkpoint_of_one_process_goes_on_in_two(tmp_path):
    config = write_model(tmp_path, ("shape = [8, 8, 8]", "shape = [8, 8, 16]"))
    alone, handed = tmp_path / "alone", tmp_path / "handed"
    assert run_command("run", config, "--out", alone, "--seed", 5, "--quiet").returncode == 0
    begun = run_command("run", config, "--out", handed, "--seed", 5, "--until", "4 h", "--quiet")
    assert begun.returncode == 0, begun.stderr
    for until in ("8 h", "10 h"):  # from one file, then from two parts
        done = together(2, "resume", handed, "--until", until)
        assert [d.returncode for d in done] == [0, 0], done[0].stderr
    assert newest_checkpoint(handed).digest == newest_checkpoint(alone).digest


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--coordinator", "a:1"), "need --distributed"),
        (("--distributed",), "Slurm nor Open MPI"),
        (("--distributed", "--processes", 2), "write all"),
        (
            ("--distributed", "--coordinator", "node", "--processes", 2, "--process", 0),
            "node01:12345",
        ),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, arguments, word):
    config = write_model(tmp_path)
    said = run_command("run", config, "--out", tmp_path / "out", *arguments)
    assert said.returncode == 2
    assert word in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_launchers_are_told_by_their_variables():
    assert launcher({}) is None
    assert launcher(SLURM) is None
    assert launcher({**SLURM, "SLURM_STEP_NODELIST": "node[1-2]"}) == "Slurm"
    ranks = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"}
    assert launcher({**ranks, "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}) == "Open MPI"
    assert place(ranks) == (4, 1)
    assert checked("n1:99", None, None, ranks) == ("n1:99", 4, 1)
    assert checked("n1:99", 2, 0, {}) == ("n1:99", 2, 0)
    with pytest.raises(InputError, match="from 0 to 1"):
        checked("n1:99", 2, 2, {})


def test_the_slurm_script_starts_goes_on_and_ends(tmp_path):
    """With stand-ins for srun, sbatch and the program: what is called, and in which order."""
    script = ROOT / "configs" / "slurm" / "run.sbatch"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    tools = tmp_path / "bin"
    tools.mkdir()
    log = tmp_path / "log"
    hours = tmp_path / "hours"
    hours.write_text("1")
    fakes = {
        "srun": 'exec "$@"',
        "sbatch": f'echo sbatch "$@" >> {log}',
        "python3": f'exec {sys.executable} "$@"',
        "osteolattice": f'echo "$@" >> {log}; mkdir -p run/checkpoints\n'
        f'echo "{{\\"time_h\\": $(cat {hours}), \\"until_h\\": 2}}"',
    }
    for name, body in fakes.items():
        path = tools / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    variables = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    def call(*arguments: str) -> tuple[int, list[str]]:
        log.write_text("")
        done = subprocess.run(
            ["bash", script, *arguments], cwd=tmp_path, env=variables, capture_output=True
        )
        return done.returncode, log.read_text().splitlines()

    assert call()[0] == 2
    code, lines = call("m.toml", "run")
    assert code == 0
    assert lines[0] == "run m.toml --out run --distributed --quiet"
    assert lines[-1] == f"sbatch {script} m.toml run"
    hours.write_text("2")
    code, lines = call("m.toml", "run")
    assert (code, lines) == (0, ["resume run --distributed --quiet", "info run --json"])
    assert Path(tmp_path / "run").is_dir()
