"""Geometry in parts: the bits of the whole, in little memory, with files that go by themselves."""

import errno
import os
import resource
import tempfile
import tracemalloc
import weakref

import numpy as np
import pytest

from lattice.model import growth, waves
from lattice.model.errors import StorageError
from lattice.model.geometry import synthetic_planes, temporary_bytes
from lattice.model.pieces import find_pieces
from lattice.model.planes import BYTES_PER_VOXEL, Planes, Workspace
from lattice.model.scores import Scores
from lattice.model.setting import Geometry, Lattice
from tests.model import whole


def workspaces(shape, *counts):
    """With room for so many voxels at once, down to one plane, and for all of them."""
    return [Workspace(BYTES_PER_VOXEL * n) for n in (1, *counts, 64 * int(np.prod(shape)))]


@pytest.mark.parametrize(
    ("shape", "periodic", "fraction", "microns"),
    [
        ((21, 30, 27), (False, False, False), 0.2, 40.0),
        ((40, 29, 33), (True, True, True), 0.2, 50.0),
        ((24, 45, 30), (True, False, True), 0.05, 20.0),
        ((45, 16, 27), (False, True, False), 0.35, 60.0),
        ((48, 33, 1), (False, False, True), 0.1, 30.0),
        ((1, 30, 26), (True, False, False), 0.6, 40.0),
        ((10, 13, 13), (False, False, False), 0.95, 80.0),
    ],
)
@pytest.mark.parametrize("one_piece", [True, False])
def test_trabeculae_in_slabs_have_the_bits_of_the_whole(
    shape, periodic, fraction, microns, one_piece, monkeypatch
):
    monkeypatch.setattr(waves, "LEAF", 1 << 13)
    geometry = Geometry(
        "trabecular", bone_fraction=fraction, thickness=microns, largest_component=one_piece
    )
    lattice = Lattice(shape, 10.0, periodic)
    expected = whole.trabeculae(geometry, lattice, 3)
    for workspace in workspaces(shape, 9000, 30_000):
        found = synthetic_planes(geometry, lattice, 3, workspace).whole()
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["empty", "plate", "rod", "sphere"])
@pytest.mark.parametrize("axis", [0, 2])
def test_simple_shapes_in_slabs_are_the_whole(kind, axis):
    geometry = Geometry(kind, thickness=40.0, radius=90.0, axis=axis, count=2)
    lattice = Lattice((20, 24, 31), 10.0)
    planes = [
        synthetic_planes(geometry, lattice, 0, space)
        for space in workspaces(lattice.shape, 3 * 20 * 24)
    ]
    first, *others = (made.whole() for made in planes)
    assert first.any() == (kind != "empty")
    for other in others:
        np.testing.assert_array_equal(first, other, strict=True)


def grown(score, wanted, periodic, space):
    values = space.filled(score.shape, lambda i, j: score[i:j], np.float32)
    scores = Scores(values, space.slabs(score.shape))
    return growth.connected_piece(scores, wanted, periodic, space).whole()


def test_pieces_of_any_size_grow_as_they_do_in_the_whole():
    """Scores of few values, so that voxels tie."""
    draw = np.random.default_rng(0)
    for turn in range(45):
        shape = tuple(draw.integers(1, 8, 3).tolist())
        periodic = tuple(draw.integers(0, 2, 3).astype(bool).tolist())
        score = draw.integers(0, draw.integers(2, 30), shape).astype(np.float32) / 100
        wanted = 1 + int(draw.integers(0, score.size)) // (1, 6)[turn % 2]
        expected = whole.connected_piece(whole.ranked(score), wanted, periodic)
        space = workspaces(shape, score.size // 2 + 1)[turn % 9 % 3]
        found = grown(score, wanted, periodic, space)
        np.testing.assert_array_equal(found, expected, err_msg=f"{shape} {periodic} {wanted}")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("wraps", [True, False])
def test_of_two_parts_of_one_size_the_first_one_is_the_piece(axis, wraps):
    """First is what holds the last plane of an axis that wraps."""
    score = np.full(11, 0.9, np.float32)
    score[[4, 5, 6, 8, 9, 10]], score[7] = 0.1, 0.2
    shape = [1, 1, 1]
    shape[axis] = 11
    score, periodic = score.reshape(shape), tuple(wraps and i == axis for i in range(3))
    expected = np.arange(7, 11) if wraps else np.arange(4, 8)
    np.testing.assert_array_equal(
        np.flatnonzero(whole.connected_piece(whole.ranked(score), 4, periodic)), expected
    )
    for space in workspaces(score.shape):
        np.testing.assert_array_equal(np.flatnonzero(grown(score, 4, periodic, space)), expected)


def test_pieces_meet_across_slabs_and_sides():
    draw = np.random.default_rng(1)
    for _ in range(40):
        shape = tuple(draw.integers(1, 10, 3).tolist())
        periodic = tuple(draw.integers(0, 2, 3).astype(bool).tolist())
        mask = draw.random(shape) < 0.12
        expected = whole.largest_piece(mask, periodic)
        for space in workspaces(shape, mask.size // 3 + 1):
            slabs = space.slabs(shape)
            pieces = find_pieces(lambda i, j, m=mask: m[i:j], slabs, periodic)
            assert pieces.sizes.sum() == mask.sum()
            assert pieces.sizes[pieces.largest] == expected.sum()
            number = np.concatenate([pieces.slab(i) for i in range(len(slabs))])
            assert ((number > 0) == mask).all()
            assert len(np.unique(number[expected])) <= 1


def test_the_deviation_is_that_of_numpy(monkeypatch):
    monkeypatch.setattr(waves, "LEAF", 1 << 10)
    draw = np.random.default_rng(2)
    for count in (7, 1000, *range(4099, 4119), 33_333, 70_001):
        values = np.exp(draw.normal(0, 3, (1, 1, count))).astype(np.float32)
        planes = Planes(values.shape, values.dtype, values)
        assert waves._summed(planes, 0, count, None) == values.sum()
        assert waves.deviation(planes) == values.std()
        assert waves.deviation(planes).dtype == np.float32


@pytest.mark.parametrize(
    ("edge", "budget"), [(112, 14), pytest.param(256, 64, marks=pytest.mark.full)]
)
def test_memory_stays_within_the_budget(edge, budget, tmp_path):
    """The arrays kept for the next step alone take 12 bytes a voxel: 17 MB, or 200."""
    geometry = Geometry("trabecular", bone_fraction=0.2, thickness=50.0)
    lattice = Lattice((edge,) * 3, 10.0, (True,) * 3)
    tracemalloc.start()
    try:
        made = synthetic_planes(geometry, lattice, 0, Workspace(budget << 20, tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < budget << 20
    assert sum(int(made.read(z, z + 1).sum()) for z in range(edge)) == round(0.2 * edge**3)


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, StorageError])
def test_temporary_files_have_no_name_and_go(tmp_path, monkeypatch, error):
    before, seen = open_files(), []
    grow = growth._grow

    def watched(*arguments):
        seen.append((open_files(), list(tmp_path.iterdir())))
        if error is not None:
            raise error("stopped")
        grow(*arguments)

    monkeypatch.setattr(growth, "_grow", watched)
    geometry = Geometry("trabecular", bone_fraction=0.05, thickness=20.0)
    arguments = geometry, Lattice((24, 36, 20), 10.0, (True,) * 3), 0, Workspace(1, tmp_path)
    if error is None:
        made = synthetic_planes(*arguments)
        assert made.read(0, 20).sum() == round(0.05 * 24 * 36 * 20)
        del made
    else:
        with pytest.raises(error, match="stopped"):
            synthetic_planes(*arguments)
    ((held, names),) = seen
    assert held > before
    assert names == []
    assert open_files() == before


def _no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("how", ["limit", "full", "filled meanwhile", "absent"])
def test_a_disk_without_room_is_told_in_one_sentence(tmp_path, monkeypatch, how):
    folder = tmp_path / "absent" if how == "absent" else tmp_path
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    elif how == "full":
        monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result((1, 1, 9, 9, 9) + (1,) * 5))
    elif how == "filled meanwhile":
        monkeypatch.setattr(os, "pwrite", _no_space)
    before = open_files()
    try:
        geometry = Geometry("trabecular", bone_fraction=0.2, thickness=50.0)
        with pytest.raises(StorageError) as caught:
            synthetic_planes(geometry, Lattice((40, 40, 40), 10.0), 0, Workspace(1, folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = str(caught.value)
    assert said.startswith(f"{folder}: ")
    assert "make room there" in said
    assert "--out" in said
    assert "\n" not in said
    del caught
    assert open_files() == before


def test_the_folder_of_the_machine_is_named_where_none_is_given(monkeypatch):
    monkeypatch.setattr(os, "pwrite", _no_space)
    with pytest.raises(StorageError, match=r"TMPDIR") as caught:
        Workspace(1).filled((4, 4, 4), lambda i, j: np.zeros((j - i, 4, 4)), np.float32)
    assert str(caught.value).startswith(tempfile.gettempdir())


@pytest.mark.parametrize(
    ("geometry", "periodic"),
    [
        (Geometry("trabecular", bone_fraction=0.2, thickness=30.0), (False, True, False)),
        (Geometry("sphere", radius=50.0), (False, False, False)),
    ],
)
@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_the_room_for_temporary_files_is_foretold(geometry, periodic, memory, monkeypatch):
    alive, most = weakref.WeakSet(), [0]
    begin = Planes.__init__

    def counted(self, shape, dtype, values, folder=None):
        begin(self, shape, dtype, values, folder)
        if values is None:
            alive.add(self)
        most.append(sum(planes.nbytes for planes in alive))

    monkeypatch.setattr(Planes, "__init__", counted)
    arguments = geometry, Lattice((20, 24, 26), 10.0, periodic)
    synthetic_planes(*arguments, 0, Workspace(memory))
    assert max(most) == temporary_bytes(*arguments, Workspace(memory))
    assert bool(max(most)) == (memory == 1)


@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_planes_in_a_file_are_read_and_written_as_those_in_memory(memory):
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    planes = Workspace(memory).filled(values.shape, lambda i, j: values[i:j].copy(), np.int16)
    np.testing.assert_array_equal(planes.whole(), values)
    np.testing.assert_array_equal(planes.read_rows(1, 4), values[:, 1:4])
    np.testing.assert_array_equal(planes[1:3, 2:5, slice(None)], values[1:3, 2:5], strict=True)
    np.testing.assert_array_equal(planes[slice(None), slice(None), 2:4], values[:, :, 2:4])
    places = np.array([3, 40, 41, 119])
    np.testing.assert_array_equal(planes.at(places), values.ravel()[places])
    planes.put_at(places, -7)
    planes.write_rows(0, np.full((4, 1, 6), -1, np.int16))
    expected = values.copy()
    expected.ravel()[places] = -7
    expected[:, 0] = -1
    np.testing.assert_array_equal(planes.whole(), expected)
