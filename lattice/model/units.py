"""Quantities such as "30 um^2/s": read exactly, checked for dimension, given in canonical units.

A quantity is held as a rational number, so that "78 min" and "1.3 h" give the same float64: the
decimal digits and the unit factors are exact and the result is rounded once.

The base units are those of `lattice.model.structure`: um, hour, zg (1e-21 g) and zmol (1e-21 mol).
In these, 1 ng/mL, 1 uM (1 umol/L) and 1 g/mol each have the factor one.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

__all__ = [
    "DIMENSIONS",
    "PER_ZEPTOMOLE",
    "Dimension",
    "Quantity",
    "UnitError",
    "concentration_power",
    "parse",
    "show",
]

Exponents = tuple[int, int, int, int]
"""Powers of length, time, mass and amount of substance."""


class UnitError(ValueError):
    """What is wrong with a written quantity, without the place where it stands."""


@dataclass(frozen=True)
class Dimension:
    """A kind of quantity: what it is called, its canonical unit and how one writes it."""

    name: str
    unit: str
    exponents: Exponents
    example: str


@dataclass(frozen=True)
class Quantity:
    """An exact value in the base units um, hour, zg, zmol; `bare`: no unit was written."""

    value: Fraction
    exponents: Exponents
    bare: bool


def _dimension(name: str, unit: str, exponents: Exponents, example: str) -> Dimension:
    return Dimension(name, unit, exponents, example)


DIMENSIONS: dict[str, Dimension] = {
    d.name: d
    for d in (
        _dimension("length", "um", (1, 0, 0, 0), "10 um"),
        _dimension("time", "hour", (0, 1, 0, 0), "2 day"),
        _dimension("speed", "um/hour", (1, -1, 0, 0), "0.5 um/min"),
        _dimension("diffusion", "um^2/hour", (2, -1, 0, 0), "30 um^2/s"),
        _dimension("rate", "1/hour", (0, -1, 0, 0), "0.6 /day"),
        _dimension("volume rate", "um^3/hour", (3, -1, 0, 0), "10 um^3/h"),
        _dimension("number density", "1/um^3", (-3, 0, 0, 0), "100 /mm^3"),
        _dimension("number density rate", "1/um^3/hour", (-3, -1, 0, 0), "60 /mL/day"),
        _dimension("number", "1", (0, 0, 0, 0), "0.2"),
        _dimension("molar mass", "g/mol", (0, 0, 1, -1), "17.4 kDa"),
        _dimension("mass concentration", "ng/mL", (-3, 0, 1, 0), "0.01 ng/mL"),
        _dimension("molar concentration", "uM", (-3, 0, 0, 1), "5 pM"),
        _dimension("mass concentration rate", "ng/mL/hour", (-3, -1, 1, 0), "0.1 ng/mL/h"),
        _dimension("molar concentration rate", "uM/hour", (-3, -1, 0, 1), "5 pM/h"),
        _dimension("mass rate", "zg/hour", (0, -1, 1, 0), "8.3 fg/day"),
        _dimension("molar rate", "zmol/hour", (0, -1, 0, 1), "2 zmol/h"),
    )
}


def concentration_power(order: int) -> Dimension:
    """The dimension of a rate constant of mass action: uM^(1 - order)/hour."""
    power = order - 1
    if power == 0:
        return DIMENSIONS["rate"]
    unit = "1/uM/hour" if power == 1 else f"1/uM^{power}/hour"
    example = f"0.5 {unit.removeprefix('1')}"
    return Dimension(f"rate constant of order {order}", unit, (3 * power, -1, 0, -power), example)


PER_ZEPTOMOLE = Fraction("602.214076")
"""Things in 1e-21 mol, exact since 2019: Avogadro's number."""

_PREFIX = {
    "y": -24,
    "z": -21,
    "a": -18,
    "f": -15,
    "p": -12,
    "n": -9,
    "u": -6,
    "m": -3,
    "": 0,
    "k": 3,
}


def _ten(power: int) -> Fraction:
    return Fraction(10) ** power


def _unit_table() -> dict[str, tuple[Fraction, Exponents]]:
    hour = Fraction(3600)
    table: dict[str, tuple[Fraction, Exponents]] = {
        "%": (Fraction(1, 100), (0, 0, 0, 0)),
        "min": (60 / hour, (0, 1, 0, 0)),
        "cm": (_ten(4), (1, 0, 0, 0)),
        "dL": (_ten(14), (3, 0, 0, 0)),
        "cc": (_ten(12), (3, 0, 0, 0)),
    }
    scaled: dict[str, tuple[Fraction, Exponents]] = {
        "m": (_ten(6), (1, 0, 0, 0)),
        "g": (_ten(21), (0, 0, 1, 0)),
        "mol": (_ten(21), (0, 0, 0, 1)),
        "M": (_ten(6), (-3, 0, 0, 1)),
        "L": (_ten(15), (3, 0, 0, 0)),
        "l": (_ten(15), (3, 0, 0, 0)),
        "s": (1 / hour, (0, 1, 0, 0)),
        "Da": (Fraction(1), (0, 0, 1, -1)),
    }
    for symbol, (factor, exponents) in scaled.items():
        for prefix, power in _PREFIX.items():
            table[prefix + symbol] = (factor * _ten(power), exponents)
    spoken = {
        ("s", "sec", "second", "seconds"): 1,
        ("min", "minute", "minutes"): 60,
        ("h", "hr", "hour", "hours"): 3600,
        ("d", "day", "days"): 86400,
        ("wk", "week", "weeks"): 604800,
    }
    for names, seconds in spoken.items():
        for name in names:
            table[name] = (seconds / hour, (0, 1, 0, 0))
    for name in ("cell", "cells", "voxel", "voxels"):
        table[name] = (Fraction(1), (0, 0, 0, 0))
    for name in ("molecule", "molecules", "particle", "particles"):
        table[name] = (1 / PER_ZEPTOMOLE, (0, 0, 0, 1))
    return table


_UNITS = _unit_table()
_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*", re.ASCII)
_FACTOR = re.compile(r"\s*([*·/]?)\s*(%|[A-Za-z]+|1(?![0-9]))(?:\^?([+-]?[0-9]+))?\s*", re.ASCII)
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻µμ−", "0123456789-uu-")
_LARGEST_POWER = 9
_LARGEST_EXPONENT = 200
_LONGEST = 100


def show(value: Any) -> str:
    """A value as it may be quoted in a message: short, printable, on one line."""
    if isinstance(value, str):
        text = ascii(value) if not value.isprintable() else f'"{value}"'
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list):
        text = "a list"
    elif isinstance(value, int) and abs(value) > 10**30:
        text = "a very large integer"
    else:
        text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def parse(written: Any) -> Quantity:
    """The quantity in a string such as "8.3 fg/day", or in a bare number.

    Raises UnitError when it cannot be read, is not finite, or uses an unknown unit.
    """
    if isinstance(written, bool) or not isinstance(written, str | int | float | Decimal):
        raise UnitError(f"expected a quantity but found {show(written)}")
    if not isinstance(written, str):
        return Quantity(_exact(written), (0, 0, 0, 0), bare=True)
    if len(written) > _LONGEST:
        raise UnitError(f"{show(written)} is too long for a quantity")
    match = _NUMBER.match(written)
    if match is None:
        raise UnitError(f"{show(written)} does not begin with a number")
    value = _exact(Decimal(match[1].replace("_", "")))
    rest = written[match.end() :].translate(_SUPERSCRIPT)
    factor, exponents = _parse_unit(rest, written)
    return Quantity(value * factor, exponents, bare=not rest)


def _exact(number: int | float | Decimal) -> Fraction:
    if isinstance(number, int):
        number = Decimal(number) if abs(number) < 10**_LARGEST_EXPONENT else Decimal("inf")
    elif isinstance(number, float):
        number = Decimal(repr(number))
    if not number.is_finite() or (number and abs(number.adjusted()) > _LARGEST_EXPONENT):
        raise UnitError(f"{show(number)} is not a usable finite number")
    return Fraction(number)


def _parse_unit(text: str, written: str) -> tuple[Fraction, Exponents]:
    factor, exponents = Fraction(1), [0, 0, 0, 0]
    position, first = 0, True
    while position < len(text):
        match = _FACTOR.match(text, position)
        if match is None:
            raise UnitError(f"the unit in {show(written)} cannot be read")
        operator, name, power = match[1], match[2], int(match[3] or 1)
        if abs(power) > _LARGEST_POWER:
            raise UnitError(f"the power {power} in {show(written)} is too large")
        if name == "1":
            if not first or operator or match[3]:
                raise UnitError(f"the unit in {show(written)} cannot be read")
        else:
            unit, dimension = _lookup(name, written)
            power = -power if operator == "/" else power
            factor *= unit**power
            exponents = [e + power * d for e, d in zip(exponents, dimension, strict=True)]
        position, first = match.end(), False
    if max(map(abs, exponents)) > 4 * _LARGEST_POWER:
        raise UnitError(f"the powers in {show(written)} are too large")
    return factor, (exponents[0], exponents[1], exponents[2], exponents[3])


def _lookup(name: str, written: str) -> tuple[Fraction, Exponents]:
    if name in _UNITS:
        return _UNITS[name]
    near = [u for u in _UNITS if u.lower() == name.lower()]
    near = (
        near
        or difflib.get_close_matches(name, _UNITS, n=1)
        or difflib.get_close_matches(name.lower(), _UNITS, n=1, cutoff=0.5)
    )
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    raise UnitError(f'"{name}" in {show(written)} is not a known unit{hint}')
