"""Durations on the command line."""

from __future__ import annotations

from lattice.model.errors import InputError
from lattice.model.units import UnitError, parse


def hours_of(text: str, option: str) -> float:
    """Hours in a duration such as "3.5 h". Raises InputError that names the option."""
    return _value(text, option, "time", "hour", "3.5 h")


def until_override(until: str | None) -> list[str]:
    """What `--until` changes in a model. Raises InputError that names the option."""
    if until is None:
        return []
    hours_of(until, "--until")
    return [f"time.until={until}"]


def micrometres_of(text: str, option: str) -> float:
    """Micrometres in a length such as "19.5 um". Raises InputError that names the option."""
    return _value(text, option, "length", "um", "19.5 um")


def _value(text: str, option: str, dimension: str, unit: str, example: str) -> float:
    try:
        quantity, one = parse(text), parse(f"1 {unit}")
    except UnitError as error:
        raise InputError(f'{option}: {error}; write {option} "{example}"') from None
    if quantity.exponents != one.exponents or quantity.value <= 0:
        problem = f'"{text}" is not a {dimension} above 0'
        raise InputError(f'{option}: {problem}; write {option} "{example}"')
    return float(quantity.value / one.value)
