"""The first block of a checkpoint's file: the length and the SHA-256 of all that follows it.

It is checked before HDF5 sees a byte, so a damaged file never reaches a parser.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import h5py

from lattice.io.files import newer, text_in
from lattice.model.errors import InputError

SCHEMA = 1
"""That of a checkpoint in one file, and of a part of one that many processes have written."""

SHARED_SCHEMA = 2
"""That of a checkpoint whose arrays lie in files of several processes."""

FOLDER = "checkpoints"
SEAL_BYTES = 512  # the smallest user block that HDF5 allows
MAGIC = b"osteolattice checkpoint "
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Damage(Exception):
    """What is wrong with a file, as a clause."""


def seal_of(path: Path, schema: int = SCHEMA) -> bytes:
    """The first block of a file: its length and the SHA-256 of all that follows the block."""
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(SEAL_BYTES)
        hashed = hashlib.file_digest(file, "sha256").hexdigest()
    text = MAGIC + f"{schema}\nbytes {length}\nsha256 {hashed}\n".encode()
    return text.ljust(SEAL_BYTES, b"\0")


def write_seal(path: Path, schema: int = SCHEMA) -> bytes:
    """Seal a file that is complete but for its first block; returns the seal."""
    text = seal_of(path, schema)
    with open(path, "rb+", buffering=0) as raw:
        os.pwrite(raw.fileno(), text, 0)
    return text


def check_seal(path: Path) -> bytes:
    """The seal of a file that is what was written. Raises Damage, or InputError for a file that is
    absent, foreign or newer."""
    try:
        with open(path, "rb") as file:
            head = file.read(SEAL_BYTES + len(HDF5_SIGNATURE))
        if not head.startswith(MAGIC) and head[SEAL_BYTES:] != HDF5_SIGNATURE:
            raise InputError(
                f"{path} is not a checkpoint of osteolattice: name a run folder or one of the "
                f"files in its {FOLDER} folder"
            )
        found = re.match(re.escape(MAGIC) + rb"(\d{1,9})\n", head)
        if found and (schema := int(found[1])) > SHARED_SCHEMA:
            sealed = head[:SEAL_BYTES] == seal_of(path, schema)
            raise newer(path, schema, SHARED_SCHEMA, _writer(path) if sealed else None)
        if head[:SEAL_BYTES] != seal_of(path, int(found[1]) if found else SCHEMA):
            raise Damage("its bytes do not match its checksum")
        return head[:SEAL_BYTES]
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
