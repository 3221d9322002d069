"""Checkpoints of several processes: whole or refused, part by part."""

from __future__ import annotations

import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lattice.io import shards
from lattice.io.checkpoint import (
    digest,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    stored_digest,
    write_checkpoint,
)
from lattice.io.files import StorageError
from lattice.io.shards import Share
from lattice.model.errors import DamagedFileError
from tests.io import samples
from tests.io.samples import Cuts, blocks, own

ALONG_Z: Cuts = ((0, 2, 8), (0, 10), (0, 12))


def write_one(folder: Path, step: int, cuts: Cuts, i: int, attempt: int, keep: int) -> Path:
    block, count = blocks(cuts)[i], len(blocks(cuts))
    first = tuple(block[axis].start for axis in ("z", "y", "x"))
    return write_checkpoint(
        folder,
        state=own(samples.state(step), block),
        ledger=own(samples.ledger(), block),
        model=samples.model(),
        seed=3,
        step=step,
        time_h=0.1 * step,
        provenance={"host": "here", "device_count": count},
        keep=keep,
        share=Share(i, count, first, samples.SHAPE, attempt),
    )


def write(folder: Path, step: int, cuts: Cuts = ALONG_Z, attempt: int = 10, keep: int = 3) -> Path:
    """A checkpoint by several writers at once, the first of which waits for the others."""
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(write_one, folder, step, cuts, i, attempt, keep)
            for i in range(len(blocks(cuts)))
        ]
        return jobs[0].result()


def parts(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "checkpoints").glob("step-*.part-*"))


@pytest.mark.parametrize(
    "cuts",
    [
        ((0, 8), (0, 10), (0, 12)),
        ((0, 2, 4, 6, 8), (0, 10), (0, 12)),
        ALONG_Z,
        ((0, 8), (0, 5, 10), (0, 12)),
        ((0, 4, 8), (0, 5, 10), (0, 3, 12)),
    ],
)
def test_parts_come_back_as_one_checkpoint(tmp_path, cuts):
    path = write(tmp_path, 7, cuts)
    found = read_checkpoint(path)
    assert set(found.ledger) == set(samples.ledger())
    for name, array in {**samples.state(7), **samples.ledger()}.items():
        back = {**found.state, **found.ledger}[name]
        np.testing.assert_array_equal(back, array, err_msg=name)
        assert back.dtype == array.dtype
    assert found.digest == digest(samples.state(7)) == stored_digest(path)
    # The master itself holds none of the large arrays.
    assert path.stat().st_size < 60_000
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "checkpoints", moved / "checkpoints")
    shutil.rmtree(tmp_path / "checkpoints")
    assert newest_checkpoint(moved).digest == found.digest


def test_a_stored_array_is_read_by_parts(tmp_path):
    found = read_checkpoint(write(tmp_path, 7), stored=True)
    cells = found.state["cells"]
    assert cells.shape == samples.SHAPE
    np.testing.assert_array_equal(cells[3:5], samples.state(7)["cells"][3:5])
    block = (slice(1, 5), slice(0, 10), slice(6, 9))
    np.testing.assert_array_equal(cells[block], samples.state(7)["cells"][block])
    assert found.state["step"][()] == 7


def test_parts_of_a_program_that_divided_z_alone_stay_readable(tmp_path):
    with zipfile.ZipFile(Path(__file__).with_name("data") / "parts_along_z.zip") as stored:
        stored.extractall(tmp_path)
    found = newest_checkpoint(tmp_path)
    assert (found.step, found.digest) == (7, digest(samples.state(7)))
    kept = newest_checkpoint(tmp_path, stored=True)
    part = (slice(1, 6), slice(None), slice(2, 4))
    np.testing.assert_array_equal(kept.state["osteoid"][part], samples.state(7)["osteoid"][part])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def exchanged(path: Path) -> None:
    """A good part, but of another step."""
    shutil.copy(path.with_name(path.name.replace("000000008", "000000007")), path)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (Path.unlink, "is missing"),
        (truncated, "is damaged"),
        (flipped, "is damaged"),
        (exchanged, "belongs to another checkpoint"),
        (lambda path: path.write_bytes(b"something else"), "cannot be used"),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("stored", [False, True])
def test_a_spoilt_part_is_named_with_the_next_good_checkpoint(tmp_path, spoil, word, which, stored):
    good, bad = write(tmp_path, 7), write(tmp_path, 8)
    name = parts(tmp_path)[2 + which]
    assert "000000008" in name
    spoil(tmp_path / "checkpoints" / name)
    with pytest.raises(DamagedFileError, match=word) as caught:
        read_checkpoint(bad, stored=stored)
    assert caught.value.exit_code == 4
    for expected in (str(bad), name, f"the newest good checkpoint is {good}"):
        assert expected in str(caught.value)
    found = newest_checkpoint(tmp_path, stored=stored)
    assert found.path == good
    assert name in found.skipped[0]
    # The older one spoilt too: it is not offered.
    spoil_older = tmp_path / "checkpoints" / parts(tmp_path)[0]
    spoil_older.unlink()
    with pytest.raises(DamagedFileError, match="no other good checkpoint"):
        read_checkpoint(bad, stored=stored)


def test_old_checkpoints_go_with_their_parts(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step, keep=2)
    assert [int(p.stem[-1]) for p in list_checkpoints(tmp_path)] == [3, 2]
    assert len(parts(tmp_path)) == 4
    # What a killed attempt has left goes as well; what another process writes already stays.
    folder = tmp_path / "checkpoints"
    for name in (
        "step-000000002.part-0-of-2.99.h5",  # an earlier attempt at a step that is kept
        "step-000000003.part-1-of-2.99.h5",
        "step-000000004.part-1-of-2.99.h5",
        ".step-000000004.part-0-of-2.99.h5.part",
        ".step-000000009.part-0-of-2.a.h5.part",
    ):
        (folder / name).write_bytes(b"")
    write(tmp_path, 4, keep=2)
    left = [p.name for p in folder.iterdir() if "99" in p.name or p.name.startswith(".")]
    assert left == [".step-000000009.part-0-of-2.a.h5.part"]
    # One process alone goes on: its files have no parts.
    write_checkpoint(
        tmp_path,
        state=samples.state(5),
        ledger=samples.ledger(),
        model=samples.model(),
        seed=3,
        step=5,
        time_h=0.5,
        provenance={},
        keep=1,
    )
    assert parts(tmp_path) == []


def test_a_part_that_never_comes_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "PATIENCE", 0.1)
    with pytest.raises(StorageError, match=r"part-1-of-2\.a\.h5 was not written"):
        write_one(tmp_path, 7, ALONG_Z, 0, 10, 3)
    assert list_checkpoints(tmp_path) == []


def test_a_master_cannot_name_files_elsewhere(tmp_path):
    from lattice.io.seal import Damage

    with pytest.raises(Damage, match="no part of a checkpoint"):
        shards.check_parts(tmp_path / "step-000000001.h5", [{"file": "../secret", "seal": ""}])
