"""Checkpoints: everything that the next step reads, in one file that is whole or refused.

A checkpoint is an HDF5 file behind a block of 512 bytes that holds the length and the SHA-256 of
all the rest. The block is checked before HDF5 sees a byte, so a damaged file never reaches a
parser. Inside are

``/manifest``        JSON: schema, model, seed, step, time, parameter values, provenance, and
                     dtype, shape and SHA-256 of every array and of the configuration
``/config``          the resolved model file
``/state/<field>``   what the next step reads
``/ledger/<field>``  running totals that no step reads

Arrays are global: nothing depends on the number of devices.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lattice.engine.declare import declare
from lattice.io.files import (
    dataset_in,
    explain_os_error,
    group_in,
    new_hdf5,
    newer,
    replacing,
    storage_options,
    text_in,
)
from lattice.model.errors import DamagedFileError, InputError
from lattice.model.structure import Model

SCHEMA = 1
FOLDER = "checkpoints"
SEAL_BYTES = 512  # the smallest user block that HDF5 allows
MAGIC = b"osteolattice checkpoint "
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
DEFLATE_LIMIT = 1100  # deflate cannot shrink by more than 1032

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    `values` are the model's numbers in canonical units (they differ from `config` when a run was
    started with `Model.with_values`). `skipped` tells why newer files were passed over.
    """

    path: Path
    state: Arrays
    ledger: Arrays
    model: str
    config: str
    values: dict[str, float]
    seed: int
    step: int
    time_h: float
    provenance: dict[str, Any]
    digest: str
    skipped: tuple[str, ...] = ()


class _Damage(Exception):
    """What is wrong with a file, as a clause."""


def digest(state: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the logical state: names, dtypes, shapes and little-endian C-order bytes of all
    arrays, in the order of their names. Independent of how and where the state is stored."""
    total = hashlib.sha256()
    for name in sorted(state):
        array = _little_endian(state[name])
        head = json.dumps([name, array.dtype.str, list(array.shape)])
        total.update(head.encode() + b"\n")
        total.update(_bytes_of(array))
    return total.hexdigest()


def write_checkpoint(
    folder: Path,
    *,
    state: Mapping[str, np.ndarray],
    ledger: Mapping[str, np.ndarray],
    model: Model,
    seed: int,
    step: int,
    time_h: float,
    provenance: Mapping[str, Any],
    keep: int,
) -> Path:
    """Writes ``folder/checkpoints/step-<9 digits>.h5`` and returns its path.

    The file appears complete or not at all; older ones beyond the newest `keep` are removed
    after that. Raises StorageError when the disk refuses.
    """
    target = folder / FOLDER / f"step-{step:09d}.h5"
    try:
        target.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise explain_os_error(target, error) from error
    arrays = {f"state/{name}": _little_endian(a) for name, a in state.items()}
    arrays |= {f"ledger/{name}": _little_endian(a) for name, a in ledger.items()}
    manifest = {
        "schema": SCHEMA,
        "model": model.name,
        "seed": int(seed),
        "step": int(step),
        "time_h": float(time_h),
        "values": model.values,
        "provenance": dict(provenance),
        "config": hashlib.sha256(model.text.encode()).hexdigest(),
        "arrays": {name: _describe(a) for name, a in arrays.items()},
        "digest": digest(state),
    }
    with replacing(target) as temporary:
        with new_hdf5(temporary, user_block=SEAL_BYTES) as file:
            file["manifest"] = json.dumps(manifest)
            file["config"] = model.text
            file.create_group("state")
            file.create_group("ledger")
            for name, array in arrays.items():
                options = storage_options(array.shape, array.dtype, model.output.compression)
                file.create_dataset(name, data=array, **options)
            for spec in declare(model):
                group = group_in(file, "state" if spec.restart else "ledger")
                if spec.name in group:
                    dataset = dataset_in(group, spec.name)
                    dataset.attrs["dims"] = " ".join(spec.dims)
                    dataset.attrs["unit"] = spec.unit
        with open(temporary, "rb+", buffering=0) as raw:
            os.pwrite(raw.fileno(), _seal(temporary), 0)
    _prune(target.parent, newest=step, keep=keep)
    return target


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint.

    Raises InputError when the file is absent, foreign or newer than this program, and
    DamagedFileError, naming the newest good checkpoint beside it, when it is not what was written.
    """
    try:
        return _read(path)
    except _Damage as damage:
        raise DamagedFileError(f"{path} is damaged ({damage}); {_advice(path)}") from damage


def newest_checkpoint(folder: Path) -> Checkpoint:
    """The newest good checkpoint of a run folder (or of a folder of checkpoints).

    Those that cannot be used are passed over and named in `Checkpoint.skipped`. Raises InputError
    when there is none at all, DamagedFileError when none can be used.
    """
    paths = list_checkpoints(folder)
    if not paths:
        raise InputError(
            f"{folder} holds no checkpoint: name the folder of a run, or start one with "
            "`osteolattice run`"
        )
    skipped: list[str] = []
    for path in paths:
        try:
            return replace(_read(path), skipped=tuple(skipped))
        except _Damage as damage:
            skipped.append(f"{path} is damaged ({damage})")
        except InputError as error:
            skipped.append(str(error))
    raise DamagedFileError(
        f"no checkpoint in {folder} can be used: {'; '.join(skipped)}; start the run again"
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """Paths of all complete checkpoints, newest first, unverified."""
    inner = folder / FOLDER
    return [path for _, path in sorted(_numbered(inner if inner.is_dir() else folder))[::-1]]


def _numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if found := re.fullmatch(r"step-(\d{9,})\.h5", path.name):
            yield int(found[1]), path


def _prune(folder: Path, *, newest: int, keep: int) -> None:
    # Files with a later step are damaged ones that a resumed run passed over: they must not
    # push out the good ones.
    done = sorted(item for item in _numbered(folder) if item[0] <= newest)
    for _, path in done[: -max(1, keep)]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".step-*.part"):
        path.unlink(missing_ok=True)


def _little_endian(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _bytes_of(array: np.ndarray) -> memoryview | bytes:
    # An array with an axis of length 0 cannot be cast to bytes.
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _describe(array: np.ndarray) -> dict[str, Any]:
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "sha256": hashlib.sha256(_bytes_of(array)).hexdigest(),
    }


def _seal(path: Path, schema: int = SCHEMA) -> bytes:
    """The first block of a file: its length and the SHA-256 of all that follows the block."""
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(SEAL_BYTES)
        hashed = hashlib.file_digest(file, "sha256").hexdigest()
    text = MAGIC + f"{schema}\nbytes {length}\nsha256 {hashed}\n".encode()
    return text.ljust(SEAL_BYTES, b"\0")


def _check_seal(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            head = file.read(SEAL_BYTES + len(HDF5_SIGNATURE))
        if not head.startswith(MAGIC) and head[SEAL_BYTES:] != HDF5_SIGNATURE:
            raise InputError(
                f"{path} is not a checkpoint of osteolattice: name a run folder or one of the "
                f"files in its {FOLDER} folder"
            )
        found = re.match(re.escape(MAGIC) + rb"(\d{1,9})\n", head)
        if found and (schema := int(found[1])) > SCHEMA:
            sealed = head[:SEAL_BYTES] == _seal(path, schema)
            raise newer(path, schema, SCHEMA, _writer(path) if sealed else None)
        if head[:SEAL_BYTES] != _seal(path):
            raise _Damage("its bytes do not match its checksum")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): name a run folder or a checkpoint in it"
        ) from error


def _writer(path: Path) -> str | None:
    """The version that has written a sealed file of a schema that this program does not know."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return json.loads(text_in(file, "manifest"))["provenance"]["versions"]["osteolattice"]
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError):
        return None


def _advice(path: Path) -> str:
    for other in list_checkpoints(path.parent):
        if other == path:
            continue
        try:
            _check_seal(other)
        except (_Damage, InputError):
            continue
        return f"the newest good checkpoint is {other}"
    return "there is no other good checkpoint beside it, so start the run again"


def _read(path: Path) -> Checkpoint:
    _check_seal(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            manifest = json.loads(text_in(file, "manifest"))
            config = text_in(file, "config")
            if hashlib.sha256(config.encode()).hexdigest() != manifest["config"]:
                raise _Damage("its configuration does not match its manifest")
            limit = path.stat().st_size * DEFLATE_LIMIT
            described = manifest["arrays"]
            arrays = {name: _load(file, name, described[name], limit) for name in described}
        state, ledger = _under("state/", arrays), _under("ledger/", arrays)
        if digest(state) != manifest["digest"]:
            raise _Damage("its state does not match its digest")
        return Checkpoint(
            path=path,
            state=state,
            ledger=ledger,
            model=manifest["model"],
            config=config,
            values=manifest["values"],
            seed=manifest["seed"],
            step=manifest["step"],
            time_h=manifest["time_h"],
            provenance=manifest["provenance"],
            digest=manifest["digest"],
        )
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into the memory of this machine: resume it on a larger one"
        ) from error
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise _Damage(f"its contents are incomplete: {error}") from error


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _load(file: h5py.File, name: str, expected: Mapping[str, Any], limit: int) -> np.ndarray:
    dataset = dataset_in(file, name)
    # A claim that the file is too small to hold is refused before memory is set aside for it.
    if dataset.nbytes > limit:
        raise _Damage(f"{name} claims more data than the file can hold")
    array = np.asarray(dataset[()])
    if _describe(array) != expected:
        raise _Damage(f"{name} does not match its checksum")
    return array
