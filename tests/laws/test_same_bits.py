"""Laws 1 and 2: same model and seed, same bits, however the run is cut up."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from lattice.engine.simulation import Simulation
from lattice.io.checkpoint import digest
from tests.conftest import TISSUE, slab_of_bone, small_model

STEPS = 30

PROGRAM = """
import sys
from lattice.engine.simulation import Simulation
from lattice.io.checkpoint import digest
from tests.conftest import TISSUE, slab_of_bone, small_model
model = small_model(TISSUE, shape=(12, 10, 16), boundary=["no-flux", "periodic", sys.argv[2]])
simulation = Simulation(model, 5, slab_of_bone(model, 5), device_count=int(sys.argv[1]))
row = simulation.advance(30, 10)[-1]
print("digest", digest(simulation.host_state()), [row[n] for n in sorted(row)])
"""


@pytest.fixture(scope="module")
def model():
    return small_model(TISSUE)


@pytest.fixture(scope="module")
def straight(model):
    simulation = Simulation(model, 3, slab_of_bone(model))
    simulation.advance(STEPS)
    return simulation


def same(a, b) -> None:
    assert digest(a.host_state()) == digest(b.host_state())
    for name, value in a.host_ledger().items():
        np.testing.assert_array_equal(value, b.host_ledger()[name], err_msg=name)


def test_everything_happens(straight):
    row = straight.row()
    silent = [n for n, (v, _) in row.items() if n.startswith("events.") and v == 0]
    assert not silent
    assert row["matrix.formed"][0] > 0
    assert row["matrix.resorbed"][0] > 0
    assert row["lining"][0] + row["osteocyte"][0] > 0


def test_another_seed_gives_another_run(model, straight):
    other = Simulation(model, 4, slab_of_bone(model))
    other.advance(STEPS)
    assert digest(other.host_state()) != digest(straight.host_state())


@pytest.mark.parametrize("pieces", [(1,) * STEPS, (7, 23), (29, 1)])
def test_chunk_length_changes_nothing(model, straight, pieces):
    simulation = Simulation(model, 3, slab_of_bone(model))
    for steps in pieces:
        simulation.advance(steps)
        simulation.row()
    same(simulation, straight)


def test_rows_on_the_way_are_those_of_single_steps(model, straight):
    """Measured inside a chunk or between chunks of one step: the same values, and the same run."""
    together, single = (
        Simulation(model, 3, slab_of_bone(model)),
        Simulation(model, 3, slab_of_bone(model)),
    )
    single.advance(2)
    together.advance(2)
    rows = together.advance(7, 3) + together.advance(STEPS - 9, 3)
    expected = []
    for _ in range(2, STEPS):
        single.advance(1)
        if single.step % 3 == 0:
            expected.append(single.row())
    assert rows == expected
    same(together, straight)


def test_restart_from_host_arrays_changes_nothing(model, straight):
    first = Simulation(model, 3, slab_of_bone(model))
    first.advance(13)
    arrays = {k: np.array(v) for k, v in {**first.host_state(), **first.host_ledger()}.items()}
    second = Simulation(model, 3, state=arrays)
    second.advance(STEPS - 13)
    same(second, straight)


@pytest.mark.parametrize("capacity", [64, 200])
def test_capacity_of_lists_changes_nothing(model, straight, capacity):
    simulation = Simulation(model, 3, slab_of_bone(model))
    simulation._capacity = capacity
    simulation._grow_capacity = lambda: None
    simulation.advance(STEPS)
    same(simulation, straight)


def on_devices(count: int, along_z: str) -> str:
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(count), along_z],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": root},
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(("along_z", "counts"), [("no-flux", (2, 4)), ("periodic", (4,))])
def test_device_count_changes_nothing(along_z, counts):
    alone = on_devices(1, along_z)
    assert alone.startswith("digest")
    for count in counts:
        assert on_devices(count, along_z) == alone
