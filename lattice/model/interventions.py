"""Interventions: pulses that kill, factors on numbers in a window, sources of a cytokine."""

from __future__ import annotations

from typing import Any

from .kinds import did_you_mean
from .numbers import AmountOf, exact, quantity
from .responses import Context
from .structure import EMPTY, Intervention, Rule, Schedule
from .units import show

__all__ = ["FOREVER", "read_intervention"]

FOREVER = 1e6
"""Hours. The end of an intervention without `until`; later than any run, and finite so that a
number of steps can be made of it."""

_UNSCALED = (".diffusion", ".in_bone", ".initial", ".seeding.")


def read_intervention(
    context: Context, name: str, table: dict[str, Any], rules: tuple[Rule, ...], known: list[str]
) -> Intervention:
    """An intervention; `known` are the dotted names that a factor may act on."""
    key = f"intervention.{name}"
    kinds = [k for k in ("kill", "factor", "source") if k in table]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none of them"
        problem = f"an intervention has one of kill, factor and source, but found {found}"
        raise context.document.refuse(key, f"{problem}; write factor = {{ engulf = 0.1 }}")
    schedule = _schedule(context, key, table, pulses=kinds[0] == "kill")
    if kinds[0] == "kill":
        return _kill(context, name, key, table["kill"], schedule)
    if kinds[0] == "source":
        return _source(context, name, key, table["source"], schedule)
    return Intervention(
        name, "scale", schedule, scales=_scales(context, key, table["factor"], rules, known)
    )


def _schedule(context: Context, key: str, table: dict[str, Any], *, pulses: bool) -> Schedule:
    add, time = context.numbers.add, exact("time")

    def given(word: str) -> bool:
        return word in table or context.numbers.given(f"{key}.{word}")

    for word in ("every", "at"):
        if given(word) and not pulses:
            problem = "only a kill comes in pulses; remove this key, and write from and until"
            raise context.document.refuse(f"{key}.{word}", problem)
    if "at" in table:
        for word in ("every", "from", "until"):
            if given(word):
                problem = "the times stand in at already; remove this key"
                raise context.document.refuse(f"{key}.{word}", problem)
    start = add(f"{key}.from", table.get("from", "0 h"), time, default="from" not in table)
    stop = add(
        f"{key}.until", table.get("until", f"{FOREVER} h"), time, default="until" not in table
    )
    every = context.numbers.optional(f"{key}.every", table.get("every"), time, positive=True)
    at = tuple(add(f"{key}.at.{i}", item, time) for i, item in enumerate(table.get("at", [])))
    return Schedule(start, stop, every, at)


def _kill(
    context: Context, name: str, key: str, table: dict[str, Any], schedule: Schedule
) -> Intervention:
    states = sorted({context.state(s, f"{key}.kill.states") for s in table["states"]})
    if EMPTY in states:
        problem = "a voxel without a cell cannot be killed; write the names of states"
        raise context.document.refuse(f"{key}.kill.states", problem)
    fraction = context.numbers.add(
        f"{key}.kill.fraction", table["fraction"], exact("number"), high=1.0
    )
    cluster = None
    if "cluster" in table:
        written = table["cluster"]
        cluster = float(quantity(context.document, f"{key}.kill.cluster", written, "length"))
        if not 0 < cluster < 1e9:
            problem = f"{show(written)} is not a usable length"
            raise context.document.refuse(f"{key}.kill.cluster", f'{problem}; write it as "50 um"')
    into = context.state(table.get("into", EMPTY), f"{key}.kill.into")
    return Intervention(
        name,
        "kill",
        schedule,
        states=tuple(states),
        fraction=fraction,
        into=into,
        cluster=cluster,
    )


def _source(
    context: Context, name: str, key: str, table: dict[str, Any], schedule: Schedule
) -> Intervention:
    cytokine = context.cytokine(table["cytokine"], f"{key}.source.cytokine")
    rate = context.numbers.add(
        f"{key}.rate",
        table["rate"],
        AmountOf(cytokine, "concentration rate"),
        key=f"{key}.source.rate",
    )
    return Intervention(
        name,
        "source",
        schedule,
        cytokine=cytokine,
        rate=rate,
        where=table.get("where", "everywhere"),
    )


def _scales(
    context: Context,
    key: str,
    table: dict[str, Any],
    rules: tuple[Rule, ...],
    known: list[str],
) -> tuple[tuple[str, str], ...]:
    rates = {r.name: r.rate for r in rules if r.rate is not None}
    scales: dict[str, str] = {}
    for written in sorted(table):
        target = rates.get(written, written)
        name = f"{key}.factor.{written}"
        if target not in known:
            hint = did_you_mean(written, [*rates, *known])
            raise context.document.refuse(name, f"no rule or number has this name; {hint}")
        if any(part in target for part in _UNSCALED):
            problem = f"{target} cannot change during a run; write a rate, a speed or a half"
            raise context.document.refuse(name, problem)
        if target in scales:
            raise context.document.refuse(name, f"{target} has a factor already; write it once")
        scales[target] = context.numbers.add(name, table[written], exact("number"))
    return tuple(sorted(scales.items()))
