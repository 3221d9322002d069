"""What all figures share: fonts, colours, time axes, scale bars, and how a figure is saved.

Figures are `matplotlib.figure.Figure` objects drawn by the Agg backend; pyplot and its global
state are not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

# Colours of Okabe and Ito (2008) and of P. Tol's sets (2021), in an order that keeps neighbours
# apart in lightness as well as in hue.
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#882255",
    "#56B4E9",
    "#D55E00",
    "#332288",
    "#CC79A7",
    "#117733",
    "#DDCC77",
    "#661100",
    "#44AA99",
    "#AA4499",
    "#999933",
    "#EE3377",
    "#000000",
    "#999999",
    "#AA7744",
    "#6699CC",
    "#661177",
)
INK = "#222222"
MUTED = "#6b6b6b"
BONE_GREY = (0.66, 0.66, 0.66)
OSTEOID_TAN = (0.82, 0.70, 0.50)
FIELD_COLOURS = "viridis"
DPI = 130


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that lays itself out."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG and returns its path."""
    with rc_context({"savefig.facecolor": "white"}):
        figure.savefig(path, dpi=DPI)
    return path


def tidy(ax: Axes) -> None:
    """Takes the frame off a plot and makes its texts small and quiet."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(colors=INK, labelsize=8, length=3, color=MUTED)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)


@dataclass(frozen=True)
class TimeScale:
    """How hours are shown on an axis."""

    hours: float
    label: str

    @classmethod
    def of(cls, time_h: Sequence[float] | np.ndarray) -> TimeScale:
        """Minutes, hours, days or weeks, so that the numbers on the axis stay small."""
        span = float(np.max(time_h)) if len(time_h) else 0.0
        for hours, label, least in ((168.0, "week", 12), (24.0, "day", 2), (1.0, "hour", 1.5)):
            if span >= least * hours:
                return cls(hours, f"time ({label}s)")
        return cls(1 / 60, "time (minutes)")

    def __call__(self, time_h: float | np.ndarray) -> float | np.ndarray:
        return time_h / self.hours

    def text(self, time_h: float) -> str:
        """A moment in words: "2 days", "1 hour"."""
        value = float(self(time_h))
        unit = self.label.removeprefix("time (").removesuffix(")")
        return f"{value:.4g} {unit.removesuffix('s') if value == 1 else unit}"


def state_colours(
    states: Sequence[str], given: dict[str, str | None] | None = None
) -> dict[str, str]:
    """A colour for every state but "empty": the one its model gives it, else one of the palette."""
    given = given or {}
    taken = {c.lower() for c in given.values() if c}
    free = [c for c in PALETTE if c.lower() not in taken] or list(PALETTE)
    colours: dict[str, str] = {}
    for name in states:
        if name == "empty":
            continue
        colours[name] = (
            given.get(name) or free[sum(1 for other in colours if not given.get(other)) % len(free)]
        )
    return colours


def scale_bar(ax: Axes, extent_um: float, colour: str = INK) -> None:
    """A bar of a round length in the lower right corner of axes whose units are um."""
    length = round_length(extent_um / 4)
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    margin, height = 0.04 * (x1 - x0), 0.012 * (y1 - y0)
    ax.add_patch(
        Rectangle(
            (x1 - margin - length - 0.4 * margin, y0 + 0.5 * margin),
            length + 0.8 * margin,
            8.5 * height,
            facecolor="white",
            alpha=0.75,
            edgecolor="none",
            zorder=5,
        )
    )
    ax.add_patch(
        Rectangle((x1 - margin - length, y0 + margin), length, height, color=colour, zorder=6)
    )
    ax.text(
        x1 - margin - length / 2,
        y0 + margin + 1.5 * height,
        f"{length:g} µm",
        ha="center",
        va="bottom",
        color=colour,
        fontproperties=FontProperties(size=8),
        zorder=6,
    )


def round_length(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not longer."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(f for f in (1, 2, 5) if f * power <= length * (1 + 1e-9)) * power)
