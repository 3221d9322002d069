"""What a folder of results belongs to, so that the same command goes on and another is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lattice.io.files import explain_os_error, write_text
from lattice.io.lock import NAME as LOCK
from lattice.io.lock import RunLock
from lattice.io.provenance import collect
from lattice.model.errors import InputError

__all__ = ["claimed_folder"]


@contextmanager
def claimed_folder(folder: Path, name: str, said: Mapping[str, Any], what: str) -> Iterator[None]:
    """Hold a folder, made if need be, as the one of what is `said` (see `_claim`); another process
    that wants it is refused meanwhile. Raises InputError, StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(folder, error) from error
    with RunLock(folder):
        _claim(folder, name, said, what)
        yield


def _claim(folder: Path, name: str, said: Mapping[str, Any], what: str) -> None:
    """Make a folder the one of what is `said` (for JSON), under a file of this name, or find that
    it is so already.

    Raises InputError where it holds something else; `what` says what that would be."""
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    path = folder / name
    if path.exists():
        if _digest_in(path) != digest:
            raise InputError(f"{folder} holds {what}; choose another folder with --out")
        return
    if any(item.name != LOCK for item in folder.iterdir()):
        raise InputError(f"{folder} is not empty; choose another folder with --out")
    write_text(path, json.dumps({"digest": digest, **said, "made by": collect()}, indent=1))


def _digest_in(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
