"""Checkpoints come back whole or are refused in one sentence."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from lattice.io.checkpoint import (
    digest,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from lattice.io.files import StorageError
from lattice.model.errors import DamagedFileError, InputError, OsteolatticeError
from tests.io import samples

ROOT = Path(__file__).parents[2]


def write(folder: Path, step: int, keep: int = 3, compression: str = "gzip") -> Path:
    return write_checkpoint(
        folder,
        state=samples.state(step),
        ledger=samples.ledger(),
        model=samples.model(compression=compression),
        seed=2**63 + 1,
        step=step,
        time_h=0.1 * step,
        provenance={"host": "here", "device_count": 2},
        keep=keep,
    )


def seal(path: Path, schema: int = 1) -> None:
    """Makes the checksum of a file right again after a change, as a forger would."""
    body = path.read_bytes()[512:]
    text = f"osteolattice checkpoint {schema}\nbytes {len(body) + 512}\n"
    text += f"sha256 {hashlib.sha256(body).hexdigest()}\n"
    path.write_bytes(text.encode().ljust(512, b"\0") + body)


def assert_one_sentence(error: OsteolatticeError, path: Path) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_round_trip_is_exact(tmp_path, compression):
    path = write(tmp_path, 7, compression=compression)
    assert path == tmp_path / "checkpoints" / "step-000000007.h5"
    found = read_checkpoint(path)
    for expected, arrays in (
        (samples.state(7), found.state),
        (samples.ledger(), found.ledger),
    ):
        assert set(arrays) == set(expected)
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name], strict=True)
    assert (found.seed, found.step, found.time_h) == (2**63 + 1, 7, 0.1 * 7)
    assert found.config == samples.model().text
    assert found.values == {"rule.engulf.rate": 0.1}
    assert found.provenance == {"host": "here", "device_count": 2}
    assert found.digest == digest(samples.state(7))


def test_h5py_opens_a_checkpoint_and_finds_units(tmp_path):
    with h5py.File(write(tmp_path, 1)) as file:
        assert file["state/cytokines"].attrs["unit"] == "ng/mL or uM"
        assert file["state/cytokines"].attrs["dims"] == "z y x cytokine"
        assert file["state/cells"].fletcher32
        assert json.loads(file["manifest"][()])["step"] == 1


def test_digest_sees_names_types_shapes_and_values_only():
    fields = samples.state(1)
    expected = digest(fields)
    assert digest(dict(reversed(fields.items()))) == expected
    assert digest({n: np.array(a, order="F") for n, a in fields.items()}) == expected
    assert digest({n: a.astype(a.dtype.newbyteorder(">")) for n, a in fields.items()}) == expected
    cells = fields["cells"]
    for other in (cells.reshape(-1), cells.astype(np.int8), np.flip(cells, 0)):
        assert digest(fields | {"cells": other}) != expected
    renamed = {n.replace("bone", "bono"): a for n, a in fields.items()}
    assert digest(renamed) != expected


def test_old_ones_are_removed_but_never_the_one_just_written(tmp_path):
    for step in (1, 2, 3, 4):
        write(tmp_path, step, keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == [
        "step-000000004.h5",
        "step-000000003.h5",
    ]
    write(tmp_path, 2, keep=1)
    assert "step-000000002.h5" in [p.name for p in list_checkpoints(tmp_path)]


def test_truncation_and_flipped_bits_are_always_found(tmp_path):
    good = write(tmp_path, 1)
    path = write(tmp_path, 2)
    whole = path.read_bytes()
    draw = random.Random(0)
    damaged = [whole[:n] for n in {0, 1, 100, 511, 512, 520, len(whole) - 1}]
    damaged += [whole[: draw.randrange(len(whole))] for _ in range(60)]
    for position in [*range(0, 130, 7), *(draw.randrange(len(whole)) for _ in range(240))]:
        changed = bytearray(whole)
        changed[position] ^= 1 << draw.randrange(8)
        damaged.append(bytes(changed))
    damaged.append(whole + b"\0")
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises((DamagedFileError, InputError)) as caught:
            read_checkpoint(path)
        assert_one_sentence(caught.value, path)
        if isinstance(caught.value, DamagedFileError):
            assert str(good) in str(caught.value)
        found = newest_checkpoint(tmp_path)
        assert found.step == 1
        assert len(found.skipped) == 1


def _drop_array(file: h5py.File) -> None:
    del file["state/cells"]


def _change_value(file: h5py.File) -> None:
    file["state/cells"][0, 0, 0] += 1


def _change_ledger(file: h5py.File) -> None:
    file["ledger/events"][0, 0] += 1


def _change_type(file: h5py.File) -> None:
    values = file["state/since"][()]
    del file["state/since"]
    file["state/since"] = values.astype(np.int64)


def _change_config(file: h5py.File) -> None:
    del file["config"]
    file["config"] = "schema = 1\n"


def _claim_terabytes(file: h5py.File) -> None:
    del file["state/cells"]
    file.create_dataset("state/cells", shape=(10**4, 10**4, 10**4), dtype="u1", chunks=True)


def _break_manifest(file: h5py.File) -> None:
    del file["manifest"]
    file["manifest"] = "{"


def _swap_group(file: h5py.File) -> None:
    del file["state/cells"]
    file.create_group("state/cells")


@pytest.mark.parametrize(
    "change",
    [
        _drop_array,
        _change_value,
        _change_ledger,
        _change_type,
        _change_config,
        _claim_terabytes,
        _break_manifest,
        _swap_group,
    ],
)
def test_changed_contents_are_found_behind_a_right_checksum(tmp_path, change):
    path = write(tmp_path, 1)
    with h5py.File(path, "r+") as file:
        change(file)
    seal(path)
    with pytest.raises(DamagedFileError, match="no other good checkpoint") as caught:
        read_checkpoint(path)
    assert_one_sentence(caught.value, path)


def test_resealing_alone_changes_nothing(tmp_path):
    path = write(tmp_path, 1)
    seal(path)
    assert read_checkpoint(path).step == 1


def test_files_are_read_without_jax():
    code = (
        "import sys, lattice.io.checkpoint, lattice.io.export, lattice.io.images\n"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_foreign_newer_and_absent_files_are_refused(tmp_path):
    path = write(tmp_path, 1)
    seal(path, schema=3)
    with pytest.raises(InputError, match="newer osteolattice"):
        read_checkpoint(path)
    path.write_bytes(b"PK\x03\x04" + bytes(2000))
    with pytest.raises(InputError, match="not a checkpoint"):
        read_checkpoint(path)
    with pytest.raises(InputError, match="No such file"):
        read_checkpoint(tmp_path / "step-000000009.h5")
    with pytest.raises(InputError, match="holds no checkpoint"):
        newest_checkpoint(tmp_path / "nowhere")
    with pytest.raises(DamagedFileError, match="can be used"):
        newest_checkpoint(tmp_path)


def test_a_killed_process_leaves_a_good_checkpoint(tmp_path):
    """kill -9 at arbitrary moments of a process that does nothing but write checkpoints."""
    code = (
        "import itertools, sys; from pathlib import Path; from tests.io import test_checkpoint\n"
        "print('ready', flush=True)\n"
        "for step in itertools.count(int(sys.argv[2])):\n"
        "    test_checkpoint.write(Path(sys.argv[1]), step, keep=2)\n"
    )
    step = 0
    for delay in (0.05, 0.12, 0.21, 0.34, 0.4):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(step)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        while not list_checkpoints(tmp_path):
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        found = newest_checkpoint(tmp_path)
        assert found.skipped == ()
        assert found.digest == digest(samples.state(found.step))
        step = found.step + 1
    write(tmp_path, step)
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_is_one_sentence_and_spares_what_was_complete(tmp_path):
    """The limit on file size stands for the disk; it strikes at every stage of the file."""
    code = (
        "import resource, sys; from pathlib import Path; from tests.io import test_checkpoint\n"
        "from lattice.io.files import StorageError\n"
        "folder = Path(sys.argv[1]); path = test_checkpoint.write(folder, 1)\n"
        "size = path.stat().st_size; hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "for limit in [10, 500, 513, 1000, *range(2000, size, size // 12), size - 1]:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))\n"
        "    try:\n"
        "        test_checkpoint.write(folder, 2)\n"
        "    except StorageError as error:\n"
        "        assert 'step-000000002.h5' in str(error) and 'File too large' in str(error)\n"
        "    else:\n"
        "        sys.exit('a file larger than the disk was accepted')\n"
        "    assert [p.name for p in path.parent.iterdir()] == [path.name]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "test_checkpoint.write(folder, 3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [read_checkpoint(p).step for p in list_checkpoints(tmp_path)] == [3, 1]


def test_a_folder_that_is_gone_is_one_sentence(tmp_path):
    with pytest.raises(StorageError, match="could not be written") as caught:
        write(tmp_path / "gone", 1)
    assert caught.value.exit_code == 3
