"""States of cells: where they live, what they exchange, what they do to matrix."""

from __future__ import annotations

from typing import Any

from .numbers import AmountOf, Form, exact, per_voxel
from .responses import Context, rate_and_responses, read_responses
from .structure import EMPTY, Exchange, MatrixRate, Seeding, State
from .units import DIMENSIONS

__all__ = ["EMPTY_STATE", "read_state", "voxels_of"]

EMPTY_STATE = State(EMPTY, frozenset({"marrow", "surface", "bone"}))


def voxels_of(places: frozenset[str]) -> frozenset[str]:
    """Places as disjoint sets of voxels: marrow includes the voxels on the surface."""
    return places | {"surface"} if "marrow" in places else places


def read_state(context: Context, name: str, table: dict[str, Any]) -> State:
    """A state; its numbers are named `state.<name>.<key>`."""
    key = f"state.{name}"
    lives = table.get("lives", "marrow")
    context_state = context.state
    when_resorbed = table.get("when_resorbed", EMPTY)
    when_stranded = table.get("when_stranded")
    return State(
        name,
        lives=frozenset([lives] if isinstance(lives, str) else lives),
        secretes=_exchanges(context, key, "secretes", table.get("secretes", {})),
        takes_up=_exchanges(context, key, "takes_up", table.get("takes_up", {})),
        lays=_matrix_rate(context, f"{key}.lays", table.get("lays")),
        resorbs=_matrix_rate(context, f"{key}.resorbs", table.get("resorbs")),
        when_filled=_fates(context, key, table.get("when_filled", {})),
        when_resorbed=context_state(when_resorbed, f"{key}.when_resorbed"),
        when_stranded=when_stranded and context_state(when_stranded, f"{key}.when_stranded"),
        seeding=_seedings(context, key, table.get("seeding", [])),
        color=table.get("color"),
        role=table.get("role"),
    )


def _exchanges(
    context: Context, state: str, kind: str, table: dict[str, Any]
) -> tuple[Exchange, ...]:
    result = []
    for cytokine in sorted(table):
        name = f"{state}.{kind}.{cytokine}"
        context.cytokine(cytokine, name)
        rate, settings = rate_and_responses(table[cytokine])
        if kind == "secretes":
            meaning: Any = AmountOf(cytokine, "rate")
        else:
            own_voxel = Form(DIMENSIONS["rate"], "um^3/hour", context.voxel**3)
            meaning = (*exact("volume rate"), own_voxel)
        number = context.numbers.add(name, rate, meaning)
        result.append(Exchange(cytokine, number, read_responses(context, settings, name)))
    return tuple(result)


def _matrix_rate(context: Context, name: str, written: Any) -> MatrixRate | None:
    if written is None and not context.numbers.given(name):
        return None
    rate, settings = rate_and_responses(written)
    unit = "voxel/hour"
    meaning = (
        Form(DIMENSIONS["rate"], unit),
        Form(DIMENSIONS["speed"], unit, 1 / context.voxel),
        Form(DIMENSIONS["volume rate"], unit, 1 / context.voxel**3),
    )
    number = context.numbers.add(name, rate, meaning)
    return MatrixRate(number, read_responses(context, settings, name))


def _fates(context: Context, state: str, table: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    key = f"{state}.when_filled"
    return tuple(
        (
            context.state(fate, f"{key}.{fate}"),
            context.numbers.add(f"{key}.{fate}", table[fate], exact("number")),
        )
        for fate in sorted(table)
    )


def _seedings(context: Context, state: str, written: Any) -> tuple[Seeding, ...]:
    tables = [written] if isinstance(written, dict) else written
    result = []
    for index, table in enumerate(tables):
        prefix = f"{state}.seeding" if len(tables) == 1 else f"{state}.seeding.{index}"
        key = f"{state}.seeding.{index}" if isinstance(written, list) else f"{state}.seeding"
        fraction = context.numbers.add(
            f"{prefix}.fraction",
            table["fraction"],
            per_voxel(context.voxel),
            key=f"{key}.fraction",
            high=1.0,
        )
        age = context.numbers.add(
            f"{prefix}.age",
            table.get("age", "0 h"),
            exact("time"),
            key=f"{key}.age",
            default="age" not in table,
        )
        result.append(Seeding(table["where"], fraction, age))
    return tuple(result)
