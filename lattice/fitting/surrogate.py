"""The relaxation of a fitting problem: predictions of all data as a function of the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lattice.fitting.structure import Problem
from lattice.inference.relaxation import Relaxation, relaxation
from lattice.model.errors import NumericalError
from lattice.model.setting import Geometry
from lattice.model.structure import Model
from lattice.run import bone_of

TINY = 1e-30
Schedules = dict[int, Any]
"""Condition -> bool [N, I]: in which steps which interventions act."""


class Surrogate:
    """``surrogate(u) -> [M]`` on the scales of the observables; u [P] on those of the parameters.

    Conditions that differ only in numbers share one compiled program."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._groups = _groups(problem)
        self._due = self._schedules(problem)
        self._last: tuple[bytes, np.ndarray, np.ndarray] | None = None
        self._value = jax.jit(self.traced)
        self._both = jax.jit(jax.jacfwd(lambda u, due: (v := self.traced(u, due), v), has_aux=True))

    def on(self, problem: Problem) -> Surrogate:
        """The same compiled relaxation for other measurements of the same layout (observable,
        condition and time of each datum), and other times of interventions. Raises ValueError if
        the layout is another."""
        if _layout(problem) != _layout(self.problem):
            raise ValueError("the data have another layout")
        other = copy(self)
        other.problem, other._due, other._last = problem, self._schedules(problem), None
        return other

    def _schedules(self, problem: Problem) -> Schedules:
        return {
            c: group.relaxation.due(problem.conditions[c].model)
            for group in self._groups
            for c in group.conditions
        }

    @property
    def notes(self) -> list[str]:
        """What the derivative leaves out or replaces."""
        return sorted({g.relaxation.note for g in self._groups if g.relaxation.note})

    def traced(self, u: Float[Array, "P"], due: Schedules | None = None) -> Float[Array, "M"]:
        """The predictions, traceable by JAX; `due` stands for the times of interventions."""
        due = self._due if due is None else due
        parameters = self.problem.parameters
        values = {
            p.name: u[i] if p.scale == "lin" else jnp.exp(u[i]) for i, p in enumerate(parameters)
        }
        found = [jnp.zeros(())] * len(self.problem.data)
        for group in self._groups:
            for place, value in group.predict(self.problem, values, due).items():
                found[place] = value
        return jnp.stack(found)

    def __call__(self, u: Float[np.ndarray, "P"]) -> Float[np.ndarray, "M"]:
        """The predictions. Raises NumericalError where one is not finite."""
        value = np.asarray(self._value(jnp.asarray(u, jnp.float32), self._due), float)
        self._check(u, value)
        return value

    def with_jacobian(self, u: Float[np.ndarray, "P"]):
        """The predictions [M] and their derivative [M, P]; the last ones are remembered."""
        key = np.asarray(u, np.float64).tobytes()
        if self._last is None or self._last[0] != key:
            derivative, value = self._both(jnp.asarray(u, jnp.float32), self._due)
            value, derivative = np.asarray(value, float), np.asarray(derivative, float)
            self._check(u, value + derivative.sum(axis=1))
            self._last = key, value, derivative
        return self._last[1], self._last[2]

    def _check(self, u, value) -> None:
        bad = np.flatnonzero(~np.isfinite(value))
        if len(bad):
            datum = self.problem.data[bad[0]]
            name = self.problem.observables[datum.observable].name
            at = ", ".join(
                f"{p.name} = {p.written(x):.4g} {p.unit}".strip()
                for p, x in zip(self.problem.parameters, u, strict=True)
            )
            raise NumericalError(
                f"{self.problem.file}: the relaxation of {name} at {datum.hours:g} h is no number "
                f"with {at}; narrow the bounds, or write lin as its observableTransformation"
            )


class _Group:
    """Conditions of one structure: one relaxation, and what each of them changes."""

    def __init__(self, problem: Problem, conditions: Sequence[int]) -> None:
        models = [problem.conditions[c].model for c in conditions]
        base = max(models, key=lambda model: model.time.until)
        hours = sorted({h for c in conditions for h in (0.0, *problem.hours(c))})
        used = {d.observable for d in problem.data if d.condition in conditions}
        names = sorted({n for o in used for n in problem.observables[o].surrogate.names})
        self.conditions, self.hours, self.names = tuple(conditions), hours, names
        scan = problem.conditions[conditions[0]].scan
        self.relaxation: Relaxation = relaxation(
            base, names, hours,
            reading=problem.settings.reading, bone=bone_of(base, problem.settings.seed),
            seed=problem.settings.seed, classes=scan and scan.classes,
        )  # fmt: skip
        self.changes = [_changes(base, model) for model in models]

    def predict(
        self, problem: Problem, values: Mapping[str, Array], due: Schedules
    ) -> dict[int, Array]:
        """Place of a datum -> its prediction."""
        found = {}
        for condition, changes in zip(self.conditions, self.changes, strict=True):
            course = self.relaxation({**changes, **values}, jnp.asarray(due[condition]))
            columns = {n: course[:, i] for i, n in enumerate(self.names)}
            beginning = {n: column[0] for n, column in columns.items()}
            for place, datum in enumerate(problem.data):
                if datum.condition != condition:
                    continue
                row = self.hours.index(datum.hours)
                now = {n: column[row] for n, column in columns.items()}
                observable = problem.observables[datum.observable]
                value = jnp.asarray(observable.surrogate(now, beginning))
                found[place] = jnp.log(jnp.maximum(value, TINY)) if observable.log else value
        return found


def _layout(problem: Problem) -> tuple:
    return tuple((d.condition, d.observable, d.hours) for d in problem.data)


def _groups(problem: Problem) -> list[_Group]:
    alike: dict[tuple[Model, Geometry, bool], list[int]] = {}
    for index in sorted({d.condition for d in problem.data}):
        model = problem.conditions[index].model
        scanned = problem.conditions[index].scan is not None
        alike.setdefault((model.structure, model.geometry, scanned), []).append(index)
    return [_Group(problem, conditions) for conditions in alike.values()]


def _changes(base: Model, model: Model) -> dict[str, float]:
    return {name: value for name, value in model.values.items() if base.values[name] != value}
