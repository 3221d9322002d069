"""Rules: what a cell, or two cells that touch, turn into."""

from __future__ import annotations

from typing import Any, Literal

from .numbers import exact, per_voxel
from .responses import Context, read_responses, read_signal, signal_meaning
from .structure import EMPTY, Rule, Toward
from .units import show

__all__ = ["read_rule", "usual_carries"]

Kind = Literal["site", "pair", "move", "divide"]

_KEYS: dict[Kind, set[str]] = {
    "site": {"from", "to", "rate", "after"},
    "pair": {"from", "to", "rate"},
    "move": {"move", "speed", "through", "toward"},
    "divide": {"divide", "into", "space", "rate"},
}
_COMMON = {
    "name",
    "when",
    "keep_age",
    "reset_age",
    "needs_matrix",
    "forbids_matrix",
    "consumes_matrix",
}


def read_rule(context: Context, name: str, table: dict[str, Any]) -> tuple[Rule, ...]:
    """The rules that one table makes: one, but for movement one per state that gives way."""
    key = f"rule.{name}"
    kind = _kind(context, key, table)
    _refuse_foreign_keys(context, key, kind, table)
    numbers = _numbers(context, key, kind, table)
    made = []
    for suffix, reactants, products in _species(context, key, kind, table):
        made.append(
            Rule(
                name + suffix,
                kind,
                reactants,
                products,
                carries=_carries(table, reactants, products),
                **numbers,
            )
        )
    return tuple(made)


def _kind(context: Context, key: str, table: dict[str, Any]) -> Kind:
    chosen = [k for k in ("from", "move", "divide") if k in table]
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none of them"
        problem = f"a rule has one of from, move and divide, but found {found}"
        raise context.document.refuse(key, f'{problem}; write from = "A" and to = "B"')
    if "move" in table:
        return "move"
    if "divide" in table:
        return "divide"
    if "to" not in table:
        raise context.document.refuse(f"{key}.to", 'this key is missing; write to = "B"')
    pair = isinstance(table["from"], list)
    if pair != isinstance(table["to"], list):
        problem = "from and to must both be one state or both be lists of two"
        raise context.document.refuse(f"{key}.to", f'{problem}; write to = ["C", "D"] with a list')
    return "pair" if pair else "site"


def _refuse_foreign_keys(context: Context, key: str, kind: Kind, table: dict[str, Any]) -> None:
    for name in table:
        if name not in _KEYS[kind] | _COMMON:
            others = ", ".join(sorted(_KEYS[kind]))
            instead = "speed" if (kind, name) == ("move", "rate") else others
            problem = f"a {kind} rule does not use this key; write {instead} instead"
            raise context.document.refuse(f"{key}.{name}", problem)
    if table.get("keep_age") and table.get("reset_age"):
        problem = "keep_age is true as well; write only one of the two"
        raise context.document.refuse(f"{key}.reset_age", problem)


def _species(
    context: Context, key: str, kind: Kind, table: dict[str, Any]
) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """(suffix of the name, reactants, products) of each rule that the table makes."""
    state = context.state
    if kind == "move":
        mover = state(table["move"], f"{key}.move")
        if mover == EMPTY:
            raise context.document.refuse(f"{key}.move", "empty cannot move; write a state")
        partners = [state(p, f"{key}.through") for p in table.get("through", [])]
        if len({*partners, EMPTY, mover}) < len(partners) + 2:
            problem = "each state stands once, without the one that moves and without empty"
            raise context.document.refuse(f"{key}.through", f"{problem}; write other names")
        pairs = [("", EMPTY), *((f".through.{p}", p) for p in partners)]
        return [(suffix, (mover, p), (p, mover)) for suffix, p in pairs]
    if kind == "divide":
        mother = state(table["divide"], f"{key}.divide")
        if mother == EMPTY:
            raise context.document.refuse(f"{key}.divide", "empty cannot divide; write a state")
        space = state(table.get("space", EMPTY), f"{key}.space")
        into = tuple(state(s, f"{key}.into") for s in table.get("into", [mother, mother]))
        return [("", (mother, space), into)]
    before, after = (
        tuple(state(s, f"{key}.{k}") for s in ([table[k]] if kind == "site" else table[k]))
        for k in ("from", "to")
    )
    if before == after and not table.get("reset_age") and "consumes_matrix" not in table:
        problem = f"{show(' + '.join(after))} stays what it was; write another state, or reset_age"
        raise context.document.refuse(f"{key}.to", problem)
    return [("", before, after)]


def _carries(
    table: dict[str, Any], reactants: tuple[str, ...], products: tuple[str, ...]
) -> tuple[int | None, ...]:
    if table.get("reset_age"):
        return (None,) * len(products)
    if table.get("keep_age"):
        return tuple(range(len(products)))
    return usual_carries(reactants, products)


def usual_carries(reactants: tuple[str, ...], products: tuple[str, ...]) -> tuple[int | None, ...]:
    """Whose age each product keeps: the same state at the same place, then a state that moved."""
    carries: list[int | None] = [
        i if product == reactants[i] else None for i, product in enumerate(products)
    ]
    for i, product in enumerate(products):
        if carries[i] is None:
            free = [j for j in range(len(reactants)) if j not in carries]
            carries[i] = next((j for j in free if reactants[j] == product), None)
    return tuple(carries)


def _numbers(context: Context, key: str, kind: Kind, table: dict[str, Any]) -> dict[str, Any]:
    optional = context.numbers.optional
    rate_key, dimension = ("speed", "speed") if kind == "move" else ("rate", "rate")
    clock = table.get("after")
    arrives = kind == "site" and table["from"] == EMPTY
    meaning = per_voxel(context.voxel, rate=True) if arrives else exact(dimension)
    rate = optional(f"{key}.{rate_key}", table.get(rate_key), meaning)
    after = optional(f"{key}.after", clock, exact("time")) if kind == "site" else None
    if (rate is None) == (after is None):
        found = "has neither" if rate is None else "has both"
        choice = f"{rate_key} or after" if kind == "site" else rate_key
        example = 'speed = "0.5 um/min"' if kind == "move" else 'rate = "0.6 /day"'
        problem = f"this rule {found} {choice}" if kind == "site" else "this key is missing"
        raise context.document.refuse(f"{key}.{rate_key}", f"{problem}; write {example}")
    if after is not None and table.get("when"):
        problem = "a clock fires at its time in any case; remove this key, or write a rate"
        raise context.document.refuse(f"{key}.when", problem)
    matrix = {
        name: optional(f"{key}.{name}", table.get(name), exact("number"), high=1.0)
        for name in ("needs_matrix", "forbids_matrix", "consumes_matrix")
    }
    return {
        "rate": rate,
        "after": after,
        "responses": read_responses(context, table, key),
        "toward": _toward(context, f"{key}.toward", table.get("toward")),
        **matrix,
    }


def _toward(context: Context, key: str, table: dict[str, Any] | None) -> Toward | None:
    if table is None:
        return None
    signal = read_signal(context, table["signal"], f"{key}.signal")
    if signal.kind not in ("cytokine", "neighbours", "matrix"):
        problem = f"{show(table['signal'])} is the same for a cell wherever it goes"
        fix = "write a cytokine, neighbours.<state>, neighbours.bone or matrix"
        raise context.document.refuse(f"{key}.signal", f"{problem}; {fix}")
    # Without a half, the sensed difference is relative down to concentrations nobody measures.
    half = context.numbers.add(
        f"{key}.half",
        table.get("half", "0.000001"),
        signal_meaning(context, signal),
        positive=True,
        default="half" not in table,
    )
    strength = context.numbers.add(
        f"{key}.strength", table["strength"], exact("number"), low=-100.0, high=100.0
    )
    return Toward(signal, strength, half)
