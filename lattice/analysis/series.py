"""Time series of a run, one object each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lattice.analysis.style import TimeScale, new_figure
from lattice.io.runfile import RunFile


@dataclass(frozen=True)
class Series:
    """One quantity over time: `time` in hours, `values` in `unit`."""

    name: str
    time: Shaped[np.ndarray, "T"]
    values: Shaped[np.ndarray, "T"]
    unit: str

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draws the series into `ax`, or into a figure of its own, and returns the figure."""
        if ax is None:
            figure = new_figure(6.0, 3.4)
            ax = figure.add_subplot()
        scale = TimeScale.of(self.time)
        ax.plot(scale(self.time), self.values)
        ax.set_xlabel(scale.label)
        ax.set_ylabel(f"{self.name} ({self.unit})")
        figure = ax.get_figure(root=True)
        assert figure is not None
        return figure

    def __len__(self) -> int:
        return len(self.time)


def series_of(run: RunFile) -> dict[str, Series]:
    """All time series of a run by name."""
    return {
        name: Series(name, run.series_time, values, unit)
        for name, (values, unit) in run.series.items()
    }
