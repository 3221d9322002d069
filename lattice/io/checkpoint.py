"""Checkpoints: everything that the next step reads, in one file that is whole or refused.

A checkpoint is an HDF5 file behind a block of 512 bytes that holds the length and the SHA-256 of
all the rest. The block is checked before HDF5 sees a byte, so a damaged file never reaches a
parser. Inside are

``/manifest``        JSON: schema, model, seed, step, time, parameter values, provenance, and
                     dtype, shape and SHA-256 of every array and of the configuration
``/config``          the resolved model file
``/state/<field>``   what the next step reads
``/ledger/<field>``  running totals that no step reads

Arrays are global: nothing depends on the number of devices. Where several processes write, the
large ones are virtual datasets over the files of `shards`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lattice.engine.declare import declare
from lattice.io.datasets import write_array
from lattice.io.files import (
    dataset_in,
    group_in,
    make_folder_of,
    new_hdf5,
    replacing,
    text_in,
)
from lattice.io.seal import (
    FOLDER,
    SCHEMA,
    SEAL_BYTES,
    SHARED_SCHEMA,
    Damage,
    check_seal,
    write_seal,
)
from lattice.io.shards import (
    Share,
    Stored,
    await_parts,
    check_parts,
    is_shared,
    remove_parts,
    show_parts,
    write_part,
)
from lattice.model.errors import DamagedFileError, InputError
from lattice.model.structure import Model

BLOCK_BYTES = 1 << 26
DEFLATE_LIMIT = 1100  # deflate cannot shrink by more than 1032

Arrays = dict[str, Any]
"""Name -> array of the host, or `Stored`."""


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


def stored_digest(path: Path) -> str:
    """The digest of the state in a checkpoint, read a block of planes at a time, unverified."""
    total = hashlib.sha256()
    with h5py.File(path, "r", locking=False) as file:
        group = group_in(file, "state")
        for name in sorted(group):
            dataset = dataset_in(group, name)
            head = json.dumps([name, dataset.dtype.str, list(dataset.shape)])
            total.update(head.encode() + b"\n")
            for block in _blocks(dataset):
                total.update(_bytes_of(_little_endian(block)))
    return total.hexdigest()


def _blocks(dataset: h5py.Dataset) -> Iterator[np.ndarray]:
    """A dataset in pieces along its first axis, of at most about 64 MiB."""
    if not dataset.shape or not dataset.size:
        yield np.asarray(dataset[()])
        return
    planes = max(1, BLOCK_BYTES * dataset.shape[0] // max(1, dataset.nbytes))
    for first in range(0, dataset.shape[0], planes):
        yield np.asarray(dataset[first : first + planes])


def checkpoint_at(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in a run folder."""
    return folder / FOLDER / f"step-{step:09d}.h5"


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
    share: Share | None = None,
) -> Path:
    """Writes ``folder/checkpoints/step-<9 digits>.h5`` and returns its path.

    The file appears complete or not at all; older ones beyond the newest `keep` are removed
    after that. With a `share`, the arrays hold the block of this process alone; the first one
    waits for the parts of the others and writes the master, the others write their part.
    Raises StorageError when the disk refuses.
    """
    target = checkpoint_at(folder, step)
    make_folder_of(target)
    arrays = {f"state/{name}": _little_endian(a) for name, a in state.items()}
    arrays |= {f"ledger/{name}": _little_endian(a) for name, a in ledger.items()}
    divided = {} if share is None else _divided(model)
    parts: list[dict[str, Any]] = []
    if share is not None:
        own = {name: a for name, a in arrays.items() if name in divided}
        part = write_part(target.parent, share, step, own, divided, model.output.compression)
        if share.index:
            return part
        parts = await_parts(target.parent, share, step)
    schema = SCHEMA if share is None else SHARED_SCHEMA
    manifest = {
        "schema": schema,
        "model": model.name,
        "seed": int(seed),
        "step": int(step),
        "time_h": float(time_h),
        "values": model.values,
        "provenance": dict(provenance),
        "config": hashlib.sha256(model.text.encode()).hexdigest(),
        "arrays": {name: _describe(a) for name, a in arrays.items() if name not in divided},
    }
    manifest |= {"digest": digest(state)} if share is None else {"parts": parts}
    with replacing(target) as temporary:
        with new_hdf5(temporary, user_block=SEAL_BYTES) as file:
            file["manifest"] = json.dumps(manifest)
            file["config"] = model.text
            file.create_group("state")
            file.create_group("ledger")
            for name, array in arrays.items():
                if share is not None and name in divided:
                    show_parts(file, parts, name, divided[name], share.shape, array)
                    continue
                write_array(file, name, array, model.output.compression)
            for spec in declare(model):
                group = group_in(file, "state" if spec.restart else "ledger")
                if spec.name in group:
                    dataset = dataset_in(group, spec.name)
                    dataset.attrs["dims"] = " ".join(spec.dims)
                    dataset.attrs["unit"] = spec.unit
        write_seal(temporary, schema)
    _prune(target.parent, newest=step, keep=keep)
    remove_parts(target.parent, step, [path for _, path in _numbered(target.parent)])
    return target


def _divided(model: Model) -> dict[str, tuple[str, ...]]:
    """Full name -> axes of the arrays that lie in parts where several processes write."""
    return {
        f"{'state' if spec.restart else 'ledger'}/{spec.name}": spec.dims
        for spec in declare(model)
        if is_shared(spec.dims)
    }


def read_checkpoint(path: Path, *, stored: bool = False) -> Checkpoint:
    """Reads and verifies one checkpoint.

    `stored` leaves the arrays in the file, as `shards.Stored`, once its bytes and those of its
    parts are verified; there is no digest then.

    Raises InputError when the file is absent, foreign or newer than this program, and
    DamagedFileError, naming the newest good checkpoint beside it, when it is not what was written.
    """
    try:
        return _read(path, stored)
    except Damage as damage:
        raise DamagedFileError(f"{path} is damaged ({damage}); {_advice(path)}") from damage


def newest_checkpoint(folder: Path, *, stored: bool = False) -> Checkpoint:
    """The newest good checkpoint of a run folder (or of a folder of checkpoints); `stored` leaves
    its arrays in the file (see `read_checkpoint`).

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
            return replace(_read(path, stored), skipped=tuple(skipped))
        except Damage as damage:
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
    for path in folder.glob(".step-*.h5.part"):
        if re.fullmatch(r"\.step-\d+\.h5\.part", path.name):
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


def _advice(path: Path) -> str:
    for other in list_checkpoints(path.parent):
        if other == path:
            continue
        try:
            _check_whole(other)
        except (Damage, InputError):
            continue
        return f"the newest good checkpoint is {other}"
    return "there is no other good checkpoint beside it, so start the run again"


def _check_whole(path: Path) -> None:
    """Raises Damage or InputError if the file or one of its parts is not what was written."""
    check_seal(path)
    with h5py.File(path, "r", locking=False) as file:
        check_parts(path, json.loads(text_in(file, "manifest")).get("parts", []))


def _read(path: Path, stored: bool = False) -> Checkpoint:
    check_seal(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            manifest = json.loads(text_in(file, "manifest"))
            config = text_in(file, "config")
            if hashlib.sha256(config.encode()).hexdigest() != manifest["config"]:
                raise Damage("its configuration does not match its manifest")
            size = path.stat().st_size + check_parts(path, manifest.get("parts", []))
            arrays = _stored(file, path) if stored else _loaded(file, manifest, size)
        state, ledger = _under("state/", arrays), _under("ledger/", arrays)
        found = "" if stored else digest(state)
        if not stored and found != manifest.get("digest", found):
            raise Damage("its state does not match its digest")
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
            digest=found,
        )
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into the memory of this machine: resume it on a larger one"
        ) from error
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise Damage(f"its contents are incomplete: {error}") from error


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _loaded(file: h5py.File, manifest: Mapping[str, Any], size: int) -> Arrays:
    """All arrays, each as its manifest says; those in parts are as the parts' checksums say."""
    described = manifest["arrays"]
    limit = size * DEFLATE_LIMIT
    arrays = {name: _load(file, name, described[name], limit) for name in described}
    if manifest.get("parts"):
        for name in _names(file):
            if name not in arrays:
                arrays[name] = _load(file, name, None, limit)
    return arrays


def _stored(file: h5py.File, path: Path) -> dict[str, Stored]:
    return {name: Stored(path, name, dataset_in(file, name).shape) for name in _names(file)}


def _names(file: h5py.File) -> list[str]:
    """Full names of all arrays in a checkpoint."""
    return [f"{group}/{name}" for group in ("state", "ledger") for name in group_in(file, group)]


def _load(file: h5py.File, name: str, expected: Mapping[str, Any] | None, limit: int) -> np.ndarray:
    dataset = dataset_in(file, name)
    # A claim that the file is too small to hold is refused before memory is set aside for it.
    if dataset.nbytes > limit:
        raise Damage(f"{name} claims more data than the file can hold")
    array = np.asarray(dataset[()])
    if expected is not None and _describe(array) != expected:
        raise Damage(f"{name} does not match its checksum")
    return array
