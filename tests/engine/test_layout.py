"""Which blocks a lattice is divided into, and what is said where that cannot be."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lattice.engine.devices import _placed
from lattice.engine.layout import layout_for, number_of, sharings, spelt, wanted
from lattice.model.errors import InputError
from lattice.model.setting import Lattice


def lattice(*shape: int, periodic=(False, False, False)) -> Lattice:
    """Extents and periodic ends along x, y, z."""
    return Lattice(shape, 10.0, periodic)


def test_what_a_user_writes():
    assert wanted("4") == wanted(4) == 4
    assert wanted("2x2") == wanted((2, 2)) == wanted("2x2x1") == (2, 2, 1)
    assert wanted("4x1x1") == wanted([4, 1, 1]) == (4, 1, 1)
    assert (number_of("2x3"), number_of(5)) == (6, 5)
    assert [spelt(layout) for layout in ((4, 1, 1), (1, 1, 4))] == ["4", "1x1x4"]
    for wrong in ("0", "many", "2x", "2x0", "-1", "2x2x2x2", "", 0, (2, 0), (1, 1, 1, 1), ()):
        with pytest.raises(InputError, match="from 1 upwards, or how many blocks lie along z, y"):
            wanted(wrong)


def test_a_number_of_devices_gets_the_blocks_that_receive_least():
    cube, flat, tall = lattice(64, 64, 64), lattice(64, 64, 8), lattice(16, 16, 256)
    assert layout_for(cube, 1) == (1, 1, 1)
    assert layout_for(cube, 2) == (2, 1, 1)  # as good as two along x: z is taken
    assert layout_for(cube, 4) == (2, 1, 2)
    assert layout_for(tall, 8) == (8, 1, 1)
    assert layout_for(flat, 8) == (1, 1, 8)
    # Nothing else divides evenly: along y.
    assert layout_for(lattice(7, 9, 5), 3) == (1, 3, 1)
    # A ring of two blocks receives two planes along z, and one along an axis with ends.
    assert layout_for(lattice(64, 64, 64, periodic=(False, False, True)), 2) == (1, 1, 2)


def test_blocks_that_are_named_are_kept():
    assert layout_for(lattice(16, 16, 16), "1x2x2") == (1, 2, 2)
    assert layout_for(lattice(12, 18, 10), (5, 9, 6)) == (5, 9, 6)


def test_sharings():
    assert sharings(lattice(1, 3, 24)) == [1, 2, 3, 4, 6, 8, 12]
    assert sharings(lattice(4, 4, 4)) == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (3, ("8 x 8 x 16 voxels (x, y, z)", "by 3 devices", "2 or 4 can share it")),
        (1000, ("by 1000 devices", "128 can share it")),
        ("3", ("--devices 3:", "lattice.shape")),
        ("1x3", ("8 planes along y", "by 3 blocks", "write 1, 2 or 4 along y")),
        ("16x1x1", ("16 planes along z", "at least 2 planes", "1, 2, 4 or 8 along z")),
        ((1, 1, 5), ("--devices 1x1x5", "8 planes along x", "lattice.shape")),
    ],
)
def test_what_does_not_divide_is_said_with_what_does(devices, said):
    with pytest.raises(InputError) as caught:
        layout_for(lattice(8, 8, 16), devices)
    for words in said:
        assert words in str(caught.value)
    assert caught.value.exit_code == 2


def devices_of(processes: int, each: int):
    return [SimpleNamespace(process_index=p) for p in range(processes) for _ in range(each)]


@pytest.mark.parametrize(
    ("count", "each", "layout"),
    [(4, 1, (2, 2, 1)), (2, 4, (2, 2, 2)), (4, 2, (2, 2, 2)), (2, 6, (4, 3, 1)), (2, 3, (6, 1, 1))],
)
def test_the_devices_of_a_process_hold_one_block(count, each, layout):
    places = _placed(devices_of(count, each), layout)
    for process in range(count):
        held = np.argwhere(np.vectorize(lambda d: d.process_index)(places) == process)
        assert len(held) == each == np.prod(held.max(axis=0) - held.min(axis=0) + 1)


def test_processes_with_different_numbers_of_devices_share_slabs_alone():
    uneven = [*devices_of(1, 3), SimpleNamespace(process_index=1)]
    assert _placed(uneven, (4, 1, 1)).shape == (4, 1, 1)
    with pytest.raises(InputError, match="write --devices 4x1x1"):
        _placed(uneven, (2, 2, 1))
