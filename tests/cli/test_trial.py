"""`osteolattice trial` as a command: several processes, signals, refusals, help without JAX."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lattice.cli.main import main
from lattice.cli.trialling import named_arms
from tests.cli.tiny import ROOT, command, environment, run_command
from tests.trial.tiny import write_trial

FEW = ("replicates = 3", "replicates = 2")


def digests(folder) -> list[str]:
    with open(folder / "replicates.csv", newline="") as file:
        return [row["digest"] for row in csv.DictReader(file)]


def test_two_processes_give_what_one_gives(tmp_path):
    path = write_trial(tmp_path, FEW)
    some = ["--arms", "vehicle", "--jobs"]
    done = run_command("trial", path, "--out", tmp_path / "two", *some, 2)
    assert done.returncode == 0, done.stderr
    assert "F1     undecided" in done.stdout
    assert "4 of 4 jobs, 100 %" in done.stderr
    assert (tmp_path / "two" / "report" / "index.html").is_file()
    assert main(["trial", str(path), "--out", str(tmp_path / "one"), "--quiet", *some, "1"]) == 0
    found = digests(tmp_path / "two")
    assert found == digests(tmp_path / "one")
    assert all(found[:2])
    assert not any(found[2:])


def test_sigterm_ends_a_trial_cleanly(tmp_path):
    # Long enough to be met in the middle of a run.
    path = write_trial(tmp_path, FEW, ('until = "14 h"', 'until = "2000 day"'))
    arguments = ["trial", path, "--out", tmp_path / "out", "--jobs", 2]
    process = subprocess.Popen(
        command(*arguments), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    result = tmp_path / "out" / "starts"
    began = time.monotonic()
    while not list(result.glob("*/*/result.json")) and time.monotonic() - began < 240:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert b"SIGTERM was received" in out
    assert b"Traceback" not in error
    assert json.loads((tmp_path / "out" / "trial.json").read_text())["trial"]["seed"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jobs", "0"], ["--jobs 0", "from 1 upwards"]),
        (["--replicates", "0"], ["--replicates 0"]),
        (["--until", "soon"], ["--until"]),
        (["--part", "3/2"], ['--part "3/2"', "2/8"]),
        (["--part", "first"], ['--part "first"']),
        (["--arms", "kill 0.7"], ["--arms", "kill 0.6"]),
        (["--set", "rule.lnd.rate=1 /day"], ["rule.land.rate"]),
    ],
)
def test_wrong_options_are_refused(capsys, tmp_path, arguments, words):
    path = write_trial(tmp_path)
    assert main(["trial", str(path), "--out", str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err


def test_names_of_arms_may_hold_commas():
    known = ["vehicle", "kill", "kill, late", "kill, late, blocked"]
    assert named_arms("vehicle,kill", known) == ["vehicle", "kill"]
    assert named_arms("kill, late,vehicle, kill", known) == ["kill, late", "vehicle", "kill"]
    assert named_arms("kill, late, blocked,", known) == ["kill, late, blocked"]
    assert named_arms("late, kill", known) == ["late", "kill"]


def test_help_does_not_import_jax():
    code = (
        "import sys\nfrom lattice.cli.main import main\n"
        "try:\n    main(['trial', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--replicates" in done.stdout


def test_the_slurm_array_does_parts_and_then_the_tables(tmp_path):
    """With stand-ins for sbatch and the program: what is called."""
    script = ROOT / "configs" / "slurm" / "trial.sbatch"
    log = tmp_path / "log"
    for name in ("sbatch", "osteolattice"):
        path = tmp_path / name
        path.write_text(f'#!/bin/bash\necho {name} "$@" >> {log}\n')
        path.chmod(0o755)
    slurm = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "3"}

    def call(*arguments: str, **variables: str) -> tuple[int, list[str]]:
        log.write_text("")
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, **variables}
        done = subprocess.run(["bash", script, *arguments], env=environment, capture_output=True)
        return done.returncode, log.read_text().splitlines()

    assert call("t.toml")[0] == 2
    code, lines = call("t.toml", "out", **slurm, SLURM_ARRAY_TASK_ID="5")
    assert (code, lines) == (
        0,
        [
            f"sbatch --dependency=afterany:7 {script} t.toml out",
            "osteolattice trial t.toml --out out --part 1/3 --quiet",
        ],
    )
    code, lines = call("t.toml", "out", **slurm, SLURM_ARRAY_TASK_ID="7")
    assert (code, lines) == (0, ["osteolattice trial t.toml --out out --part 3/3 --quiet"])
    assert call("t.toml", "out") == (0, ["osteolattice trial t.toml --out out --quiet"])
