"""Processes that share the points of a screening: what each of them sees, and in which order."""

from __future__ import annotations

import os
import time

import pytest

from lattice.cli import pool
from lattice.model.errors import InputError, NumericalError

NAMES = ("CUDA_VISIBLE_DEVICES", "NPROC")
seen: dict[str, str | None] = {}


def look(*names: str) -> None:
    seen.update({name: os.environ.get(name) for name in names})


def tell(task: int) -> tuple[int, int, dict[str, str | None]]:
    time.sleep(0.1)  # so that every process has a share
    return task, os.getpid(), dict(seen)


def fail(task: int) -> None:
    raise InputError(f"task {task}")


def die(task: int) -> None:
    os._exit(1)


def told_by(processes: int, gpus: tuple[str, ...]):
    """Tasks in the order in which they ended; what each process has seen."""
    told = list(pool.each(tell, range(3 * processes), processes, look, NAMES, gpus))
    return [task for task, _, _ in told], {process: found for _, process, found in told}


def test_processes_see_one_gpu_each_in_turn():
    before = {name: os.environ.get(name) for name in NAMES}
    tasks, found = told_by(3, ("4", "GPU-5f"))
    assert sorted(tasks) == list(range(9))
    assert sorted(f["CUDA_VISIBLE_DEVICES"] for f in found.values()) == ["4", "4", "GPU-5f"]
    assert {f["NPROC"] for f in found.values()} == {before["NPROC"]}
    assert {name: os.environ.get(name) for name in NAMES} == before


def test_processes_without_gpus_have_one_thread_each():
    tasks, found = told_by(2, ())
    assert sorted(tasks) == list(range(6))
    assert len(found) == 2
    assert {f["NPROC"] for f in found.values()} == {"1"}


@pytest.mark.parametrize(
    ("work", "error", "word"),
    [(fail, InputError, "task 0"), (die, NumericalError, "process of the pool has died")],
)
def test_what_goes_wrong_in_a_process_ends_the_loop(work, error, word):
    with pytest.raises(error, match=word):
        list(pool.each(work, range(1), 1, look, NAMES))
