"""Sampled runs of a fit are shared by devices, and kept as they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

import lattice.fitting.sampled as sampled
import lattice.fitting.store as store
from lattice.fitting.reading import load_fit
from lattice.fitting.store import SampleStore
from lattice.inference.sharing import each_on_a_device
from lattice.model.errors import NumericalError
from tests.cli.tiny import environment
from tests.docs.blocks import ROOT
from tests.trial.tiny import MODEL

FIT = """
schema = 1
[fit]
model = "model.toml"
parameters = "parameters.tsv"
observables = "observables.tsv"
measurements = "measurements.tsv"
time_unit = "h"
"""
ON_DEVICES = """
import sys
from pathlib import Path
import jax, numpy as np
import lattice.fitting.sampled as sampled
from lattice.cli.jax_setup import prepare_jax_for_runs
from lattice.fitting.reading import load_fit
from tests.fitting.study import DISH

used, read = [], sampled._courses
def seen(*arguments):
    used.append(jax.config.jax_default_device)
    return read(*arguments)
sampled._courses = seen
problems = [load_fit(Path(file)) for file in (sys.argv[1], DISH)]
prepare_jax_for_runs(3, [c.model for problem in problems for c in problem.conditions])
for problem in problems:
    alone, shared = (sampled.sample(problem, problem.start, range(5), jobs=n) for n in (1, None))
    np.testing.assert_array_equal(alone, shared)
    assert np.isfinite(alone).all()
    assert len(set(used) - {None}) == 3, used
    used.clear()
"""

INTERRUPTED = """
import sys, threading
import jax, jax.numpy as jnp
import lattice.fitting.conduct as conduct, lattice.fitting.sampled as sampled
from lattice.cli.main import program

def courses(problem, condition, model, seeds):
    if seeds[0] % 10 < 2:
        return [{hours: {"osteoblast": 40.0, "precursor": 50.0} for hours in (0.0, 12.0, 24.0)}]
    turn = jax.jit(lambda x: jax.lax.fori_loop(0, 1000, lambda i, y: jnp.sin(y @ y), x))
    turn(jnp.ones((300, 300))).block_until_ready()
    print("endless", flush=True)
    while True:
        turn(jnp.ones((300, 300))).block_until_ready()

def carried_out(problem, folder, tell, surrogate, jobs):
    store = conduct.SampleStore(folder / "samples", 0, tell, jobs)
    store.get("one", problem, problem.start, store.seeds(0, 6))

sampled._courses, conduct._carried_out = courses, carried_out
sys.argv[1:] = ["fit", sys.argv[1], "--out", sys.argv[2], "--jobs", sys.argv[3]]
program()
"""


@pytest.fixture
def plate(tmp_path):
    """A fit of a plate of bone, each run of which is a simulation of its own."""
    tables = {
        "model.toml": MODEL,
        "fit.toml": FIT,
        "parameters.tsv": "parameterId\tlowerBound\tupperBound\nrule.land.rate\t0.1 /day\t2 /day\n",
        "observables.tsv": "observableId\tobservableFormula\nlanded\tosteoblast\nleft\tprecursor\n",
        "measurements.tsv": "observableId\tmeasurement\ttime\tnoiseParameters\n"
        "landed\t40\t12\t4\nlanded\t50\t24\t4\nleft\t50\t24\t4\n",
    }
    for name, text in tables.items():
        (tmp_path / name).write_text(text)
    return tmp_path / "fit.toml"


def test_devices_share_the_runs_and_change_no_bit(plate):
    command = [sys.executable, "-c", ON_DEVICES, str(plate)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_runs_that_have_ended_are_kept_when_a_set_is_stopped(plate, tmp_path, monkeypatch):
    problem = load_fit(plate)
    kept = SampleStore(tmp_path / "samples", 0, lambda line: None)
    seeds, made, courses = kept.seeds(0, 4), [], sampled._courses

    def until_the_third(*arguments):
        made.append(arguments[-1])
        if len(made) == 3:
            raise KeyboardInterrupt
        return courses(*arguments)

    monkeypatch.setattr(store, "SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(sampled, "_courses", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        kept.get("one", problem, problem.start, seeds)
    found = kept.get("one", problem, problem.start, seeds)
    assert made == [[seeds[0]], [seeds[1]], [seeds[2]], [seeds[2]], [seeds[3]]]
    monkeypatch.undo()
    np.testing.assert_array_equal(found, sampled.sample(problem, problem.start, seeds))


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_ends_the_command_at_once_and_keeps_what_has_ended(plate, tmp_path, jobs):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(plate), str(tmp_path / "out"), str(jobs)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert [process.stdout.readline() for _ in range(jobs)] == ["endless\n"] * jobs
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        took = time.monotonic() - began
    finally:
        process.kill()
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == "osteolattice: interrupted"
    assert took < 5
    with np.load(tmp_path / "out" / "samples" / "one.npz") as kept:
        finite = np.isfinite(kept["sampled"]).all(axis=1)
    assert finite.tolist() == [True, True, False, False, False, False]


def test_one_task_at_a_time_on_each_device():
    here = jax.local_devices()[0]
    both = threading.Barrier(2, timeout=20)
    heard = []

    def work(task):
        both.wait()
        return 10 * task

    found = each_on_a_device(work, range(6), [here, here], lambda *what: heard.append(what))
    assert found == [0, 10, 20, 30, 40, 50]
    assert sorted(heard) == [(k, 10 * k) for k in range(6)]


def test_what_a_run_raises_ends_the_others():
    here = jax.local_devices()[0]
    begun = []

    def work(task):
        begun.append(task)
        raise NumericalError("no number")

    with pytest.raises(NumericalError, match="no number"):
        each_on_a_device(work, range(50), [here, here])
    assert len(begun) < 50
