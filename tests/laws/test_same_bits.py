"""Laws 1 and 2: same model and seed, same bits, however the run is cut up."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lattice.engine.simulation import Simulation
from lattice.io.checkpoint import digest
from tests.cli.tiny import ROOT, environment
from tests.conftest import TISSUE, slab_of_bone, small_model

STEPS = 30


def full(*case: object):
    """A case for the full tests alone."""
    return pytest.param(*case, marks=pytest.mark.full)


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


def in_layouts(model: str, shape: str, ends: str, *layouts: str) -> list[str]:
    """What a model of `layouts.py` gives in each layout, in one process with eight devices."""
    command = [sys.executable, "-m", "tests.laws.layouts", model, shape, ends, *layouts]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**environment(), **flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = done.stdout.splitlines()
    assert len(found) == len(layouts)
    assert found[0].startswith("digest")
    return found


ALL_CLOSED = "no-flux,no-flux,no-flux"
ALL_WRAP = "periodic,periodic,periodic"


@pytest.mark.parametrize(
    ("model", "shape", "ends", "layouts"),
    [
        # A number lets the program choose; blocks are named along z, y, x, shape and ends along x,
        # y, z. Five lines and nine lines a block are odd.
        ("bone", "12x10x16", "no-flux,periodic,periodic", ("1", "2x2x2")),
        # Prey give birth across the border at a rate that depends on who is beside them.
        ("exact", "12x18x10", "periodic,no-flux,no-flux", ("1", "1x2x1")),
        full("prey", "12x18x10", "periodic,no-flux,no-flux", ("1", "1x2x1", "4")),
        full("bone", "12x18x10", ALL_CLOSED, ("1", "2x2x2", "1x1x4", "1x2x1", "5x1x1", "4")),
        full("bone", "16x12x32", ALL_WRAP, ("1", "8x1x1", "4x2x1", "2x2x2", "1x1x8", "1x6x1")),
        full("prey", "12x18x10", ALL_WRAP, ("1", "1x2x1", "2x2x2", "1x1x4", "5x1x1", "1x1x6")),
        full("prey", "8x16x16", ALL_CLOSED, ("1", "8x1x1", "4x2x1", "2x2x2", "1x1x4", "1x8x1")),
        full("exact", "12x18x10", "no-flux,periodic,no-flux", ("1", "2x3x1", "2x2x2", "1x1x6")),
        full("exact", "6x40x6", "no-flux,no-flux,periodic", ("1", "1x5x1", "3x1x1")),
    ],
)
def test_no_layout_changes_a_bit(model, shape, ends, layouts):
    alone, *others = in_layouts(model, shape, ends, *layouts)
    assert others == [alone] * len(others)
