"""Kinds of values that a key of the model file may hold, each with a check and a JSON Schema.

`lattice.model.grammar` says with these what may stand in a file; the check refuses what may not,
and the schema tells the same to an editor.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .errors import InputError
from .units import show

__all__ = [
    "Either",
    "Flag",
    "Integer",
    "ListOf",
    "MapOf",
    "Quantity",
    "Record",
    "Text",
    "did_you_mean",
]

Refuse = Callable[[str, str], InputError]
"""Makes the error for a dotted key and a sentence about it."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(-[A-Za-z0-9_]+)*\Z")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The part of a sentence that offers the nearest known word, or else lists them."""
    known = sorted(known)
    by_folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(word.lower()[:200], by_folded, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{by_folded[near[0]]}"?'
    if not known:
        return "there are none"
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"write one of {listed}"


@dataclass(frozen=True)
class Text:
    """A string; with `choices`, one of them; with `name`, the name of something."""

    doc: str = ""
    choices: tuple[str, ...] = ()
    name: bool = False

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str)

    def check(self, value: Any, key: str, refuse: Refuse) -> None:
        if not isinstance(value, str):
            raise refuse(key, f"expected text but found {show(value)}; write {self.example()}")
        if not value.isprintable() or len(value) > 4096:
            raise refuse(key, f"{show(value)} cannot be used; write {self.example()} instead")
        if self.choices and value not in self.choices:
            hint = did_you_mean(value, self.choices)
            raise refuse(key, f"{show(value)} is not allowed here; {hint}")
        if self.name and not (NAME.match(value) and len(value) <= 60):
            rule = "write at most 60 letters, digits, _ and -, beginning with a letter"
            raise refuse(key, f"{show(value)} cannot be a name; {rule}")

    def example(self) -> str:
        return f'"{self.choices[0]}"' if self.choices else "a quoted text"

    def schema(self) -> dict[str, Any]:
        result: dict[str, Any] = {"type": "string"}
        if self.choices:
            result["enum"] = list(self.choices)
        if self.name:
            result["pattern"] = "^[A-Za-z][A-Za-z0-9_]*(-[A-Za-z0-9_]+)*$"
        return _described(result, self.doc)


@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`."""

    doc: str = ""
    low: int = 0
    high: int = 2**31

    def accepts(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def check(self, value: Any, key: str, refuse: Refuse) -> None:
        if not self.accepts(value) or not self.low <= value <= self.high:
            span = f"a whole number from {self.low} to {self.high}"
            raise refuse(key, f"found {show(value)}; write {span} instead")

    def example(self) -> str:
        return str(max(1, self.low))

    def schema(self) -> dict[str, Any]:
        return _described({"type": "integer", "minimum": self.low, "maximum": self.high}, self.doc)


@dataclass(frozen=True)
class Flag:
    """true or false."""

    doc: str = ""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)

    def check(self, value: Any, key: str, refuse: Refuse) -> None:
        if not isinstance(value, bool):
            raise refuse(key, f"found {show(value)}; write true or false instead")

    def example(self) -> str:
        return "true"

    def schema(self) -> dict[str, Any]:
        return _described({"type": "boolean"}, self.doc)


@dataclass(frozen=True)
class Quantity:
    """A number with a unit, as a string, or a bare number where no unit is needed.

    The dimension is checked by whoever reads it, because it may depend on other keys.
    """

    doc: str = ""
    written: str = "0.2"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str | int | float | Decimal) and not isinstance(value, bool)

    def check(self, value: Any, key: str, refuse: Refuse) -> None:
        if not self.accepts(value):
            raise refuse(key, f"expected a quantity but found {show(value)}; {self._instead()}")

    def _instead(self) -> str:
        return f"write {self.example()} instead"

    def example(self) -> str:
        bare = re.fullmatch(r"[0-9.]+", self.written)
        return self.written if bare else f'"{self.written}"'

    def schema(self) -> dict[str, Any]:
        doc = f"{self.doc} Example: {self.example()}".strip()
        return _described({"type": ["string", "number"]}, doc)


@dataclass(frozen=True)
class ListOf:
    """A list of `low` to `high` values of one kind."""

    item: Any
    low: int = 0
    high: int = 1000
    doc: str = ""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list)

    def check(self, value: Any, key: str, refuse: Refuse) -> None:
        if not isinstance(value, list):
            raise refuse(key, f"expected a list but found {show(value)}; write {self.example()}")
        if not self.low <= len(value) <= self.high:
            count = str(self.low) if self.low == self.high else f"{self.low} to {self.high}"
            found = f"a list of {len(value)} values"
            raise refuse(key, f"found {found}; write {count}, such as {self.example()}")
        for index, item in enumerate(value):
            self.item.check(item, f"{key}.{index}", refuse)

    def example(self) -> str:
        count = max(1, self.low)
        return "[" + ", ".join([self.item.example()] * count) + "]"

    def schema(self) -> dict[str, Any]:
        result = {
            "type": "array",
            "items": self.item.schema(),
            "minItems": self.low,
            "maxItems": self.high,
        }
        return _described(result, self.doc)


@dataclass(frozen=True)
class MapOf:
    """A table whose keys are names that the user chose, each with a value of one kind."""

    item: Any
    doc: str = ""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict)

    def check(self, value: Any, key: str, refuse: Refuse) -> None:
        if not isinstance(value, dict):
            raise refuse(key, f"expected a table but found {show(value)}; write {self.example()}")
        for name, item in value.items():
            self.item.check(item, f"{key}.{name}", refuse)

    def example(self) -> str:
        return "{ name = " + self.item.example() + " }"

    def schema(self) -> dict[str, Any]:
        return _described({"type": "object", "additionalProperties": self.item.schema()}, self.doc)


@dataclass(frozen=True)
class Record:
    """A table with declared keys; `required` ones must be there."""

    keys: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    doc: str = ""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict)

    def check(self, value: Any, key: str, refuse: Refuse) -> None:
        if not isinstance(value, dict):
            raise refuse(key, f"expected a table but found {show(value)}; write {self.example()}")
        for name, item in value.items():
            below = f"{key}.{name}"
            if name not in self.keys:
                raise refuse(below, f"this key is not known; {did_you_mean(name, self.keys)}")
            self.keys[name].check(item, below, refuse)
        for name in self.required:
            if name not in value:
                example = self.keys[name].example()
                raise refuse(f"{key}.{name}", f"this key is missing; write {name} = {example}")

    def example(self) -> str:
        shown = self.required or tuple(self.keys)[:1]
        return "{ " + ", ".join(f"{k} = {self.keys[k].example()}" for k in shown) + " }"

    def schema(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "type": "object",
            "properties": {k: v.schema() for k, v in self.keys.items()},
            "additionalProperties": False,
        }
        if self.required:
            result["required"] = list(self.required)
        return _described(result, self.doc)


@dataclass(frozen=True)
class Either:
    """One of several kinds that differ in their TOML type."""

    options: tuple[Any, ...]
    doc: str = ""

    def accepts(self, value: Any) -> bool:
        return any(o.accepts(value) for o in self.options)

    def check(self, value: Any, key: str, refuse: Refuse) -> None:
        for option in self.options:
            if option.accepts(value):
                option.check(value, key, refuse)
                return
        raise refuse(key, f"found {show(value)}; write {self.example()} instead")

    def example(self) -> str:
        return " or ".join(o.example() for o in self.options)

    def schema(self) -> dict[str, Any]:
        return _described({"anyOf": [o.schema() for o in self.options]}, self.doc)


def _described(schema: dict[str, Any], doc: str) -> dict[str, Any]:
    return {**schema, "description": doc} if doc else schema
