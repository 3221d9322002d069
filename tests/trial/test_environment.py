"""Each process of a trial sees one GPU; where there are none, one thread."""

from __future__ import annotations

import os

import pytest

from lattice.trial import pool
from lattice.trial.environment import visible_gpus

NAMES = ("CUDA_VISIBLE_DEVICES", "NPROC")


def tell_environment(connection, stopped) -> None:
    connection.send({name: os.environ.get(name) for name in NAMES})
    connection.recv()


def seen_by_workers(monkeypatch, processes: int, gpus: tuple[str, ...]) -> list[dict]:
    monkeypatch.setattr(pool, "serve", tell_environment)
    with pool._Pool(processes, gpus) as workers:
        return [worker.connection.recv() for worker in workers.workers]


def test_processes_take_gpus_in_turn(monkeypatch):
    before = {name: os.environ.get(name) for name in NAMES}
    found = seen_by_workers(monkeypatch, 3, ("4", "GPU-5f"))
    assert [f["CUDA_VISIBLE_DEVICES"] for f in found] == ["4", "GPU-5f", "4"]
    assert {f["NPROC"] for f in found} == {before["NPROC"]}
    assert {name: os.environ.get(name) for name in NAMES} == before


def test_processes_on_cpu_have_one_thread(monkeypatch):
    found = seen_by_workers(monkeypatch, 2, ())
    assert {f["NPROC"] for f in found} == {"1"}
    assert {f["CUDA_VISIBLE_DEVICES"] for f in found} == {os.environ.get("CUDA_VISIBLE_DEVICES")}


@pytest.mark.parametrize(
    ("environment", "count", "names"),
    [
        ({}, 2, ("0", "1")),
        ({"CUDA_VISIBLE_DEVICES": "6, GPU-1a"}, 2, ("6", "GPU-1a")),
        ({"CUDA_VISIBLE_DEVICES": "6,7", "JAX_PLATFORMS": "cuda"}, 2, ("6", "7")),
        # JAX uses one part of a divided GPU, and the CPU where the driver is missing.
        ({"CUDA_VISIBLE_DEVICES": "MIG-1,MIG-2"}, 1, ("MIG-1",)),
        ({"CUDA_VISIBLE_DEVICES": "0"}, 0, ()),
        ({"JAX_PLATFORMS": "cpu"}, 2, ()),
    ],
)
def test_names_are_those_of_the_environment(environment, count, names):
    assert visible_gpus(environment, lambda: count) == names
