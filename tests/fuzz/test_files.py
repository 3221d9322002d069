"""No file, however mangled, ends in anything but its contents or one sentence that names it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lattice.model.errors import OsteolatticeError
from tests.cli.tiny import environment
from tests.fuzz import attack

KINDS = list(attack.READERS)


def survives(folder: Path, kind: str, seed: int, count: int) -> None:
    """In a process of its own: a crash of a decoder must not be one of the test run."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.attack", kind, str(seed), str(count)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=3600,
        check=False,
    )
    assert told.returncode == 0, f"{kind}, seed {seed}, in {folder}: {told.stderr[-3000:]}"


@pytest.mark.parametrize("kind", KINDS)
def test_mangled_files_are_read_or_refused(tmp_path, kind):
    survives(tmp_path, kind, seed=0, count=80)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("kind", KINDS)
def test_many_mangled_files_are_read_or_refused(tmp_path, kind, seed):
    survives(tmp_path, kind, seed=seed, count=1000)


def test_a_reader_that_fails_otherwise_is_found(tmp_path, monkeypatch):
    """The attack itself sees an exception that a reader lets through, and a vague sentence."""
    monkeypatch.chdir(tmp_path)
    seen: list[bytes] = []
    failures = iter([KeyError("careless"), OsteolatticeError("something is wrong somewhere")])

    def careless(path: Path) -> None:
        seen.append(path.read_bytes())
        if seen[-1] != seen[0]:
            raise next(failures)

    monkeypatch.setitem(attack.READERS, "checkpoint", (attack.originals.checkpoints, careless))
    with pytest.raises(KeyError, match="careless"):
        attack.attack("checkpoint", 0, 10)
    with pytest.raises(AssertionError, match="something is wrong"):
        attack.attack("checkpoint", 0, 10)
