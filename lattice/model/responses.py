"""Signals and responses: the factors on rates that rules, secretion and matrix share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .kinds import did_you_mean
from .numbers import AmountOf, Form, Numbers, exact, per_voxel
from .reading import Document
from .structure import EMPTY, Response, Signal
from .units import show

__all__ = ["Context", "rate_and_responses", "read_responses", "read_signal"]

_AT_KEYS = {"hill": "half", "linear": "scale", "threshold": "above", "inverse": "scale"}


@dataclass
class Context:
    """What every part of the file is read against."""

    document: Document
    numbers: Numbers
    voxel: Fraction
    cytokines: frozenset[str]
    states: frozenset[str]

    def state(self, name: str, key: str, *more: str) -> str:
        """A state that exists ("empty" always does). Raises InputError."""
        return self._known(name, key, {*self.states, EMPTY, *more}, "state")

    def cytokine(self, name: str, key: str) -> str:
        """A cytokine that exists. Raises InputError."""
        return self._known(name, key, self.cytokines, "cytokine")

    def _known(self, name: str, key: str, known: Any, kind: str) -> str:
        if name not in known:
            if not known:
                hint = f"write a [[{kind}]] table with this name"
            else:
                hint = did_you_mean(name, known)
            raise self.document.refuse(key, f"{show(name)} is not a {kind} of this model; {hint}")
        return name


def read_signal(context: Context, text: str, key: str) -> Signal:
    """The signal that a text names. Raises InputError with a suggestion."""
    kind, dot, of = text.partition(".")
    if not dot and text in context.cytokines:
        return Signal("cytokine", text)
    if not dot and text in ("age", "matrix", "time"):
        return Signal(text)
    if dot and kind == "neighbours" and of == "bone":
        return Signal(kind, of)
    if dot and kind in ("neighbours", "density"):
        return Signal(kind, _states_together(context, of, key))
    known = [*context.cytokines, "age", "matrix", "time"]
    known += [f"neighbours.{s}" for s in (*context.states, "bone")]
    known += [f"density.{s}" for s in context.states]
    raise context.document.refuse(key, f"{show(text)} is not a signal; {did_you_mean(text, known)}")


def _states_together(context: Context, text: str, key: str) -> str:
    """States that are joined by "+", each once."""
    names = [context.state(name, key) for name in text.split("+")]
    if len(set(names)) < len(names):
        raise context.document.refuse(key, f"{show(text)} has a state twice; write each once")
    return text


def signal_meaning(context: Context, signal: Signal) -> tuple[Form, ...] | AmountOf:
    """The dimension of a signal's values."""
    if signal.kind == "cytokine":
        return AmountOf(str(signal.of), "concentration")
    if signal.kind in ("age", "time"):
        return exact("time")
    if signal.kind == "density":
        return per_voxel(context.voxel)
    return exact("number")


def rate_and_responses(written: Any) -> tuple[Any, dict[str, Any]]:
    """A rate that may stand alone, or in a table with its responses."""
    return (written["rate"], written) if isinstance(written, dict) else (written, {})


def read_responses(context: Context, table: dict[str, Any], owner: str) -> tuple[Response, ...]:
    """The responses in `table["when"]`; their numbers are named `<owner>.when.<signal>.<key>`."""
    seen: dict[str, int] = {}
    responses = []
    for index, item in enumerate(table.get("when", [])):
        text = item["signal"]
        seen[text] = seen.get(text, 0) + 1
        suffix = f"-{seen[text]}" if seen[text] > 1 else ""
        prefix = f"{owner}.when.{text}{suffix}"
        responses.append(_read_response(context, item, prefix, f"{owner}.when.{index}"))
    return tuple(responses)


def _read_response(context: Context, item: dict[str, Any], prefix: str, key: str) -> Response:
    signal = read_signal(context, item["signal"], f"{key}.signal")
    shape = item.get("shape", "hill")
    at_key = _AT_KEYS[shape]
    for other in (*_AT_KEYS.values(), "power"):
        if other in item and other != at_key and not (other == "power" and shape == "hill"):
            problem = f'a response of shape "{shape}" does not use this key; write {at_key} instead'
            raise context.document.refuse(f"{key}.{other}", problem)
    if at_key not in item and not context.numbers.given(f"{prefix}.{at_key}"):
        problem = f'a response of shape "{shape}" needs this key; write {at_key} = ...'
        raise context.document.refuse(f"{key}.{at_key}", problem)
    if shape != "hill" and context.numbers.given(f"{prefix}.power"):
        problem = f'a response of shape "{shape}" has no power; write {at_key}, floor or ceiling'
        raise context.document.refuse(f"{prefix}.power", problem)
    if shape == "inverse" and item["effect"] == "increases":
        problem = 'a response of shape "inverse" falls with its signal; write "decreases"'
        raise context.document.refuse(f"{key}.effect", problem)
    unlimited = shape == "inverse" or (shape == "linear" and item["effect"] == "increases")
    ceiling = math.inf if unlimited else 1
    add = context.numbers.add
    number = exact("number")
    return Response(
        signal,
        shape,
        item["effect"],
        at=add(
            f"{prefix}.{at_key}",
            item.get(at_key, 1),
            signal_meaning(context, signal),
            key=f"{key}.{at_key}",
            positive=shape != "threshold",
        ),
        power=add(
            f"{prefix}.power",
            item.get("power", 1),
            number,
            key=f"{key}.power",
            high=20.0,
            positive=True,
            default="power" not in item,
        ),
        floor=add(
            f"{prefix}.floor",
            item.get("floor", 0),
            number,
            key=f"{key}.floor",
            default="floor" not in item,
        ),
        ceiling=add(
            f"{prefix}.ceiling",
            item.get("ceiling", ceiling),
            number,
            key=f"{key}.ceiling",
            default="ceiling" not in item,
        ),
    )
