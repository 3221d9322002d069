"""kill -9 at random instants: a run that is resumed ends in the bits of one that was left alone."""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lattice.cli.main import main
from lattice.io.checkpoint import list_checkpoints, newest_checkpoint
from lattice.io.runfile import RunFile

# Small, so that a process compiles quickly and most of its time goes into writing files.
MODEL = """
schema = 1
[lattice]
shape = [6, 5, 4]
voxel = "10 um"
[time]
step = "30 min"
until = "2000 day"
[output]
series = "30 min"
snapshots = "{rest}"
checkpoints = "{checkpoints}"
[[state]]
name = "M0"
seeding = {{ where = "marrow", fraction = 0.4 }}
[[state]]
name = "M1"
[[rule]]
name = "polarise"
from = "M0"
to = "M1"
rate = "0.6 /day"
[[rule]]
name = "return"
from = "M1"
to = "M0"
rate = "2 /day"
"""
STEP_H = 0.5
PATIENCE_S = 120
SEED = 3


def done(capsys, *arguments: object) -> str:
    """What a command that succeeds prints."""
    code = main(list(map(str, arguments)))
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def newest(run: Path) -> str | None:
    """The name of the newest checkpoint."""
    return next((path.name for path in list_checkpoints(run)), None)


def config_written(run: Path) -> int | None:
    """Changes when a process has taken the folder over and replaces its files."""
    path = run / "config.toml"
    return path.stat().st_ino if path.exists() else None


def command_line(arguments: list[str]) -> None:
    """What a process of its own does; the modules are there already (`processes`)."""
    sys.exit(main(arguments))


@pytest.fixture(scope="module")
def processes():
    """Makes processes by a fork of one that has imported everything and computed nothing, so that
    a start takes a tenth of a second instead of several."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lattice.run", "lattice.cli.running", __name__])
    return context


def kill_after(processes, arguments: list, sign: Callable[[], object], delay: float) -> None:
    """Start a command and send SIGKILL some seconds after `sign` has changed."""
    before = sign()
    process = processes.Process(target=command_line, args=(list(map(str, arguments)),))
    process.start()
    patience = time.monotonic() + PATIENCE_S
    while sign() == before and process.is_alive() and time.monotonic() < patience:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -9, "it was not running when it was killed"


def kill_many(processes, run: Path, config: Path, draw: random.Random, kills: int) -> None:
    """A run that is killed so many times, resumed after each but the last.

    Two in three kills come while checkpoints, snapshots and series are written in quick succession;
    the others while a resumed process takes the folder over."""
    begin = ["run", config, "--out", run, "--seed", SEED, "--quiet"]
    kill_after(processes, begin, lambda: newest(run), draw.uniform(0, 0.3))
    for _ in range(kills - 1):
        reached = newest_checkpoint(run)
        assert reached.skipped == (), "a kill has left a checkpoint that cannot be used"
        go_on = ["resume", run, "--quiet"]
        if draw.random() < 1 / 3:
            kill_after(processes, go_on, lambda: config_written(run), draw.uniform(0, 0.05))
        else:
            kill_after(processes, go_on, lambda: newest(run), draw.uniform(0, 0.3))
        assert newest_checkpoint(run).step >= reached.step


def check_survival(processes, capsys, folder: Path, seed: int, kills: int) -> None:
    """Bits, series and snapshots of a run killed many times are those of an untouched one."""
    config, calm = folder / "killed.toml", folder / "calm.toml"
    config.write_text(MODEL.format(rest="2 h", checkpoints="30 min"))
    calm.write_text(MODEL.format(rest="2 h", checkpoints="2000 day"))
    run, straight = folder / "run", folder / "straight"
    kill_many(processes, run, config, random.Random(seed), kills)
    end = f"{STEP_H * (newest_checkpoint(run).step + 3)} h"
    done(capsys, "resume", run, "--until", end, "--quiet")
    done(capsys, "run", calm, "--out", straight, "--seed", SEED, "--until", end, "--quiet")
    digest = done(capsys, "info", run, "--digest")
    assert digest == done(capsys, "info", straight, "--digest")
    killed, whole = RunFile.open(run), RunFile.open(straight)
    assert killed.times == whole.times
    assert killed.series_time.tolist() == whole.series_time.tolist()
    for name, (values, unit) in whole.series.items():
        assert (killed.series[name][0].tolist(), killed.series[name][1]) == (values.tolist(), unit)
    last = killed.snapshot(-1)
    assert all((last[name] == array).all() for name, array in whole.snapshot(-1).items())
    assert list(run.rglob("*.part")) == []


def test_ten_kills_change_no_bit(processes, capsys, tmp_path):
    check_survival(processes, capsys, tmp_path, seed=0, kills=10)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 9))
def test_two_hundred_kills_change_no_bit(processes, capsys, tmp_path, seed):
    check_survival(processes, capsys, tmp_path, seed=seed, kills=25)
