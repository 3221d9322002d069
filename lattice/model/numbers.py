"""The numbers of a model: collected under dotted names, converted once everything is known.

Whether a cytokine is counted in mass or in moles depends on all of its numbers together, so the
conversion waits until the whole file has been read.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from . import units
from .kinds import did_you_mean
from .reading import OVERRIDE, Document
from .structure import Parameter
from .units import DIMENSIONS, PER_ZEPTOMOLE, Dimension, Quantity, UnitError, show

__all__ = ["AmountOf", "Form", "Numbers", "exact", "per_voxel", "quantity"]


_LARGEST = 1e30  # in canonical units, so that float32 holds every product that a step makes


@dataclass(frozen=True)
class Form:
    """A dimension in which a number may be written, and its factor to the canonical unit."""

    dimension: Dimension
    unit: str
    factor: Fraction = Fraction(1)


@dataclass(frozen=True)
class AmountOf:
    """A number that holds an amount of a cytokine: its dimension follows from the cytokine's."""

    cytokine: str
    what: Literal["concentration", "concentration rate", "rate"]

    def forms(self) -> tuple[Dimension, Dimension]:
        """In mass and in moles."""
        return DIMENSIONS[f"mass {self.what}"], DIMENSIONS[f"molar {self.what}"]


@dataclass
class _Pending:
    key: str
    raw: Any
    written: str
    quantity: Quantity
    meaning: tuple[Form, ...] | AmountOf
    low: float
    high: float
    reads: Callable[[float], float] | None
    file: str
    positive: bool


def exact(dimension: str) -> tuple[Form, ...]:
    """The usual meaning of a number: one dimension, in its canonical unit."""
    found = DIMENSIONS[dimension]
    return (Form(found, found.unit),)


def per_voxel(voxel: Fraction, rate: bool = False) -> tuple[Form, ...]:
    """Cells per voxel of edge `voxel` um, written as such, per volume, or per volume in moles (as
    models in ordinary differential equations do); with `rate`, all of these per time."""
    unit, end = ("1/hour", " rate") if rate else ("1", "")
    return (
        Form(DIMENSIONS["rate" if rate else "number"], unit),
        Form(DIMENSIONS[f"number density{end}"], unit, voxel**3),
        Form(DIMENSIONS[f"molar concentration{end}"], unit, voxel**3 * PER_ZEPTOMOLE),
    )


def quantity(document: Document, key: str, written: Any, dimension: str) -> Fraction:
    """A static quantity (one that is no number of the model), exact, in the canonical unit."""
    try:
        parsed = units.parse(written)
    except UnitError as error:
        example = DIMENSIONS[dimension].example
        raise document.refuse(key, f'{error}; write a {dimension} such as "{example}"') from None
    _match(document, key, written, parsed, exact(dimension))
    return parsed.value


def _match(
    document: Document, key: str, written: Any, parsed: Quantity, forms: tuple[Form, ...]
) -> Form:
    for form in forms:
        if parsed.exponents == form.dimension.exponents:
            return form
    names = " or ".join(f"a {f.dimension.name}" for f in forms)
    example = forms[0].dimension.example
    if parsed.bare:
        problem = f'{show(written)} has no unit, but {names} is needed; write it as "{example}"'
    elif forms[0].dimension.unit == "1":
        problem = f"{show(written)} has a unit, but {names} is needed; write it as {example}"
    else:
        problem = f'{show(written)} is not {names}; write something like "{example}"'
    raise document.refuse(key, problem)


@dataclass
class Numbers:
    """Collects numbers by dotted name; `resolve` turns them into parameters."""

    document: Document
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _unbounded: dict[str, Parameter] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def names(self) -> list[str]:
        """The names collected so far."""
        return sorted({**self._pending, **self._unbounded})

    def given(self, name: str) -> bool:
        """Is a value for this name set by an override?"""
        return name in self.document.numbers

    def add(
        self,
        name: str,
        written: Any,
        meaning: tuple[Form, ...] | AmountOf,
        *,
        key: str | None = None,
        low: float = 0.0,
        high: float = math.inf,
        positive: bool = False,
        default: bool = False,
        reads: Callable[[float], float] | None = None,
        override: tuple[Form, ...] | None = None,
    ) -> str:
        """Register the number and return its name.

        `key` is where it stands in the file if not under `name`; `default`: the user did not write
        it; `reads` turns the canonical value of what was written into the number's own, and
        `override` is then the meaning of the number where it is set by its own name.
        """
        key, file = key or name, self.document.file_of(key or name)
        if self.given(name):
            written, default, reads, file = self.document.numbers[name], False, None, OVERRIDE
            key, meaning = name, override or meaning
            self._used.add(name)
        if name in self._pending or name in self._unbounded:
            raise self.document.refuse(key, "this number has a name twice; rename one of the two")
        if default and isinstance(written, float) and math.isinf(written):
            self._unbounded[name] = Parameter(name, math.inf, "1", "(default)")
            return name
        try:
            parsed = units.parse(written)
        except UnitError as error:
            problem = f"{error}; write it as {_example(meaning)}"
            raise self.document.refuse(key, problem) from None
        text = "(default)" if default else str(written)
        if reads is not None:
            text = f"{key.rpartition('.')[2]} {text}"
        self._pending[name] = _Pending(
            key, written, text, parsed, meaning, low, high, reads, "" if default else file, positive
        )
        return name

    def optional(self, name: str, written: Any, meaning: Any, **options: Any) -> str | None:
        """Like `add`, but a number that nobody gives does not exist."""
        if written is None and not self.given(name):
            return None
        return self.add(name, written, meaning, **options)

    def resolve(self, cytokines: dict[str, tuple[Fraction | None, bool]]) -> dict[str, Parameter]:
        """All parameters by name. `cytokines`: molar mass, and whether moles are needed.

        Raises InputError for a wrong dimension, a value out of range or an unknown override.
        """
        self._refuse_unused()
        amounts = self.amounts(cytokines)
        result = dict(self._unbounded)
        for name, item in self._pending.items():
            value, unit = self._convert(item, amounts, cytokines)
            result[name] = Parameter(name, value, unit, item.written, file=item.file)
        return self._with_sources(dict(sorted(result.items())))

    def _refuse_unused(self) -> None:
        for name in self.document.numbers:
            if name not in self._used:
                hint = did_you_mean(name, self.names())
                raise self.document.refuse(name, f"no number of the model has this name; {hint}")

    def amounts(
        self, cytokines: dict[str, tuple[Fraction | None, bool]]
    ) -> dict[str, Literal["mass", "mole"]]:
        """How each cytokine is counted, decided from all numbers that hold an amount of it."""
        result: dict[str, Literal["mass", "mole"]] = {}
        for name, (molar_mass, needs_moles) in cytokines.items():
            mass, mole = self._written_in(name)
            if molar_mass is not None:
                result[name] = "mass"
                continue
            if mass and (mole or needs_moles):
                reason = f"{show(mole.raw)} as moles" if mole else "a reaction needs moles"
                raise self.document.refuse(
                    f"cytokine.{name}.molar_mass",
                    f"{mass.key} is written as a mass and {reason}; write molar_mass = "
                    '"17.4 kDa" (its own value) so that both may be used',
                )
            result[name] = "mole" if mole or needs_moles else "mass"
        return result

    def _written_in(self, cytokine: str) -> tuple[_Pending | None, _Pending | None]:
        mass = mole = None
        for item in self._pending.values():
            if not isinstance(item.meaning, AmountOf) or item.meaning.cytokine != cytokine:
                continue
            in_mass, in_moles = item.meaning.forms()
            if item.quantity.exponents == in_mass.exponents:
                mass = mass or item
            elif item.quantity.exponents == in_moles.exponents:
                mole = mole or item
        return mass, mole

    def _convert(
        self,
        item: _Pending,
        amounts: dict[str, Literal["mass", "mole"]],
        cytokines: dict[str, tuple[Fraction | None, bool]],
    ) -> tuple[float, str]:
        meaning, value = item.meaning, item.quantity.value
        if isinstance(meaning, AmountOf):
            in_mass, in_moles = meaning.forms()
            wanted = in_mass if amounts[meaning.cytokine] == "mass" else in_moles
            unit = wanted.unit
            forms = tuple(Form(d, unit) for d in (in_mass, in_moles))
            if item.written == "(default)":
                form = forms[0]
            else:
                form = _match(self.document, item.key, item.raw, item.quantity, forms)
            molar_mass = cytokines[meaning.cytokine][0]
            if molar_mass is not None and form.dimension is in_moles:
                value *= molar_mass
        else:
            form = _match(self.document, item.key, item.raw, item.quantity, meaning)
            unit, value = form.unit, value * form.factor
        return self._in_range(item, value), unit

    def _in_range(self, item: _Pending, value: Fraction) -> float:
        number = float(value) if abs(value) < 10**300 else math.inf
        self._check_range(item, number)
        return item.reads(number) if item.reads else number

    def _check_range(self, item: _Pending, number: float) -> None:
        written = show(item.raw)
        if not abs(number) <= _LARGEST:
            raise self.document.refuse(item.key, f"{written} is too large; write a smaller one")
        if item.positive and not number > 0:
            raise self.document.refuse(item.key, f"{written} is not positive; write more than 0")
        if number < item.low and item.low == 0:
            raise self.document.refuse(item.key, f"{written} is negative; write 0 or more")
        if not item.low <= number <= item.high:
            span = f"a value from {item.low:g} to {item.high:g}"
            raise self.document.refuse(item.key, f"{written} is out of range; write {span}")

    def _with_sources(self, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        """Sources by exact name first, then by the longest pattern that fits."""
        sources = self.document.tables.get("sources", {})
        for pattern in sorted(sources, key=lambda p: ("*" not in p, len(p), p)):
            names = _matching(pattern, parameters)
            if not names:
                key = f"sources.{pattern}" if pattern.isprintable() else "sources"
                hint = did_you_mean(pattern, parameters)
                raise self.document.refuse(key, f"no number of the model has this name; {hint}")
            entry = sources[pattern]
            for name in names:
                found = parameters[name]
                parameters[name] = Parameter(
                    found.name,
                    found.value,
                    found.unit,
                    found.written,
                    entry.get("source", ""),
                    entry.get("doi", ""),
                    entry.get("label", ""),
                    found.file,
                )
        return parameters


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    if "*" not in pattern:
        return [n for n in names if n == pattern]
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    return [n for n in names if fnmatch.fnmatchcase(n, literal)]


def _example(meaning: tuple[Form, ...] | AmountOf) -> str:
    if isinstance(meaning, AmountOf):
        return f'"{meaning.forms()[0].example}"'
    example, unit = meaning[0].dimension.example, meaning[0].dimension.unit
    return example if unit == "1" else f'"{example}"'
