"""Figure and page of a screening."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.patches import Patch

from lattice.analysis.page import Page, number
from lattice.analysis.screen_file import Screen
from lattice.analysis.style import INK, PALETTE, new_figure, save_png, tidy

COLOURS = {"+": PALETTE[0], "-": PALETTE[5], "mixed": "#999999", "none": "#dddddd"}
MEANING = {
    "+": "raises the difference",
    "-": "lowers it",
    "mixed": "direction uncertain",
    "none": "no effect",
}
MOST = 20
"""Parameters that a figure shows; the table has all of them."""


def draw(screen: Screen, rows: list[dict], path: Path) -> Path:
    """Bars of mu* (or of total variance shares) with intervals, coloured by sign."""
    leading = "mu_star" if screen.method == "morris" else "total"
    shown = min(len(screen.ranges), MOST)
    wide = len(screen.outcomes)
    figure = new_figure(1.5 + 5.0 * wide, 1.3 + 0.3 * shown)
    for column, outcome in enumerate(screen.outcomes):
        ax = figure.add_subplot(1, wide, column + 1)
        chosen = [r for r in rows if r["outcome"] == outcome][:shown][::-1]
        places = np.arange(len(chosen))
        widths = [r[leading] for r in chosen]
        errors = [r[f"{leading}_conf"] for r in chosen]
        ax.barh(places, widths, color=[COLOURS[r["sign"]] for r in chosen], height=0.7)
        ax.errorbar(widths, places, xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        ax.set_yticks(places, [r["parameter"] for r in chosen])
        ax.set_xlim(left=0)
        if not any(widths):
            ax.set_xlim(0, 1)
        tidy(ax)
        ax.grid(visible=False, axis="y")
        ax.grid(axis="x", color="#e6e6e6", linewidth=0.6)
        ax.set_title(f"{outcome}, treated − reference", fontsize=9, color=INK)
        ax.set_xlabel(_axis(screen, screen.units[column]), fontsize=8)
    signs = [s for s in COLOURS if any(r["sign"] == s for r in rows)]
    handles = [Patch(color=COLOURS[s], label=MEANING[s]) for s in signs]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        title="a larger value of the parameter …",
        title_fontsize=8,
    )
    return save_png(figure, path)


def _axis(screen: Screen, unit: str) -> str:
    if screen.method == "sobol":
        return "share of the variance, interactions included (S_T)"
    return f"mean absolute effect of the whole range (mu*), {unit}"


def page(screen: Screen, rows: list[dict], differences, picture: Path) -> str:
    """The HTML of a screening: figure, table, ranges, arms."""
    html = Page(f"Screening: {screen.name}")
    html.section("")
    points = len(differences)
    html.paragraph(
        f"{points} design points of the {screen.method} method, {screen.replicates} pairs of runs "
        f"at each; the arms of a pair share their seed. The outcome is treated minus reference.",
        "summary",
    )
    for column, outcome in enumerate(screen.outcomes):
        y = differences[:, column]
        spread = f"median {np.median(y):.4g}, from {y.min():.4g} to {y.max():.4g}"
        html.paragraph(
            f"{outcome}: the difference is positive at {np.mean(y > 0):.0%} of the design points; "
            f"{spread} {screen.units[column]}."
        )
    html.section("Which parameters decide")
    html.picture(
        picture,
        "Bars: how much the difference between the arms changes with a parameter, with 95 % "
        "intervals of the design; colours: in which direction.",
    )
    head = [c for c in rows[0] if c not in ("parameter", "outcome")]
    names = {"positive_low": "positive, lower half", "positive_high": "positive, upper half"}
    table = [
        [r["parameter"], r["outcome"]]
        + [number(r[c]) if isinstance(r[c], float) else r[c] for c in head]
        for r in rows
    ]
    html.table(["parameter", "outcome", *(str(names.get(c, c)) for c in head)], table)
    html.section("Ranges and arms")
    sources = {p.name: p for p in screen.reference.parameters}
    html.table(
        ["parameter", "range", "scale", "in the model", "label", "source"],
        [
            [r.name, r.written, r.scale, p.written, p.label, p.source]
            for r in screen.ranges
            for p in [sources[r.name]]
        ],
    )
    unlike = [
        [p.name, p.written, q.written]
        for p in screen.reference.parameters
        if (q := {t.name: t for t in screen.treated.parameters}.get(p.name)) is not None
        and p.value != q.value
    ]
    html.table(["number that the arms have unlike", "reference", "treated"], unlike)
    return html.html()
