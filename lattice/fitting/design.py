"""The design of a treatment as read from its file: what is chosen, what for, and within what."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from lattice.analysis.histomorphometry import DESCRIPTIONS
from lattice.engine.observe import series_units
from lattice.fitting.formula import FormulaError, read_formula
from lattice.fitting.reading import (
    check_labels,
    content_of,
    parts,
    positive,
    quoted,
    schedule_names,
    with_overrides,
)
from lattice.fitting.structure import Condition, Datum, Observable, Parameter, Problem, Settings
from lattice.inference.observables import known_observables
from lattice.inference.relaxation import READINGS
from lattice.model import load
from lattice.model.errors import InputError
from lattice.model.kinds import Integer, ListOf, Quantity, Record, Text, did_you_mean
from lattice.model.reading import set_in_file
from lattice.model.structure import Model

DESIGN = Record(
    {
        "name": Text("What the design is called."),
        "model": Text("A model file."),
        "set": ListOf(Text('Numbers of the model changed in all arms: "key=value".')),
        "untreated": ListOf(Text('What makes the untreated arm of it: "key=value".'), 1),
        "reading": Text("The relaxation.", READINGS),
        "seed": Integer("Seed of sampled runs.", 0, 2**63),
        "runs": Integer("Sampled runs of each point of the search.", 2, 10_000),
        "iterations": Integer("Points that the search may sample.", 1, 1000),
        "region": Quantity("Longest step of the second iteration, as a part of the bounds.", "0.5"),
        "levels": Integer("Times that an iteration tries for each number of a schedule.", 2, 1000),
        "grid": Integer(
            "Levels of each variable in the grid search compared with; 0: none.", 0, 99
        ),
        "final_runs": Integer("Sampled runs of each arm at the end.", 2, 100_000),
    },
    ("model", "untreated"),
)
FORMULA = {
    "formula": Text("Arithmetic on series of a run, at its end."),
    "surrogate": Text("The same of series that relaxations give, where the formula has others."),
    "unit": Text("For tables and figures."),
}
OUTCOME = Record(
    FORMULA | {"name": Text("For tables and figures."), "goal": Text("", ("most", "least"))},
    ("formula",),
)
BOUND = Quantity("A limit.", "5")
CONSTRAINT = Record(
    FORMULA | {"name": Text("For tables and figures."), "most": BOUND, "least": BOUND},
    ("name", "formula"),
)
VARIABLE = Record(
    {
        "name": Text("Dotted name of a number of the model."),
        "low": Quantity("Lower bound.", "0.1"),
        "high": Quantity("Upper bound.", "0.9"),
        "start": Quantity("Where the search begins.", "0.2"),
        "scale": Text("lin if not said otherwise.", ("lin", "log")),
    },
    ("name", "low", "high", "start"),
)
NUMBERS = ("runs", "iterations", "region", "levels", "grid", "final_runs")
TABLES = ("schema", "design", "outcome", "constraint", "variable")


@dataclass(frozen=True)
class Design:
    """A treatment to be designed.

    `problem`: its parameters are the variables [P], its observables the outcome and then the
    constraints [M], its data one of each at the end; `untreated` is the same without variables.
    `limits` [M, 2] lowest and highest value of each; `timing` [P]: variables that a schedule turns
    into steps of `step` hours, so that nothing can be differentiated with respect to them.
    """

    problem: Problem
    untreated: Problem
    goal: float  # 1: as high as possible, -1: as low as possible
    limits: Float[np.ndarray, "M 2"]
    timing: Bool[np.ndarray, "P"]
    runs: int = 8
    iterations: int = 8
    region: float = 0.5
    levels: int = 4
    grid: int = 5
    final_runs: int = 32

    @property
    def step(self) -> float:
        """Hours of a step."""
        return self.problem.conditions[0].model.time.step

    def snapped(self, u: Float[np.ndarray, "P"]) -> Float[np.ndarray, "P"]:
        """The point with its times at whole steps, within bounds."""
        low, high = self.problem.bounds
        steps = np.where(self.timing, np.rint(u / self.step) * self.step, u)
        return np.clip(steps, low, high)

    def violation(self, values: Float[np.ndarray, "M"]) -> float:
        """How far the values [M] lie beyond the limits, each in units of its limit; 0: nowhere."""
        low, high = self.limits.T
        beyond = np.maximum(np.maximum(low - values, values - high), 0)
        limit = np.where(values < low, low, high)
        finite = np.where(np.isfinite(limit), np.abs(limit), 1.0)
        return float(np.max(beyond / np.maximum(finite, 1e-9)))


def load_design(path: Path, overrides: Sequence[str] = ()) -> Design:
    """Read a design file and its model. `overrides` are texts "key=value" for the table [design].
    Raises InputError naming file and key, and the fix."""

    def refuse(key: str, problem: str) -> InputError:
        return InputError(f"{path}: {key}: {problem}")

    content = content_of(path, TABLES, refuse)
    for name in ("design", "outcome", "variable"):
        if name not in content:
            written = f"[[{name}]]" if name == "variable" else f"[{name}]"
            raise refuse(name, f"this table is missing; write {written}")
    table = with_overrides(content["design"], "design", overrides)
    DESIGN.check(table, "design", refuse)
    OUTCOME.check(content["outcome"], "outcome", refuse)
    ListOf(CONSTRAINT).check(content.get("constraint", []), "constraint", refuse)
    ListOf(VARIABLE, 1).check(content["variable"], "variable", refuse)

    def model_with(more: Sequence[str] = ()) -> Model:
        changes = [*table.get("set", ()), *more]
        return load(path.parent / table["model"], changes, beside=path.parent)

    with set_in_file("design.set", refuse):
        model = model_with()
    with set_in_file("design.untreated", refuse):
        bare = model_with(table["untreated"])
    variables = _variables(content["variable"], model, model_with, refuse)
    observables, limits = _formulas(content, model, refuse)
    ends = tuple(Datum(0, o, model.time.until, 0.0, 1, None, 0) for o in range(len(observables)))
    check_labels(path, (Condition("", model),), observables, ends)
    settings = Settings(table.get("reading", "pair_closure"), table.get("seed", 0))
    name = table.get("name", path.stem)
    problem = Problem(
        name, str(path), variables, (Condition("treated", model),), observables, ends, settings
    )
    untreated = replace(problem, parameters=(), conditions=(Condition("untreated", bare),))
    chosen = {k: v for k, v in table.items() if k in NUMBERS}
    if "region" in chosen:
        chosen["region"] = positive(chosen["region"], "design.region", refuse)
    goal = -1.0 if content["outcome"].get("goal") == "least" else 1.0
    return Design(problem, untreated, goal, limits, _timing(model, variables), **chosen)


def _timing(model: Model, variables: Sequence[Parameter]) -> Bool[np.ndarray, "P"]:
    times = schedule_names(model)
    return np.array([v.name in times for v in variables])


def _variables(
    tables: Sequence[Mapping[str, Any]], model: Model, model_with: Callable, refuse: Callable
) -> tuple[Parameter, ...]:
    found: list[Parameter] = []
    for k, table in enumerate(tables):
        name, key = table["name"], f"variable.{k}"
        if name not in model.values:
            hint = did_you_mean(name, model.values)
            raise refuse(f"{key}.name", f'"{name}" is no number of the model; {hint}')
        if name in {f.name for f in found}:
            raise refuse(f"{key}.name", f"{name} stands there twice; leave one out")
        found.append(_variable(table, name, key, model_with, refuse))
    return tuple(found)


def _variable(
    table: Mapping[str, Any], name: str, key: str, model_with: Callable, refuse: Callable
) -> Parameter:
    scale = table.get("scale", "lin")
    values = {}
    for column in ("low", "high", "start"):
        written = str(table[column])
        try:
            values[column] = model_with([f"{name}={quoted(written)}"]).values[name]
        except InputError as error:
            raise refuse(f"{key}.{column}", str(error)) from None
        if parts(written)[1] != parts(str(table["low"]))[1]:
            raise refuse(f"{key}.{column}", f"{written} has another unit than low; write one unit")
    low, high, start = values.values()
    if not low < high:
        raise refuse(f"{key}.high", "not above low; write a higher one")
    if not low <= start <= high:
        raise refuse(f"{key}.start", "lies outside of low and high; write one between them")
    if scale == "log" and low <= 0:
        raise refuse(f"{key}.low", "has no logarithm; write one above 0, or leave scale out")
    number, unit = parts(str(table["high"]))
    return Parameter(name, scale, low, high, start, unit, high / number if number else 1.0, None)


def _formulas(content: Mapping[str, Any], model: Model, refuse: Callable):
    """Outcome and constraints as observables, and their limits [M, 2]."""
    outcome = _formula(content["outcome"], "outcome", model, refuse)
    found, limits = [outcome], [(-math.inf, math.inf)]
    for k, table in enumerate(content.get("constraint", ())):
        key = f"constraint.{k}"
        if "most" not in table and "least" not in table:
            raise refuse(key, "it limits nothing; write most or least")
        low, high = (
            _number(table[side], f"{key}.{side}", refuse) if side in table else nothing
            for side, nothing in (("least", -math.inf), ("most", math.inf))
        )
        if low >= high:
            raise refuse(f"{key}.most", "not above least; write a higher one")
        found.append(_formula(table, key, model, refuse))
        limits.append((low, high))
    return tuple(found), np.array(limits)


def _number(value: Any, key: str, refuse: Callable) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise refuse(key, f'"{value}" is no number; write one in the unit of the formula') from None


def _formula(table: Mapping[str, Any], key: str, model: Model, refuse: Callable) -> Observable:
    relaxed = known_observables(model)
    read = {}
    for column, known in (
        ("formula", [*series_units(model), *DESCRIPTIONS]),
        ("surrogate", relaxed),
    ):
        try:
            read[column] = read_formula(table.get(column, table["formula"]), known)
        except FormulaError as error:
            problem = str(error)
            if column == "surrogate" and column not in table:
                beyond = next(n for n in read["formula"].names if n not in relaxed)
                problem = f"relaxations do not give {beyond}; write one that is nearly proportional"
            raise refuse(f"{key}.{column}", problem) from None
    unit = table.get("unit", series_units(model).get(table["formula"], ""))
    name = table.get("name", table["formula"])
    return Observable(name, read["formula"], read["surrogate"], False, unit)
