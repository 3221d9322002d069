"""Cytokines and the reactions between them."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from .numbers import AmountOf, Form, exact, quantity
from .responses import Context, rate_and_responses, read_responses
from .structure import Cytokine, Reaction
from .units import DIMENSIONS, concentration_power, show

__all__ = ["read_cytokine", "read_molar_mass", "read_reaction"]

_TERM = re.compile(r"\s*(?:([1-9][0-9]?)\s+)?([A-Za-z][A-Za-z0-9_-]*)\s*\Z", re.ASCII)
_HIGHEST_ORDER = 6


def read_molar_mass(context: Context, name: str, table: dict[str, Any]) -> Fraction | None:
    """In g/mol, exact; None where the file has none."""
    if "molar_mass" not in table:
        return None
    key = f"cytokine.{name}.molar_mass"
    value = quantity(context.document, key, table["molar_mass"], "molar mass")
    if not 0 < value < 10**12:
        problem = f"{show(table['molar_mass'])} is out of range"
        raise context.document.refuse(key, f'{problem}; write it as "17.4 kDa"')
    return value


def read_cytokine(
    context: Context, name: str, table: dict[str, Any], molar_mass: Fraction | None
) -> Cytokine:
    """A cytokine; whether it is counted in mass or moles is settled later (here: mass)."""
    key = f"cytokine.{name}"
    systemic = table.get("systemic", False)
    add, document = context.numbers.add, context.document
    if not systemic and "diffusion" not in table and not context.numbers.given(f"{key}.diffusion"):
        problem = 'this key is missing; write diffusion = "30 um^2/s", or systemic = true'
        raise document.refuse(f"{key}.diffusion", problem)
    for unused in ("diffusion", "in_bone"):
        if systemic and (unused in table or context.numbers.given(f"{key}.{unused}")):
            problem = "a systemic cytokine is well mixed; remove this key or systemic"
            raise document.refuse(f"{key}.{unused}", problem)
    production, settings = rate_and_responses(table.get("production", 0))
    number = exact("number")
    concentration = AmountOf(name, "concentration")
    return Cytokine(
        name,
        amount="mass",
        molar_mass=None if molar_mass is None else float(molar_mass),
        systemic=systemic,
        diffusion=add(
            f"{key}.diffusion",
            table.get("diffusion", "0 um^2/h"),
            exact("diffusion"),
            default="diffusion" not in table,
        ),
        in_bone=add(
            f"{key}.in_bone",
            table.get("in_bone", 1),
            number,
            high=1.0,
            default="in_bone" not in table,
        ),
        decay=_decay(context, key, table),
        production=add(
            f"{key}.production",
            production,
            AmountOf(name, "concentration rate"),
            default="production" not in table,
        ),
        initial=add(
            f"{key}.initial", table.get("initial", 0), concentration, default="initial" not in table
        ),
        production_when=read_responses(context, settings, f"{key}.production"),
    )


def _decay(context: Context, key: str, table: dict[str, Any]) -> str:
    name = f"{key}.decay"
    if "half_life" in table and "decay" in table:
        problem = "half_life is given as well; write only one of the two"
        raise context.document.refuse(name, problem)
    if "half_life" in table:
        return context.numbers.add(
            name,
            table["half_life"],
            (Form(DIMENSIONS["time"], "1/hour"),),
            key=f"{key}.half_life",
            positive=True,
            reads=_decay_of_half_life,
            override=exact("rate"),
        )
    if "decay" not in table and not context.numbers.given(name):
        problem = 'this key is missing; write half_life = "78 min", or decay = "0 /h" for none'
        raise context.document.refuse(name, problem)
    return context.numbers.add(name, table.get("decay", 0), exact("rate"))


def _decay_of_half_life(half_life: float) -> float:
    return math.log(2) / half_life


def read_reaction(context: Context, name: str, table: dict[str, Any]) -> Reaction:
    """Mass action; the unit of a rate constant follows from the order of its side."""
    key = f"reaction.{name}"
    document, text = context.document, table["equation"]
    match = re.fullmatch(r"([^<>]*?)(<->|->)([^<>]*)", text)
    if match is None:
        problem = f'{show(text)} is not an equation; write one such as "RANKL + OPG <-> complex"'
        raise document.refuse(f"{key}.equation", problem)
    left, right = (_side(context, side, f"{key}.equation") for side in (match[1], match[3]))
    if left == right:
        raise document.refuse(f"{key}.equation", "both sides are the same; write what changes")
    both_ways = match[2] == "<->"
    if both_ways and "backward" not in table and not context.numbers.given(f"{key}.backward"):
        problem = "the equation has <->, so this key is needed; write it, or -> in the equation"
        raise document.refuse(f"{key}.backward", problem)
    if not both_ways and "backward" in table:
        problem = "the equation has ->; remove this key, or write <-> in the equation"
        raise document.refuse(f"{key}.backward", problem)
    return Reaction(
        name,
        left,
        right,
        forward=_constant(context, f"{key}.forward", table["forward"], left),
        backward=_constant(context, f"{key}.backward", table.get("backward"), right)
        if both_ways
        else None,
    )


def _side(context: Context, text: str, key: str) -> tuple[tuple[str, int], ...]:
    count: dict[str, int] = {}
    for term in text.split("+"):
        match = _TERM.match(term)
        if match is None:
            problem = f'{show(term.strip())} is not a term; write "RANKL" or "2 V"'
            raise context.document.refuse(key, problem)
        name = context.cytokine(match[2], key)
        count[name] = count.get(name, 0) + int(match[1] or 1)
    if sum(count.values()) > _HIGHEST_ORDER:
        problem = f"more than {_HIGHEST_ORDER} molecules on one side; write a simpler reaction"
        raise context.document.refuse(key, problem)
    return tuple(sorted(count.items()))


def _constant(context: Context, name: str, written: Any, side: tuple[tuple[str, int], ...]) -> str:
    dimension = concentration_power(sum(n for _, n in side))
    return context.numbers.add(name, written, (Form(dimension, dimension.unit),))
