"""From a model file to a `Model`: everything read, checked and put in its canonical order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from .cells import EMPTY_STATE, read_state
from .checks import check_model
from .grammar import ARRAYS, SECTIONS, SOURCES
from .interventions import read_intervention
from .molecules import read_cytokine, read_molar_mass, read_reaction
from .numbers import Numbers, exact
from .reading import Document, read_file, read_text
from .responses import Context
from .rules import read_rule
from .static import read_geometry, read_lattice, read_output, read_solver, read_time
from .structure import (
    EMPTY,
    Cytokine,
    Intervention,
    Matrix,
    Model,
    Rule,
    State,
)
from .writing import to_toml

__all__ = ["load", "loads"]

SCHEMA = 1
_MOST_STATES = 200


def load(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    beside: str | os.PathLike[str] = "",
) -> Model:
    """Read a model file. `overrides` are texts "key=value", as after ``--set``; relative paths in
    them start at the folder `beside`, or where the process works.

    Raises InputError for anything that is wrong with the file or an override.
    """
    document = read_file(path, overrides, os.fspath(beside))
    fallback = os.path.splitext(os.path.basename(os.fspath(path)))[0]
    return _resolve(document, fallback)


def loads(
    text: str,
    overrides: Sequence[str] = (),
    *,
    folder: str | os.PathLike[str] = "",
    file: str = "model",
    beside: str | os.PathLike[str] = "",
) -> Model:
    """Read a model from a text; paths in it are relative to `folder`, those in `overrides` to
    `beside`, as in `load`.

    `file` stands for the text in messages. Raises InputError.
    """
    document = read_text(text, os.fspath(folder), file, overrides, os.fspath(beside))
    return _resolve(document, "model")


def _resolve(document: Document, fallback: str) -> Model:
    _check_keys(document)
    lattice, voxel = read_lattice(document)
    numbers = Numbers(document)
    tables = {kind: document.tables.get(kind, {}) for kind in ARRAYS}
    _check_states(document, tables["state"])
    context = Context(
        document, numbers, voxel, frozenset(tables["cytokine"]), frozenset(tables["state"])
    )
    time, step = read_time(document)
    cytokines, molar_masses = _cytokines(context, tables["cytokine"])
    states = (EMPTY_STATE, *(read_state(context, n, t) for n, t in _sorted(tables["state"])))
    rules = _rules(context, tables["rule"])
    reactions = tuple(read_reaction(context, n, t) for n, t in _sorted(tables["reaction"]))
    matrix = _matrix(document, numbers, states, rules, cytokines)
    interventions = _interventions(context, tables["intervention"], rules)
    in_moles = {name for r in reactions for name, _ in (*r.left, *r.right)}
    kinds = {name: (mass, name in in_moles) for name, mass in molar_masses.items()}
    parameters = numbers.resolve(kinds)
    amounts = numbers.amounts(kinds)
    model = Model(
        schema=SCHEMA,
        name=document.tables.get("name", fallback),
        lattice=lattice,
        geometry=read_geometry(document),
        time=time,
        output=read_output(document, step),
        solver=read_solver(document),
        cytokines=tuple(replace(c, amount=amounts[c.name]) for c in cytokines),
        states=states,
        rules=rules,
        reactions=reactions,
        interventions=interventions,
        matrix=matrix,
        parameters=tuple(parameters.values()),
    )
    check_model(model, document)
    return replace(model, text=to_toml(model))


def _check_keys(document: Document) -> None:
    for key, value in document.tables.items():
        if key in SECTIONS:
            SECTIONS[key].check(value, key, document.refuse)
        elif key in ARRAYS:
            for name, table in value.items():
                ARRAYS[key].check(table, f"{key}.{name}", document.refuse)
        elif key == "sources":
            SOURCES.check(value, key, document.refuse)


def _check_states(document: Document, states: dict[str, Any]) -> None:
    for reserved in (EMPTY, "bone"):
        if reserved in states:
            problem = "this name is reserved; write another name for the state"
            raise document.refuse(f"state.{reserved}", problem)
    if len(states) > _MOST_STATES:
        raise document.refuse("state", f"{len(states)} states; write at most {_MOST_STATES}")


def _sorted(tables: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return sorted(tables.items())


def _cytokines(
    context: Context, tables: dict[str, Any]
) -> tuple[tuple[Cytokine, ...], dict[str, Fraction | None]]:
    for reserved in ("age", "matrix", "time"):
        if reserved in tables:
            problem = "this is the name of a signal; write another name for the cytokine"
            raise context.document.refuse(f"cytokine.{reserved}", problem)
    masses = {name: read_molar_mass(context, name, table) for name, table in _sorted(tables)}
    made = tuple(read_cytokine(context, n, t, masses[n]) for n, t in _sorted(tables))
    return made, masses


def _rules(context: Context, tables: dict[str, Any]) -> tuple[Rule, ...]:
    made = [rule for n, t in _sorted(tables) for rule in read_rule(context, n, t)]
    return tuple(sorted(made, key=lambda r: r.name))


def _matrix(
    document: Document,
    numbers: Numbers,
    states: tuple[State, ...],
    rules: tuple[Rule, ...],
    cytokines: tuple[Cytokine, ...],
) -> Matrix | None:
    table = document.tables.get("matrix")
    touched = _touches_matrix(states, rules, cytokines)
    if table is None and not numbers.given("matrix.lag") and not touched:
        return None
    table = table or {}
    lag = numbers.add(
        "matrix.lag",
        table.get("lag", "2 day"),
        exact("time"),
        positive=True,
        default="lag" not in table,
    )
    return Matrix(lag, **{k: v for k, v in table.items() if k != "lag"})


def _touches_matrix(
    states: tuple[State, ...], rules: tuple[Rule, ...], cytokines: tuple[Cytokine, ...]
) -> bool:
    rates = [m for s in states for m in (s.lays, s.resorbs) if m is not None]
    exchanges = [e for s in states for e in (*s.secretes, *s.takes_up)]
    responses = [r for owner in (*rates, *exchanges, *rules) for r in owner.responses]
    responses += [r for cytokine in cytokines for r in cytokine.production_when]
    return (
        bool(rates)
        or any(r.signal.kind == "matrix" for r in responses)
        or any(r.needs_matrix or r.forbids_matrix or r.consumes_matrix for r in rules)
    )


def _interventions(
    context: Context, tables: dict[str, Any], rules: tuple[Rule, ...]
) -> tuple[Intervention, ...]:
    known = context.numbers.names()
    return tuple(read_intervention(context, n, t, rules, known) for n, t in _sorted(tables))
