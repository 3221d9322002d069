"""Figures of how counts, bone and cytokines change over a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from lattice.analysis.series import Series
from lattice.analysis.style import INK, MUTED, PALETTE, TimeScale, new_figure, tidy
from lattice.model.structure import EMPTY, Intervention, Model

BAND = "#f0c987"
COLUMNS = 4


@dataclass(frozen=True)
class Mark:
    """When an intervention acts: at moments, or in a window (start, stop); hours."""

    name: str
    moments: tuple[float, ...] = ()
    window: tuple[float, float] | None = None


def intervention_marks(model: Model, until_h: float) -> list[Mark]:
    """The interventions of a model that begin before `until_h` and change something, in the order
    of their names."""
    marks, values = [], model.values
    for intervention in model.interventions:
        if not _changes_something(intervention, values):
            continue
        schedule = intervention.schedule
        start, stop = values[schedule.start], min(values[schedule.stop], until_h)
        if schedule.at:
            moments = [values[name] for name in schedule.at]
        elif schedule.every is not None:
            moments = np.arange(start, stop, values[schedule.every]).tolist()
        else:
            moments = [start]
        moments = tuple(t for t in moments if t <= until_h)
        if intervention.kind != "kill" and not schedule.at and schedule.every is None:
            if start <= until_h:
                marks.append(Mark(intervention.name, window=(start, stop)))
        elif moments:
            marks.append(Mark(intervention.name, moments))
    return marks


def _changes_something(intervention: Intervention, values: Mapping[str, float]) -> bool:
    """Whether it kills, scales or adds anything: those of a trial wait in the model with numbers
    that do nothing."""
    if intervention.fraction is not None:
        return values[intervention.fraction] > 0
    if intervention.rate is not None:
        return values[intervention.rate] != 0
    return any(values[factor] != 1 for _, factor in intervention.scales)


def by_lineage(model: Model) -> list[str]:
    """The states, those that turn into one another side by side, origins first.

    A state that three or more others turn into (death, say) belongs to no lineage and comes last.
    """
    names = [s.name for s in model.states if s.name != EMPTY]
    steps = {
        (a, b)
        for rule in model.rules
        for a, b in zip(rule.reactants, rule.products, strict=False)
        if a != b and EMPTY not in (a, b) and rule.kind != "move"
    }
    ends = {n for n in names if len({a for a, b in steps if b == n}) >= 3}
    steps = {(a, b) for a, b in steps if b not in ends}
    origins = [n for n in names if n not in ends and not any(b == n for _, b in steps)]
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in ordered:
            ordered[name] = None
            for target in sorted(b for a, b in steps if a == name):
                visit(target)

    for name in [*origins, *(n for n in names if n not in ends), *sorted(ends)]:
        visit(name)
    return list(ordered)


def draw_marks(ax: Axes, marks: Sequence[Mark], scale: TimeScale) -> None:
    """Vertical lines where an intervention acts at moments, a band where it acts in a window."""
    for mark in marks:
        for moment in mark.moments:
            ax.axvline(
                float(scale(moment)), color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0.5
            )
        if mark.window is not None:
            start, stop = (float(scale(edge)) for edge in mark.window)
            ax.axvspan(start, stop, color=BAND, alpha=0.35, linewidth=0, zorder=0)


def marks_text(marks: Sequence[Mark]) -> str:
    """One line that says what the lines and bands of `draw_marks` mean."""
    moments = [m.name for m in marks if m.moments]
    windows = [m.name for m in marks if m.window is not None]
    parts = []
    if moments:
        parts.append(f"Dashed lines: {', '.join(moments)} acts.")
    if windows:
        parts.append(f"Shaded band: {', '.join(windows)} is on.")
    return " ".join(parts)


def figure_counts(
    series: Mapping[str, Series],
    states: Sequence[str],
    colours: Mapping[str, str],
    marks: Sequence[Mark] = (),
) -> Figure:
    """One panel per cell state, each on its own scale."""
    shown = [series[s] for s in states if s != EMPTY and s in series]
    figure, axes, scale = _panels(shown)
    for ax, one in zip(axes, shown, strict=True):
        draw_marks(ax, marks, scale)
        colour = colours.get(one.name, PALETTE[0])
        ax.plot(scale(one.time), one.values, color=colour, linewidth=1.6)
        ax.set_title(one.name, fontsize=9, loc="left", color=INK)
        first, last = one.values[0], one.values[-1]
        ax.set_title(f"{first:,.0f} → {last:,.0f}", fontsize=8, loc="right", color=MUTED)
        _from_zero(ax, one.values)
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _finish(
        figure, axes, scale, "cells", "Number of cells in each state (each panel: own scale)", marks
    )
    return figure


BONE_PANELS = (
    ("BV/TV", "Bone volume / tissue volume", None),
    ("osteoid", "Osteoid: matrix not yet mineralised", None),
    ("mineral", "Mineralised matrix", None),
    (
        ("matrix.formed", "matrix.resorbed", "matrix.mineralised"),
        "Matrix turned over since the start",
        ("laid down", "resorbed", "mineralised"),
    ),
)


def figure_bone(series: Mapping[str, Series], marks: Sequence[Mark] = ()) -> Figure:
    """BV/TV, osteoid, mineral and the cumulative matrix flux, as far as they are in the series."""
    panels = []
    for names, title, labels in BONE_PANELS:
        present = [n for n in ([names] if isinstance(names, str) else names) if n in series]
        if present:
            panels.append(([series[n] for n in present], title, labels))
    figure, axes, scale = _panels([p[0][0] for p in panels], columns=2, width=4.6, height=2.6)
    for ax, (lines, title, labels) in zip(axes, panels, strict=True):
        draw_marks(ax, marks, scale)
        for i, one in enumerate(lines):
            style = ("-", "--", ":")[i % 3]
            label = labels[i] if labels else None
            ax.plot(
                scale(one.time), one.values, style, color=PALETTE[i], linewidth=1.6, label=label
            )
        ax.set_title(title, fontsize=9, loc="left", color=INK)
        ax.set_ylabel(_unit(lines[0].unit), fontsize=8)
        _plain_numbers(ax)
        if labels:
            ax.legend(fontsize=8, frameon=False)
    _finish(figure, axes, scale, None, "Bone over time", marks)
    return figure


def figure_cytokines(
    series: Mapping[str, Series], cytokines: Sequence[str], marks: Sequence[Mark] = ()
) -> Figure:
    """One panel per cytokine: the mean over the lattice, and the band from minimum to maximum."""
    shown = [c for c in cytokines if f"{c}.mean" in series]
    figure, axes, scale = _panels([series[f"{c}.mean"] for c in shown])
    for i, (ax, name) in enumerate(zip(axes, shown, strict=True)):
        draw_marks(ax, marks, scale)
        mean = series[f"{name}.mean"]
        colour = PALETTE[i % len(PALETTE)]
        ax.plot(scale(mean.time), mean.values, color=colour, linewidth=1.6, label="mean")
        low, high = series.get(f"{name}.min"), series.get(f"{name}.max")
        if high is not None:
            floor = low.values if low is not None else np.zeros_like(high.values)
            ax.fill_between(
                scale(mean.time), floor, high.values, color=colour, alpha=0.2, linewidth=0
            )
            _log_if_wide(ax, mean.values, high.values, floor)
        ax.set_title(name, fontsize=9, loc="left", color=INK)
        ax.set_ylabel(mean.unit, fontsize=8)
    title = (
        "Concentration of each cytokine: mean (line), from the lowest to the highest voxel (band)"
    )
    _finish(figure, axes, scale, None, title, marks)
    return figure


def figure_events(series: Mapping[str, Series]) -> Figure:
    """How often each rule fired in the whole run, on a logarithmic scale."""
    totals = {
        n.removeprefix("events."): s.values[-1]
        for n, s in series.items()
        if n.startswith("events.")
    }
    names = sorted(totals, key=lambda n: totals[n])
    figure = new_figure(9.0, 0.8 + 0.24 * len(names))
    ax = figure.add_subplot()
    values = [totals[n] for n in names]
    ax.barh(names, [max(v, 0.0) for v in values], color=PALETTE[0], height=0.65)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(0, max([10.0, *values]) * 4)
    for i, value in enumerate(values):
        ax.text(value * 1.08 if value else 0.08, i, f"{value:,.0f}", va="center", fontsize=8)
    tidy(ax)
    ax.grid(False)
    ax.set_xlabel("events in the whole run (logarithmic scale)", fontsize=8)
    ax.set_title("How often each rule of the model fired", fontsize=10, loc="left")
    return figure


def _panels(shown: Sequence[Series], columns: int = COLUMNS, width=2.9, height=1.9):
    columns = min(columns, max(1, len(shown)))
    rows = -(-len(shown) // columns)
    figure = new_figure(max(6.0, width * columns), 0.9 + height * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for ax in grid[len(shown) :]:
        ax.set_axis_off()
    axes = list(grid[: len(shown)])
    for i, ax in enumerate(axes):
        tidy(ax)
        if i + columns >= len(shown):
            ax.tick_params(labelbottom=True)
    return figure, axes, TimeScale.of(shown[0].time if shown else [0.0])


def _finish(figure: Figure, axes, scale: TimeScale, ylabel: str | None, title: str, marks) -> None:
    note = marks_text(marks)
    figure.suptitle(f"{title}\n{note}" if note else title, fontsize=10, x=0.01, ha="left")
    figure.supxlabel(scale.label, fontsize=9)
    if ylabel:
        figure.supylabel(ylabel, fontsize=9)


def _unit(unit: str) -> str:
    return {"mm^3": "mm³", "%": "% of tissue volume"}.get(unit, unit)


def _from_zero(ax: Axes, values: np.ndarray) -> None:
    """Shows zero unless the line would be squeezed into the top half of the panel."""
    high, low = np.nanmax(values), np.nanmin(values)
    if high == 0:
        ax.set_ylim(-0.05, 1)
    elif low < 0.5 * high:
        ax.set_ylim(bottom=-0.03 * high)


def _plain_numbers(ax: Axes) -> None:
    formatter = ScalarFormatter(useOffset=False, useMathText=True)
    formatter.set_powerlimits((-3, 4))
    ax.yaxis.set_major_formatter(formatter)
    ax.yaxis.set_major_locator(MaxNLocator(5))


def _log_if_wide(ax: Axes, mean: np.ndarray, high: np.ndarray, low: np.ndarray) -> None:
    """A logarithmic axis where the extremes are more than 30-fold apart."""
    positive = mean[mean > 0]
    if positive.size and np.nanmax(high) > 30 * np.nanmin(positive):
        ax.set_yscale("log")
        floors = low[low > 0]
        lowest = min(np.nanmin(positive), np.nanmin(floors) if floors.size else np.inf)
        ax.set_ylim(max(lowest / 2, np.nanmax(high) * 1e-6), np.nanmax(high) * 2)
    else:
        _plain_numbers(ax)
