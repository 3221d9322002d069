"""Figures of a trial: differences with their intervals, doses, time courses, slices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import stats

from lattice.analysis.slices import composite, cut, planes_of
from lattice.analysis.style import (
    BONE_GREY,
    INK,
    MUTED,
    OSTEOID_TAN,
    PALETTE,
    TimeScale,
    new_figure,
    scale_bar,
    state_colours,
    tidy,
)
from lattice.io.runfile import RunFile
from lattice.model.errors import InputError
from lattice.trial.outcomes import matching
from lattice.trial.results import Comparison, Results
from lattice.trial.statistics import CONFIDENCE
from lattice.trial.structure import Arm, Trial

__all__ = ["figure_course", "figure_doses", "figure_forest", "figure_slices", "groups_of"]

UP, DOWN, OPEN = "#0072B2", "#D55E00", MUTED
MOST_SLICES = 12


def groups_of(trial: Trial) -> list[tuple[str, list[Arm]]]:
    """Arms that are drawn together: those of a curve, and the others that share a reference; each
    with its references first."""
    groups: dict[str, list[Arm]] = {}
    for arm in trial.arms:
        if arm.reference is not None:
            title = arm.curve or f"compared with {arm.reference}"
            groups.setdefault(title, []).append(arm)
    found = []
    for title, arms in groups.items():
        names = {a.name for a in arms}
        references = dict.fromkeys(a.reference for a in arms if a.reference not in names)
        found.append((title, [*(trial.arm(n) for n in references if n is not None), *arms]))
    if not found:
        found.append(("all arms", list(trial.arms)))
    return found


def _shown(comparison: Comparison) -> tuple[float, float, float] | None:
    """Difference and interval in per cent of the reference; None where it is not defined."""
    d = comparison.difference
    if d is None or not math.isfinite(comparison.percent(d.mean)):
        return None
    low, high = (comparison.percent(x) for x in (d.low, d.high))
    return comparison.percent(d.mean), low, high


def figure_forest(results: Results, outcomes: Sequence[str]) -> Figure:
    """One panel for each outcome: the difference to its reference, in per cent, of every arm of
    which a pair has been run."""
    arms = [
        arm
        for arm in results.trial.arms
        if any((d := results.compared(arm.name, o).difference) and d.n for o in outcomes)
    ]
    columns = min(3, len(outcomes))
    rows = -(-len(outcomes) // columns)
    figure = new_figure(3.2 * columns + 1.6, rows * (0.9 + 0.27 * len(arms)) + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for ax in grid[len(outcomes) :]:
        ax.set_axis_off()
    for ax, outcome in zip(grid, outcomes, strict=False):
        for place, arm in enumerate(arms):
            shown = _shown(results.compared(arm.name, outcome))
            if shown is None:
                ax.text(0, place, "–", ha="center", va="center", color=MUTED)
                continue
            _interval(ax, float(place), shown)
        ax.axvline(0, color=INK, linewidth=0.8, zorder=0)
        tidy(ax)
        ax.grid(axis="y", visible=False)
        ax.set_title(outcome, fontsize=9, loc="left", color=INK)
        ax.set_xlabel("difference (% of the reference)", fontsize=8)
    labels = [f"{a.name}  (− {a.reference})" for a in arms]
    for ax in grid[: len(outcomes)]:
        ax.set_yticks(range(len(arms)), labels, fontsize=8)
        ax.set_ylim(len(arms) - 0.5, -0.5)
    figure.suptitle(
        "Difference to the reference: mean of the pairs and 95 % interval",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def _colour(low: float, high: float) -> str:
    return UP if low > 0 else DOWN if high < 0 else OPEN


def _interval(ax: Axes, place: float, shown: tuple[float, float, float]) -> None:
    mean, low, high = shown
    colour = _colour(low, high)
    if math.isfinite(low):
        ax.plot([low, high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt")
    ax.plot([mean], [place], "o", color=colour, markersize=5)


def figure_doses(results: Results, curve: str, outcomes: Sequence[str]) -> Figure:
    """One panel for each outcome: the difference to the reference over the dose."""
    arms = [a for a in results.trial.arms if a.curve == curve and a.reference is not None]
    arms.sort(key=lambda a: a.dose or 0.0)
    columns = min(3, len(outcomes))
    rows = -(-len(outcomes) // columns)
    figure = new_figure(3.3 * columns + 0.6, 2.5 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in grid[len(outcomes) :]:
        ax.set_axis_off()
    for ax, outcome in zip(grid, outcomes, strict=False):
        points = [(a.dose or 0.0, _shown(results.compared(a.name, outcome))) for a in arms]
        drawn = [(dose, shown) for dose, shown in points if shown is not None]
        ax.axhline(0, color=INK, linewidth=0.8, zorder=0)
        ax.plot([0, *(d for d, _ in drawn)], [0, *(s[0] for _, s in drawn)], color=MUTED, lw=1)
        for dose, (mean, low, high) in drawn:
            colour = _colour(low, high)
            if math.isfinite(low):
                ax.plot([dose, dose], [low, high], color=colour, linewidth=1.8)
            ax.plot([dose], [mean], "o", color=colour, markersize=5)
        tidy(ax)
        ax.set_title(outcome, fontsize=9, loc="left", color=INK)
        ax.set_xlabel(results.trial.dose_is, fontsize=8)
        ax.set_ylabel("difference (%)", fontsize=8)
    figure.suptitle(
        f"{curve}: difference to the reference at each dose, mean of the pairs and 95 % interval",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def figure_course(results: Results, patterns: tuple[str, ...]) -> Figure:
    """A series over time: one panel for each group of arms, mean and 95 % band over replicates."""
    trial, by_arm = results.trial, results.courses[patterns]
    groups = [(t, [a for a in arms if a.name in by_arm]) for t, arms in groups_of(trial)]
    groups = [(title, arms) for title, arms in groups if arms]
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(3.6 * columns + 0.6, 2.9 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for ax in grid[len(groups) :]:
        ax.set_axis_off()
    scale = TimeScale.of([trial.until])
    for ax, (title, arms) in zip(grid, groups, strict=False):
        tidy(ax)
        references = {a.reference for a in arms}
        colours = iter(PALETTE * (1 + len(arms) // len(PALETTE)))
        for arm in arms:
            colour = INK if arm.name in references else next(colours)
            _band(ax, by_arm[arm.name], scale, colour, arm.name)
        if trial.treated_from > 0:
            ax.axvline(
                float(scale(trial.treated_from)), color=MUTED, linewidth=0.8, linestyle=(0, (3, 2))
            )
        ax.set_title(title, fontsize=9, loc="left", color=INK)
        ax.legend(fontsize=7, frameon=False)
        ax.tick_params(labelbottom=True)
    name = " + ".join(patterns)
    note = "; dashed: treatment begins" if trial.treated_from > 0 else ""
    figure.suptitle(
        f"{name}: mean over replicates and 95 % interval (band){note}",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    figure.supxlabel(scale.label, fontsize=9)
    figure.supylabel(unit_of(results, patterns), fontsize=9)
    return figure


def unit_of(results: Results, patterns: tuple[str, ...]) -> str:
    """The unit of a course."""
    unit = matching(
        patterns, results.trial.units, "trial.courses", lambda _, problem: InputError(problem)
    )
    return unit.replace("^3", "³").replace("^2", "²").replace("um", "µm")


def _band(ax: Axes, course, scale: TimeScale, colour: str, label: str) -> None:
    time, values = scale(course.time), course.values
    mean = values.mean(axis=0)
    ax.plot(time, mean, color=colour, linewidth=1.4, label=label)
    n = len(values)
    if n > 1:
        half = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
        ax.fill_between(time, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)


def figure_slices(results: Results) -> Figure | None:
    """The middle plane of the first finished replicate of each arm at the end."""
    found: list[tuple[str, RunFile]] = []
    for arm in results.trial.arms[:MOST_SLICES]:
        record = next(
            (r for r in results.records if r.arm == arm.name and r.status == "done"), None
        )
        if record is not None:
            run = RunFile.open(results.place.run(arm, record.replicate))
            if run.times and {"cells", "bone"} & set(run.arrays):
                found.append((arm.name, run))
    if not found:
        return None
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    figure = new_figure(2.6 * columns + 1.8, 2.9 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    seen: dict[str, str] = {}
    for ax in grid:
        ax.set_axis_off()
    for ax, (name, run) in zip(grid, found, strict=False):
        model = results.trial.arm(name).model
        colours = state_colours(run.states, {s.name: s.color for s in model.states})
        snapshot = run.snapshot(-1)
        plane = planes_of(next(iter(snapshot.values())).shape)[-1]
        image = composite(snapshot, plane, run.states, colours)
        if "cells" in snapshot:
            present = np.unique(cut(snapshot["cells"], plane))
            seen |= {run.states[c]: colours[run.states[c]] for c in present if c}
        height, width = (n * (run.voxel_um or 1.0) for n in image.shape[:2])
        extent = (0, width, 0, height)
        ax.imshow(image, origin="lower", extent=extent, interpolation="nearest")
        ax.set_title(name, fontsize=9, loc="left", color=INK)
        scale_bar(ax, width)
    arrays = {name for _, run in found for name in run.arrays}
    matrix = (("bone", BONE_GREY, "mineralised bone"), ("osteoid", OSTEOID_TAN, "osteoid"))
    entries = [
        *(Patch(facecolor=c, edgecolor=MUTED, label=n) for a, c, n in matrix if a in arrays),
        *(Patch(facecolor=c, edgecolor=MUTED, label=s) for s, c in seen.items()),
    ]
    figure.legend(handles=entries, loc="outside right upper", fontsize=7, frameon=False)
    what = "Bone and cells" if "bone" in arrays else "Cells"
    title = f"{what} in the middle plane at the end, first replicate of each arm"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure
