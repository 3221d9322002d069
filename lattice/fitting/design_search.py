"""The search for a treatment: up the gradient of the relaxation, corrected by sampled runs.

At the best point known, sampled runs F and the relaxation S give the offset r = F / S; the next
point has the best r S within a trust region, under the limits. It becomes the best if its own
sampled runs, of the same seeds, say so; else the region shrinks. Numbers of a schedule are turned
into steps, so no derivative knows of them: a few of their values are tried one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from lattice.fitting.design import Design
from lattice.fitting.likelihood import offset_of
from lattice.fitting.search import SHRINK
from lattice.fitting.structure import Condition, Problem
from lattice.fitting.surrogate import Surrogate
from lattice.model.errors import InputError

CLIMBS = 15
"""Iterations of one climb at most."""

SMALLEST = 0.01
"""A trust region of this part of the bounds ends the search."""

PROMISE = 0.25
"""The search ends where the relaxation promises less than this part of a standard error."""

BACK_OFF = 1.645
"""Standard errors by which the search keeps away from a limit."""


@dataclass(frozen=True)
class Sampled:
    """Sampled runs [N, M] at u [P]."""

    u: Float[np.ndarray, "P"]
    sampled: Float[np.ndarray, "N M"]

    @property
    def mean(self) -> Float[np.ndarray, "M"]:
        return self.sampled.mean(axis=0)

    @property
    def error(self) -> Float[np.ndarray, "M"]:
        """Standard error of the mean."""
        return self.sampled.std(axis=0, ddof=1) / np.sqrt(len(self.sampled))


@dataclass(frozen=True)
class Point(Sampled):
    """A point of the search, with what the relaxation says there [M]."""

    relaxed: Float[np.ndarray, "M"]


class Relaxed:
    """The relaxation of a design: one compiled program for every schedule."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self.smooth = np.flatnonzero(~design.timing)
        self.surrogate = Surrogate(self._problem(design.problem.start))

    def _problem(self, u: Float[np.ndarray, "P"]) -> Problem:
        """The problem of the numbers that can be differentiated, with the times of u."""
        problem, timing = self.design.problem, self.design.timing
        times = {p.name: float(u[i]) for i, p in enumerate(problem.parameters) if timing[i]}
        condition = problem.conditions[0]
        model = condition.model.with_values(**times)
        numbers = tuple(problem.parameters[i] for i in self.smooth)
        return replace(problem, parameters=numbers, conditions=(Condition("treated", model),))

    def at(self, u: Float[np.ndarray, "P"]) -> Surrogate:
        """The surrogate with the times of u, a function of the other numbers."""
        return self.surrogate.on(self._problem(u))

    def __call__(self, u: Float[np.ndarray, "P"]) -> Float[np.ndarray, "M"]:
        return self.at(u)(u[self.smooth])

    def check_dependence(self) -> None:
        """Raise InputError for a number on which nothing depends at the start."""
        u = self.design.problem.start
        if not len(self.smooth):
            return
        _, slopes = self.at(u).with_jacobian(u[self.smooth])
        for column, index in enumerate(self.smooth):
            if not np.any(slopes[:, column]):
                name = self.design.problem.parameters[index].name
                raise InputError(
                    f"{self.design.problem.file}: variable.{index}.name: nothing that is asked for "
                    f"depends on {name} at the start; leave it out, or start where it acts"
                )


@dataclass(frozen=True)
class Offset:
    """Takes the relaxation to sampled runs: factor [M], shift [M], and how far to keep from the
    limits [M]."""

    factor: Float[np.ndarray, "M"]
    shift: Float[np.ndarray, "M"]
    margin: Float[np.ndarray, "M"]

    def __call__(self, relaxed: Float[np.ndarray, "M"]) -> Float[np.ndarray, "M"]:
        return self.factor * relaxed + self.shift


def offset_at(point: Point) -> Offset:
    """The offset that sampled runs show at a point."""
    log = np.zeros(len(point.relaxed), bool)
    return Offset(*offset_of(point.mean, point.relaxed, log), BACK_OFF * point.error)


def better(design: Design, new: Sampled, old: Sampled) -> bool:
    """Whether sampled runs at a new point are better: nearer to the limits, or higher within."""
    beyond = [design.violation(p.mean) for p in (new, old)]
    if max(beyond) > 0:
        return beyond[0] < beyond[1]
    return bool(design.goal * (new.mean[0] - old.mean[0]) > 0)


def propose(
    design: Design, relaxed: Relaxed, offset: Offset, centre: Float[np.ndarray, "P"], radius: float
) -> tuple[Float[np.ndarray, "P"], Float[np.ndarray, "M"]]:
    """The best point within `radius` (a part of the bounds) of the centre by the relaxation with
    its offset, and what that predicts there."""
    low, high = design.problem.bounds
    low = np.maximum(low, centre - radius * (high - low))
    high = np.minimum(high, centre + radius * (high - low))
    tight = _tightened(design, offset)
    best: tuple[tuple[float, float], np.ndarray, np.ndarray] | None = None
    for start in _schedules(design, centre, low, high):
        u = _climbed(tight, relaxed, offset, start, low, high)
        found = offset(relaxed(u))
        # Within limits up to the tolerance of a climb, and then as good as can be.
        rank = (max(tight.violation(found) - 1e-3, 0.0), -design.goal * found[0])
        if best is None or rank < best[0]:
            best = rank, u, found
    assert best is not None
    return best[1], best[2]


def _tightened(design: Design, offset: Offset) -> Design:
    """The design with limits that a sampled mean on them would hardly break."""
    toward = np.stack([offset.margin, -offset.margin], axis=1)
    return replace(design, limits=design.limits + toward)


def _schedules(design: Design, centre, low, high) -> Iterator[Float[np.ndarray, "P"]]:
    """The centre with every combination of some times between low and high."""
    tried = []
    for index in np.flatnonzero(design.timing):
        levels = np.linspace(low[index], high[index], design.levels)
        snapped = np.rint(np.append(levels, centre[index]) / design.step) * design.step
        tried.append(np.unique(np.clip(snapped, *(b[index] for b in design.problem.bounds))))
    for times in product(*tried):
        u = np.array(centre, float)
        u[design.timing] = times
        yield u


def _climbed(
    design: Design, relaxed: Relaxed, offset: Offset, start: Float[np.ndarray, "P"], low, high
) -> Float[np.ndarray, "P"]:
    """The best numbers at the schedule of `start`, by gradient (SLSQP)."""
    free = relaxed.smooth
    if not len(free):
        return start
    surrogate = relaxed.at(start)
    width = np.where(high > low, high - low, 1.0)[free]
    scale = max(abs(float(offset(surrogate(start[free]))[0])), 1e-12)
    signs, limits, rows = _inequalities(design)

    def both(x):
        value, slopes = surrogate.with_jacobian(low[free] + x * width)
        return offset(value), offset.factor[:, None] * slopes * width

    def room(x):
        return signs * (limits - both(x)[0][rows]) / sizes

    sizes = np.maximum(np.abs(limits), 1e-9)
    found = minimize(
        lambda x: -design.goal * both(x)[0][0] / scale,
        np.clip((start[free] - low[free]) / width, 0, 1),
        jac=lambda x: -design.goal * both(x)[1][0] / scale,
        bounds=[(0.0, 1.0)] * len(free),
        constraints=[
            {"type": "ineq", "fun": room, "jac": lambda x: _slopes(both(x)[1], signs, rows, sizes)}
        ],
        method="SLSQP",
        options={"maxiter": CLIMBS, "ftol": 1e-4},
    )
    u = np.array(start, float)
    u[free] = low[free] + np.clip(found.x, 0, 1) * width
    return u


def _slopes(slopes, signs, rows, sizes):
    return -(signs / sizes)[:, None] * slopes[rows]


def _inequalities(design: Design):
    """sign * (limit - value[row]) >= 0 for every finite limit."""
    low, high = design.limits.T
    rows = [np.flatnonzero(np.isfinite(side)) for side in (high, low)]
    signs = np.concatenate([np.ones(len(rows[0])), -np.ones(len(rows[1]))])
    limits = np.concatenate([high[rows[0]], low[rows[1]]])
    return signs, limits, np.concatenate(rows)


def search(
    design: Design,
    relaxed: Relaxed,
    runs_at: Callable[[int, Float[np.ndarray, "P"]], Float[np.ndarray, "N M"]],
    tell: Callable[[str], None],
) -> tuple[int, list[Point]]:
    """Which point is best, and all points of the search in their order.

    `runs_at(k, u)` gives sampled runs, of the same seeds at every point, and may know them."""
    u = design.snapped(design.problem.start)
    points, best, radius = [Point(u, runs_at(0, u), relaxed(u))], 0, 1.0
    while len(points) < design.iterations and radius > SMALLEST:
        centre = points[best]
        u, predicted = propose(design, relaxed, offset_at(centre), centre.u, radius)
        gain = design.goal * (predicted[0] - centre.mean[0])
        if gain < PROMISE * centre.error[0] and not design.violation(centre.mean):
            break
        if _known(design, u, points):
            radius *= 0.5
            continue
        points.append(Point(u, runs_at(len(points), u), relaxed(u)))
        good = better(design, points[-1], centre)
        best = len(points) - 1 if good else best
        radius = min(radius * (SHRINK if good else 0.5), design.region)
        tell(
            f"point {len(points)} of at most {design.iterations}: {_at(design.problem, u)}; "
            f"predicted {predicted[0]:.4g}, sampled {points[-1].mean[0]:.4g}"
            + (", the best so far" if good else "")
        )
    return best, points


def _known(design: Design, u: Float[np.ndarray, "P"], points: list[Point]) -> bool:
    """Whether a point lies next to one that has been sampled."""
    low, high = design.problem.bounds
    return any(np.max(np.abs(u - p.u) / (high - low)) < SMALLEST for p in points)


def _at(problem: Problem, u: Float[np.ndarray, "P"]) -> str:
    return ", ".join(
        f"{p.name} {p.written(x):.4g} {p.unit}".strip()
        for p, x in zip(problem.parameters, u, strict=True)
    )
