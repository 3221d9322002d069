"""From files and overrides to one tree of plain values that remembers where each key stands."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .errors import InputError
from .grammar import ARRAYS, SECTIONS, SOURCES, TOP
from .kinds import Text, did_you_mean
from .units import show

__all__ = ["OVERRIDE", "Document", "parse_toml", "read_file", "read_text", "set_in_file"]

OVERRIDE = "--set"
_LARGEST_FILE = 1_000_000
_LONGEST_LINE = 10_000
_LARGEST_COUNT_OF_FILES = 200
_PLAIN_KEYS = {
    # Keys of named tables that hold no number of the model: an override replaces them in the tree.
    array: {
        key
        for key, kind in record.keys.items()
        if key in {"half_life", "molar_mass", "lives"} or not hasattr(kind, "written")
    }
    - {"name", "secretes", "takes_up", "when_filled", "lays", "resorbs", "factor", "at"}
    for array, record in ARRAYS.items()
}


@dataclass
class Document:
    """Merged tables. `tables` holds a dict per section and a dict of dicts per kind of table."""

    root: str
    beside: str
    """The folder in which relative paths of overrides start."""
    tables: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)

    def file_of(self, key: str) -> str:
        """The file in which a dotted key, or the longest known part of it, was written."""
        part = key
        while part and part not in self.files:
            part = part.rpartition(".")[0]
        return self.files.get(part, self.root)

    def refuse(self, key: str, problem: str) -> InputError:
        """The error about a key: "<file>: <key>: <problem>" with the line where it is known."""
        file = self.file_of(key)
        return _error(self._texts.get(file, ""), file, key, problem)

    def folder_of(self, key: str) -> str:
        """The folder that a relative path in this key refers to."""
        file = self.file_of(key)
        return self.beside if file == OVERRIDE else os.path.dirname(os.path.abspath(file))


def read_file(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), beside: str = ""
) -> Document:
    """A model file with everything that it includes, and overrides "key=value" on top, in which
    relative paths start at `beside`, or where the process works."""
    name = os.fspath(path)
    document = Document(_shown_path(name), os.path.abspath(beside))
    _include(document, name, (), [])
    _override(document, overrides)
    return document


def read_text(
    text: str, folder: str, name: str, overrides: Sequence[str] = (), beside: str = ""
) -> Document:
    """The same for a text; `folder` is where its relative paths start."""
    root = os.path.join(folder, name) if folder else name
    document = Document(root, os.path.abspath(beside))
    _add(document, text, document.root, (), [])
    _override(document, overrides)
    return document


def _shown_path(path: str) -> str:
    return path if path.isprintable() and len(path) < 1000 else show(path)


def _include(document: Document, path: str, chain: tuple[str, ...], seen: list[str]) -> None:
    file = _shown_path(path)
    try:
        if not os.path.isfile(path):
            kind = "is a folder, not a file" if os.path.isdir(path) else "does not exist"
            raise InputError(f"{file}: this file {kind}; write the path of a model file (.toml)")
        if os.path.getsize(path) > _LARGEST_FILE:
            raise InputError(f"{file}: this is too large to be a model file; write a .toml file")
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: byte {error.start} is not UTF-8 text; write a model file in TOML"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file}: this file cannot be read ({reason}); check the path") from None
    seen.append(os.path.realpath(path))
    if len(seen) > _LARGEST_COUNT_OF_FILES:
        raise InputError(f"{file}: more than {_LARGEST_COUNT_OF_FILES} files are included")
    _add(document, text, file, (*chain, os.path.realpath(path)), seen)


def _add(document: Document, text: str, file: str, chain: tuple[str, ...], seen: list[str]) -> None:
    document._texts[file] = text
    content = parse_toml(text, file)
    refuse = _refusal(document, file)
    _check_outline(content, refuse)
    includes = content.pop("include", [])
    for path in [includes] if isinstance(includes, str) else includes:
        full = os.path.join(os.path.dirname(file), path)
        if os.path.realpath(full) in chain:
            raise refuse("include", f"{show(path)} includes this file again; remove one of the two")
        if not os.path.exists(full):
            raise refuse("include", f"{show(path)} does not exist; write a path from {file}")
        _include(document, full, chain, seen)
    for key, value in content.items():
        _merge(document, key, value, file, refuse)


def _refusal(document: Document, file: str) -> Callable[[str, str], InputError]:
    def refuse(key: str, problem: str) -> InputError:
        return _error(document._texts.get(file, ""), file, key, problem)

    return refuse


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """The tables of a TOML text, its numbers exact. Raises InputError that names the file."""
    # A key with very many dots takes the parser a time that grows with their square.
    if len(text) > _LARGEST_FILE or any(len(x) > _LONGEST_LINE for x in text.splitlines()):
        raise InputError(f"{file}: this is too long for a model file; write shorter lines")
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except RecursionError:
        raise InputError(f"{file}: the values are nested too deeply; write flat tables") from None
    except ValueError as error:  # TOMLDecodeError, or an integer with thousands of digits
        reason = " ".join(str(error).split())
        if not isinstance(error, tomllib.TOMLDecodeError):
            reason = "an integer has too many digits"
        raise InputError(f"{file}: this is not valid TOML: {reason[:200]}") from None
    except ArithmeticError:  # decimal refuses an exponent beyond its range
        raise InputError(f"{file}: a number is too large; write a finite number") from None


@contextmanager
def set_in_file(key: str, refuse: Callable[[str, str], InputError]) -> Iterator[None]:
    """Complaints about overrides that stand under a key of a file, not on the command line, are
    made by `refuse`, which names the file."""
    try:
        yield
    except InputError as error:
        text = str(error)
        if not text.startswith(f"{OVERRIDE}: "):
            raise
        raise refuse(key, text.removeprefix(f"{OVERRIDE}: ")) from None


def _check_outline(content: dict[str, Any], refuse: Callable[[str, str], InputError]) -> None:
    """Top-level keys are known, tables are tables, and named tables have names."""
    known = {**TOP, **SECTIONS, **ARRAYS, "sources": SOURCES}
    for key, value in content.items():
        if key not in known:
            raise refuse(_printable(key), f"this key is not known; {did_you_mean(key, known)}")
        if key in TOP:
            TOP[key].check(value, key, refuse)
        elif key in ARRAYS:
            if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
                raise refuse(key, f"these are named tables; write [[{key}]] for each of them")
            _check_names(key, value, refuse)
        elif not isinstance(value, dict):
            raise refuse(key, f"this is a table; write [{key}] and its keys below")


def _check_names(key: str, value: list[Any], refuse: Callable[[str, str], InputError]) -> None:
    names = set()
    for table in value:
        if "name" not in table:
            raise refuse(key, f'a [[{key}]] table has no name; write name = "..." in it')
        Text(name=True).check(table["name"], f"{key}.name", refuse)
        if table["name"] in names:
            problem = f"two [[{key}]] tables have this name; write another name for one of them"
            raise refuse(f"{key}.{table['name']}", problem)
        names.add(table["name"])


def _printable(key: str) -> str:
    return key if key.isprintable() and len(key) < 100 else ascii(key[:100])


def _merge(
    document: Document, key: str, value: Any, file: str, refuse: Callable[[str, str], InputError]
) -> None:
    """Add what one file says under a top-level key; later keys replace earlier ones."""
    if key in TOP:
        document.tables[key] = value
        document.files[key] = file
        return
    merged = document.tables.setdefault(key, {})
    if key in ARRAYS:
        for table in value:
            target = merged.setdefault(table["name"], {})
            _update(document, target, table, f"{key}.{table['name']}", file)
    else:
        _update(document, merged, value, key, file)


def _update(
    document: Document, target: dict[str, Any], table: dict[str, Any], key: str, file: str
) -> None:
    if "half_life" in table and "decay" not in table:
        target.pop("decay", None)
    if "decay" in table and "half_life" not in table:
        target.pop("half_life", None)
    document.files.setdefault(key, file)
    for name, value in table.items():
        target[name] = value
        document.files[f"{key}.{name}"] = file


def _override(document: Document, overrides: Sequence[str]) -> None:
    for text in overrides:
        key, equals, written = text.partition("=")
        key = key.strip()
        if not equals or not key:
            problem = "an override has the form key=value; write rule.engulf.rate=0.1/min"
            raise InputError(f"{OVERRIDE}: {_printable(text)}: {problem}")
        _apply(document, key, _override_value(written.strip()))


def _override_value(written: str) -> Any:
    """A TOML value if it is one, else the text itself, so that quotes may be left out."""
    try:
        parsed = tomllib.loads(f"value = {written}", parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError):
        return written
    return parsed["value"] if len(parsed) == 1 else written


def _apply(document: Document, key: str, value: Any) -> None:
    head, _, rest = key.partition(".")
    if key in ("name", "schema"):
        document.files[key] = OVERRIDE
        TOP[key].check(value, key, document.refuse)
        document.tables[key] = value
    elif head in SECTIONS and rest and key != "matrix.lag":
        document.files[key] = OVERRIDE
        document.tables.setdefault(head, {})[rest] = value
    elif head in ARRAYS and rest.count(".") == 1:
        name, _, last = rest.partition(".")
        table = document.tables.get(head, {}).get(name)
        if table is not None and last in _PLAIN_KEYS[head]:
            _update(document, table, {last: value}, f"{head}.{name}", OVERRIDE)
        else:
            _set_number(document, key, value)
    elif head in ARRAYS or head == "matrix":
        _set_number(document, key, value)
    else:
        hint = did_you_mean(head, [*SECTIONS, *ARRAYS, "name"])
        raise InputError(f"{OVERRIDE}: {_printable(key)}: this key is not known; {hint}")


def _set_number(document: Document, key: str, value: Any) -> None:
    document.numbers[key] = value
    document.files[key] = OVERRIDE


def _error(text: str, file: str, key: str, problem: str) -> InputError:
    line = _line_of(text, key)
    place = f"{file}:{line}" if line else file
    return InputError(f"{place}: {_printable(key)}: {problem}")


def _line_of(text: str, key: str) -> int | None:
    """The line on which a dotted key is written, as far as a search by pattern finds it."""
    if not text or len(text) > 1_000_000:
        return None
    lines = text.splitlines()
    parts = key.split(".")
    start, stop = 0, len(lines)
    if parts[0] in ARRAYS and len(parts) > 1:
        name = re.compile(rf"\s*name\s*=\s*[\"']{re.escape(parts[1])}[\"']")
        header = re.compile(rf"\s*\[\[\s*{parts[0]}\s*\]\]")
        found = None
        for number, line in enumerate(lines):
            if header.match(line):
                found = number
            elif name.match(line) and found is not None:
                break
        else:
            return None
        start, parts = found or 0, parts[2:]
    elif parts[0] in SECTIONS or parts[0] == "sources":
        header = re.compile(rf"\s*\[\s*{parts[0]}\s*\]")
        start = next((n for n, line in enumerate(lines) if header.match(line)), -1)
        if start < 0:
            return None
        parts = parts[1:]
    stop = next((n for n in range(start + 1, stop) if lines[n].lstrip().startswith("[")), stop)
    if parts:
        wanted = re.compile(rf"\s*[\"']?{re.escape(parts[0])}[\"']?\s*[.=]")
        return next((n + 1 for n in range(start, stop) if wanted.match(lines[n])), start + 1)
    return start + 1
