"""Figures of benchmark records; each is None where no record is there for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from benchmarks.record import Record
from lattice.analysis.style import INK, MUTED, PALETTE, new_figure, tidy

MARKERS = "osD^vPX*<>"


def cube(record: Record) -> str:
    """The lattice in words."""
    z, y, x = record.size
    return f"{x}³" if x == y == z else f"{x} × {y} × {z}"


def grouped(records: Iterable[Record], key: Callable[[Record], object]) -> dict:
    """Records by something, in the order in which it first occurs."""
    groups: dict = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def panels(count: int, width: float = 4.4, height: float = 3.7) -> tuple[Figure, list[Axes]]:
    """A row of plots."""
    figure = new_figure(width * count + 0.6, height)
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for ax in axes:
        tidy(ax)
    return figure, axes


def headed(ax: Axes, title: str, x: str, y: str) -> None:
    """Title and axes in words."""
    ax.set_title(title, fontsize=9, loc="left", color=INK)
    ax.set_xlabel(x, fontsize=8)
    ax.set_ylabel(y, fontsize=8)


def lines(ax: Axes, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """A line with markers for each curve, in the order of its points, with a legend."""
    for number, (label, points) in enumerate(curves.items()):
        xs, ys = zip(*points, strict=True)
        colour = PALETTE[number % len(PALETTE)]
        marker = MARKERS[number % len(MARKERS)]
        ax.plot(xs, ys, marker=marker, color=colour, markersize=5, linewidth=1.2, label=label)
    ax.tick_params(which="minor", labelsize=7, colors=INK, color=MUTED)
    ax.legend(fontsize=7, frameon=False)


def whole_ticks(ax: Axes, values: Iterable[float]) -> None:
    """Ticks of the x axis at what was measured."""
    ax.xaxis.set_major_locator(FixedLocator(sorted(set(values))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())


def work_precision(records: Sequence[Record]) -> Figure | None:
    """Seconds for a simulated day against the error, method by method."""
    cases = ("field-accuracy", "field-accuracy-bone")
    measured = [
        r for r in records if r.case in cases and r.error_l2 and r.seconds_per_simulated_day
    ]
    if not measured:
        return None
    groups = grouped(measured, lambda r: (r.case, r.size, r.parameters.get("seed")))
    figure, axes = panels(len(groups), 5.2, 4.6)
    for ax, ((case, _, seed), found) in zip(axes, groups.items(), strict=True):
        curves = {
            name: [(r.seconds_per_simulated_day, r.error_l2) for r in sorted(part, key=_step)]
            for name, part in grouped(found, _method_name).items()
        }
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.axhline(1e-3, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
        lines(ax, curves)
        medium = "bone and marrow" if case.endswith("bone") else "the same diffusion everywhere"
        drawn = "" if seed is None else f", coefficients of seed {seed}"
        species = found[0].parameters.get("species", "?")
        title = f"{medium}, {cube(found[0])}, {species} species{drawn}"
        headed(ax, title, "seconds for a simulated day", "largest relative L2 error at an output")
    return figure


def _method_name(record: Record) -> str:
    double = " (float64)" if record.precision == "float64" else ""
    return record.method + double


def _step(record: Record) -> float:
    """Minutes of a step: the order along a line, which noise in the times does not change."""
    return record.parameters.get("step_minutes", 0.0)


def copy_shares(records: Sequence[Record]) -> Figure | None:
    """Bytes that have to move per second, as a part of what a copy reaches."""
    measured = [r for r in records if r.copy_fraction is not None and r.case != "copy"]
    if not measured:
        return None
    figure = new_figure(7.2, 0.9 + 0.27 * len(measured))
    ax = figure.subplots()
    tidy(ax)
    places = range(len(measured))
    shares = [100 * (r.copy_fraction or 0) for r in measured]
    ax.barh(places, shares, color=PALETTE[0], height=0.7)
    for place, share in zip(places, shares, strict=True):
        ax.text(share + 1, place, f"{share:.3g}", va="center", fontsize=7, color=INK)
    ax.set_yticks(places, [f"{r.case}: {r.method}, {cube(r)}" for r in measured], fontsize=7)
    ax.invert_yaxis()
    ax.axvline(100, color=INK, linewidth=0.8)
    ax.set_xlim(0, max(115, *(s + 12 for s in shares)))
    ax.grid(axis="y", visible=False)
    headed(ax, "Bandwidth reached", "% of a copy of as many bytes in the same process", "")
    return figure


def scaling(records: Sequence[Record]) -> Figure | None:
    """Strong and weak scaling over devices."""
    measured = [r for r in records if r.case == "scaling" and r.median_s]
    kinds = grouped(measured, lambda r: r.method)
    if not kinds:
        return None
    figure, axes = panels(len(kinds))
    for ax, (kind, found) in zip(axes, kinds.items(), strict=True):
        points = sorted((r.parameters["devices"], r.median_s) for r in found)
        counts, first = [n for n, _ in points], points[0]
        ideal = [first[1] * first[0] / n if kind == "strong" else first[1] for n in counts]
        ax.set_xscale("log", base=2)
        ax.plot(counts, ideal, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), label="ideal")
        lines(ax, {"measured": points})
        whole_ticks(ax, counts)
        ax.set_ylim(0, 1.25 * max(t for _, t in points))
        same = "the same lattice" if kind == "strong" else "planes in proportion to devices"
        headed(ax, f"{kind} scaling: {same}", "devices (a core each)", "seconds for a whole step")
    return figure


def cells(records: Sequence[Record]) -> Figure | None:
    """The time of a step without fields by occupancy."""
    measured = [r for r in records if r.case == "cells" and r.median_s]
    sizes = grouped(measured, lambda r: r.size)
    if not sizes:
        return None
    figure, axes = panels(len(sizes))
    for ax, found in zip(axes, sizes.values(), strict=True):
        found.sort(key=lambda r: r.parameters["occupied"])
        curves = {
            name: [(100 * r.parameters["occupied"], 1e3 * (r.median_s or 0)) for r in part]
            for name, part in grouped(found, lambda r: r.method).items()
        }
        ax.set_xscale("log")
        ax.set_yscale("log")
        lines(ax, curves)
        whole_ticks(ax, (x for points in curves.values() for x, _ in points))
        title = f"cells without fields, {cube(found[0])}"
        headed(ax, title, "voxels that hold a cell (%)", "milliseconds for a step")
    return figure


def sizes(records: Sequence[Record]) -> Figure | None:
    """What a voxel costs by the size of the lattice."""
    measured = [r for r in records if r.case == "whole-step" and r.median_s]
    if len({r.size for r in measured}) < 2:
        return None
    figure, (ax,) = panels(1)
    ax.set_xscale("log", base=2)
    points = sorted((r.size[2], 1e9 * (r.median_s or 0) / r.voxels) for r in measured)
    lines(ax, {"whole step": points})
    ax.set_ylim(0, 1.2 * max(y for _, y in points))
    whole_ticks(ax, (r.size[2] for r in measured))
    headed(ax, "whole step by size", "voxels along each edge", "nanoseconds for a voxel and step")
    return figure


def solver(records: Sequence[Record]) -> Figure | None:
    """The error of the linear solve by iterations and contrast."""
    measured = [r for r in records if r.case == "solve" and r.error_l2]
    groups = grouped(measured, lambda r: r.size)
    if not groups:
        return None
    figure, axes = panels(len(groups))
    for ax, found in zip(axes, groups.values(), strict=True):
        found.sort(key=lambda r: r.method)
        curves = {
            f"contrast {contrast:g}": [(int(r.method.split()[0]), r.error_l2) for r in part]
            for contrast, part in grouped(found, lambda r: r.parameters["contrast"]).items()
        }
        ax.set_yscale("log")
        lines(ax, curves)
        whole_ticks(ax, (x for points in curves.values() for x, _ in points))
        title = f"linear solve, sources just switched on, {cube(found[0])}"
        headed(ax, title, "iterations of conjugate gradients", "relative L2 error, worst species")
    return figure


FIGURES: dict[str, tuple[Callable[[Sequence[Record]], Figure | None], str]] = {
    "work_precision": (
        work_precision,
        "Work against precision: lower and further left is better. Each marker is a length of "
        "step; the dashed line is an error of 0.1 %. Sources move during the run. Explicit "
        "methods are extrapolated from half a minute.",
    ),
    "copy_shares": (
        copy_shares,
        "Bytes that a kernel has to read and write per second, in per cent of the bandwidth of a "
        "copy: 100 is the limit of the memory bus. The whole step counts its state once, though "
        "the solver reads it many times.",
    ),
    "scaling": (
        scaling,
        "The whole step on several devices, each of which is a core of one machine.",
    ),
    "cells": (
        cells,
        "Contacts, movement and transitions of cells: in lists of the occupied voxels (sparse) "
        "and over all voxels (dense).",
    ),
    "sizes": (sizes, "A flat line means that the cost of a voxel does not grow with the lattice."),
    "solver": (
        solver,
        "Conjugate gradients with one multigrid cycle as a preconditioner, a step of half an hour "
        "from an empty domain; contrast: diffusion in marrow over that in bone.",
    ),
}
"""Name of the file -> what draws it, and what it shows in words."""
