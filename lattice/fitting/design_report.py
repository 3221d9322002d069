"""The page of a design: what to do, what it brings, and what finding it has cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from lattice.analysis.page import Page, number
from lattice.analysis.style import INK, MUTED, PALETTE, new_figure, save_png
from lattice.fitting.design_conduct import DesignResult, difference, interval
from lattice.fitting.design_result import kept, searched_by, verdict
from lattice.fitting.design_search import Sampled
from lattice.fitting.structure import Observable
from lattice.io.files import write_text


def write_report(result: DesignResult, folder: Path) -> Path:
    """Draw the figure and write ``index.html``; returns its path. Raises StorageError."""
    design = result.design
    problem = design.problem
    page = Page(f"Design: {problem.name}")
    page.section("The treatment")
    for line in sentences(result):
        page.paragraph(line, "summary")
    pairs = zip(problem.parameters, result.treated.u, strict=True)
    page.table(
        ["variable", "chosen", "from", "to", "unit", "searched by"],
        [
            [p.name, number(p.written(u)), number(p.low / p.factor), number(p.high / p.factor),
             p.unit, searched_by(design, i)]
            for i, (p, u) in enumerate(pairs)
        ],
    )  # fmt: skip
    page.section("What it brings")
    page.picture(
        draw(result, folder / "design.png"),
        "Left: each arm in fresh runs (points), their mean and its 95 % interval. Middle: all "
        "points that were sampled; the line follows the search. Right: the best point known after "
        "so many sampled runs.",
    )
    page.table(["arm", *(_named(o) for o in problem.observables)], _arms(result))
    page.section("How it was computed")
    page.paragraph(
        f"The search sampled {len(result.points)} points with {design.runs} runs each, the same "
        "seeds at every point, so that points differ by the treatment and not by luck; runs in "
        f"this figure are {design.final_runs} others. "
        + " ".join(f"Note: {note}." for note in result.notes)
    )
    path = folder / "index.html"
    write_text(path, page.html())
    return path


def sentences(result: DesignResult) -> list[str]:
    """The result in words: gain, constraints, cost."""
    design = result.design
    outcome = design.problem.observables[0]
    mean, low, high = difference(result.treated, result.untreated)
    before = interval(result.untreated, 0)[0]
    found = [
        f"{outcome.name}: {verdict(result)}; treated minus untreated {mean:+.4g} "
        f"({low:+.4g} to {high:+.4g}) {outcome.unit}".rstrip()
        + (f", {100 * mean / before:+.1f} % of untreated." if before else ".")
    ]
    for m, constraint in enumerate(design.problem.observables[1:], 1):
        value, low, high = interval(result.treated, m)
        found.append(
            f"{constraint.name}: {kept(design, result.treated, m)}; {value:.4g} ({low:.4g} to "
            f"{high:.4g}) {constraint.unit}".rstrip()
            + f", to be {_limit(design.limits[m])}."
        )
    cost = f"Sampled runs: {result.search_runs} by the search"
    if result.gridded is None:
        return [*found, f"{cost}; no grid to compare with."]
    mean, low, high = difference(result.treated, result.gridded)
    found.append(
        f"{cost}, {result.grid_runs} by a grid of {design.grid} levels; design minus the best of "
        f"the grid {mean:+.4g} ({low:+.4g} to {high:+.4g}) {outcome.unit}".rstrip()
        + "."
    )
    return found


def _limit(limits: Float[np.ndarray, "2"]) -> str:
    words = zip(("at least", "at most"), limits, strict=True)
    return " and ".join(f"{word} {limit:.4g}" for word, limit in words if np.isfinite(limit))


def _arms(result: DesignResult) -> list[list[object]]:
    rows = []
    for name, arm in arms_of(result):
        cells = [interval(arm, m) for m in range(len(result.design.problem.observables))]
        rows.append([name, *(f"{mean:.4g} ({low:.4g} to {high:.4g})" for mean, low, high in cells)])
    return rows


def arms_of(result: DesignResult) -> list[tuple[str, Sampled]]:
    """The arms of fresh runs by name."""
    arms = [("untreated", result.untreated), ("designed", result.treated)]
    return arms if result.gridded is None else [*arms, ("best of the grid", result.gridded)]


def _named(observable: Observable) -> str:
    return f"{observable.name} ({observable.unit})" if observable.unit else observable.name


def draw(result: DesignResult, path: Path) -> Path:
    """The figure: arms, all points, and how fast the search and the grid got there."""
    figure = new_figure(12.6, 3.8)
    _draw_arms(result, figure.add_subplot(1, 3, 1))
    _draw_points(result, figure.add_subplot(1, 3, 2))
    _draw_cost(result, figure.add_subplot(1, 3, 3))
    return save_png(figure, path)


def _draw_arms(result: DesignResult, axes: Axes) -> None:
    arms = arms_of(result)
    for place, (_, arm) in enumerate(arms):
        values = arm.sampled[:, 0]
        shift = np.linspace(-0.18, 0.18, len(values))
        axes.plot(place + shift, values, ".", color=MUTED, ms=3)
        mean, low, high = interval(arm, 0)
        axes.errorbar([place], [mean], [[mean - low], [high - mean]], fmt="s", color=PALETTE[place])
    axes.set_xticks(range(len(arms)), [name for name, _ in arms])
    axes.set_xlim(-0.5, len(arms) - 0.5)
    axes.set_ylabel(_named(result.design.problem.observables[0]))


def _draw_points(result: DesignResult, axes: Axes) -> None:
    """The outcome of every point against its first constraint, or against the first variable."""
    design = result.design
    limited = len(design.problem.observables) > 1
    first = design.problem.parameters[0]

    def across(point: Sampled) -> float:
        return float(point.mean[1]) if limited else first.written(point.u[0])

    if result.grid:
        x, y = [across(p) for p in result.grid], [p.mean[0] for p in result.grid]
        axes.plot(x, y, ".", color=MUTED, alpha=0.5, label="grid")
    x, y = [across(p) for p in result.points], [p.mean[0] for p in result.points]
    axes.plot(x, y, "o-", color=PALETTE[0], ms=4, lw=1, label="search")
    axes.plot(x[result.best], y[result.best], "*", color=PALETTE[5], ms=13, label="chosen")
    if limited:
        for limit in design.limits[1]:
            if np.isfinite(limit):
                axes.axvline(limit, color=INK, ls="--", lw=1, label="limit")
    axes.set_xlabel(_named(design.problem.observables[1]) if limited else _variable(first))
    axes.set_ylabel(_named(design.problem.observables[0]))
    axes.legend(fontsize=7, frameon=False)


def _variable(parameter) -> str:
    return f"{parameter.name} ({parameter.unit})" if parameter.unit else parameter.name


def _draw_cost(result: DesignResult, axes: Axes) -> None:
    design = result.design
    runs, best = best_so_far(result)
    axes.step(runs, best, where="post", color=PALETTE[0], label="search")
    axes.plot(runs[-1], best[-1], "*", color=PALETTE[5], ms=13)
    if result.grid:
        within = [p.mean[0] for p in result.grid if design.violation(p.mean) == 0]
        if within:
            top = max(within, key=lambda y: design.goal * y)
            axes.plot([result.grid_runs], [top], "D", color=MUTED, label="whole grid")
        axes.set_xscale("log")
    axes.set_xlabel("sampled runs")
    axes.set_ylabel(f"best {design.problem.observables[0].name} so far")
    axes.legend(fontsize=7, frameon=False)


def best_so_far(result: DesignResult) -> tuple[list[int], list[float]]:
    """After each point of the search: sampled runs so far, and the best outcome within limits (of
    points beyond them where there is none)."""
    design, runs, best, total = result.design, [], [], 0
    for k, point in enumerate(result.points):
        total += len(point.sampled)
        runs.append(total)
        ranked = min(
            result.points[: k + 1],
            key=lambda p: (design.violation(p.mean), -design.goal * p.mean[0]),
        )
        best.append(float(ranked.mean[0]))
    return runs, best
