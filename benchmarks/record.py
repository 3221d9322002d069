"""The record of one measurement, and the files that hold records."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lattice.io.files import newer, replacing
from lattice.model.errors import InputError

SCHEMA = 2
"""Stands in every record; 1, where there was none, had records of varying form."""


@dataclass(frozen=True)
class Record:
    """What was measured, on what, with which code; None where a case does not measure it.

    `case`, `method`, `size`, `precision` and `parameters` say what was measured: records that
    differ in one of them are not of the same thing. `size` is in voxels along z, y, x. `median_s`
    and `iqr_s` are over `repeats` executions of the unit that `mlups` (million voxel updates per
    second) counts. `copy_fraction` is `bytes_counted` per second as a part of what a copy of as
    many bytes reached in the same process (`copy_bytes_per_s`). Errors are relative, of the worst
    species. `peak_bytes` is the largest resident memory of the process until then.
    `more` holds what only this case measures, by names that end in their unit.
    """

    case: str
    method: str
    size: tuple[int, int, int]
    precision: str = "float32"
    parameters: dict[str, Any] = field(default_factory=dict)
    error_l2: float | None = None
    error_linf: float | None = None
    seconds_per_simulated_day: float | None = None
    median_s: float | None = None
    iqr_s: float | None = None
    repeats: int | None = None
    mlups: float | None = None
    bytes_counted: int | None = None
    copy_bytes_per_s: float | None = None
    copy_fraction: float | None = None
    compile_s: float | None = None
    peak_bytes: int | None = None
    bytes_per_voxel: float | None = None
    more: dict[str, Any] = field(default_factory=dict)
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    dirty: bool | None = None
    utc: str | None = None

    @property
    def key(self) -> tuple[str, str, tuple[int, int, int], str, str]:
        """What was measured: equal for two measurements of the same thing."""
        told = json.dumps(self.parameters, sort_keys=True)
        return self.case, self.method, self.size, self.precision, told

    @property
    def voxels(self) -> int:
        """Voxels of the lattice."""
        return math.prod(self.size)


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write a list of records; the file appears whole or not at all. Raises StorageError."""
    found = [{"schema": SCHEMA, **asdict(r)} for r in records]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read_files(paths: Iterable[Path]) -> list[Record]:
    """The records of several files, in order. Raises InputError."""
    return [record for path in paths for record in read_records(path)]


def read_records(path: Path) -> list[Record]:
    """The records of a file. Raises InputError, which says in one sentence what is wrong."""
    advice = "name a file that `osteolattice bench --json` has written"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {advice}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not JSON: {advice}") from None
    if not isinstance(found, list) or not found:
        raise InputError(f"{path} holds no list of benchmark records: {advice}")
    return [_record(one, path, f"{path}, record {i}") for i, one in enumerate(found, start=1)]


def _record(found: object, path: Path, where: str) -> Record:
    if not isinstance(found, dict):
        raise InputError(f"{where} is {_shown(found)}, not a table of what was measured")
    found = dict(found)
    schema = found.pop("schema", None)
    if isinstance(schema, int) and schema > SCHEMA:
        raise newer(path, schema, SCHEMA, None)
    if schema != SCHEMA:
        raise InputError(f"{where}: its schema is {_shown(schema)}, not {SCHEMA}: measure anew")
    known = {f.name: f for f in fields(Record)}
    for name in found:
        if name not in known:
            raise InputError(f'{where}: "{name}" is no part of a record')
    for name in ("case", "method", "size"):
        if name not in found:
            raise InputError(f'{where}: "{name}" is missing')
    for name, value in found.items():
        wanted, fits = _KINDS[str(known[name].type)]
        if not fits(value):
            raise InputError(f"{where}: {name} is {_shown(value)}; it should be {wanted}")
    return Record(**{**found, "size": tuple(found["size"])})


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_size(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_count(n) and n for n in value)


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


_KINDS = {
    "str": ("a text", lambda v: isinstance(v, str)),
    "str | None": ("a text or null", lambda v: v is None or isinstance(v, str)),
    "bool | None": ("true, false or null", lambda v: v is None or isinstance(v, bool)),
    "int | None": ("a whole number or null", lambda v: v is None or _is_count(v)),
    "float | None": (
        "a number that is not negative, or null",
        lambda v: v is None or (_is_number(v) and v >= 0),
    ),
    "tuple[int, int, int]": ("three whole numbers above 0", _is_size),
    "dict[str, Any]": ("a table", _is_table),
    "dict[str, str]": (
        "a table of texts",
        lambda v: _is_table(v) and all(isinstance(t, str) for t in v.values()),
    ),
}
"""What each kind of field is called, and whether a value is of it."""
