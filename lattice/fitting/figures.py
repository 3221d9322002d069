"""Figures of a fit: data and sampled model, the path of the search, the posterior."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from lattice.analysis.style import INK, MUTED, PALETTE, new_figure, save_png
from lattice.fitting.conduct import Result
from lattice.fitting.structure import Parameter

COLUMNS = 3


def draw_data(result: Result, path: Path) -> Path:
    """Each observable over time: measured, and the sampled model at the estimate."""
    problem = result.problem
    rows = -(-len(problem.observables) // COLUMNS)
    figure = new_figure(4.2 * min(COLUMNS, len(problem.observables)), 3.2 * rows)
    mean, sd = result.sampled.mean(axis=0), result.sampled.std(axis=0, ddof=1)
    noise = np.sqrt(np.diag(result.fitted.total))
    for index, observable in enumerate(problem.observables):
        axes = figure.add_subplot(rows, min(COLUMNS, len(problem.observables)), index + 1)
        for c, condition in enumerate(problem.conditions):
            places = [
                i for i, d in enumerate(problem.data) if d.observable == index and d.condition == c
            ]
            if not places:
                continue
            places.sort(key=lambda i: problem.data[i].hours)
            days = np.array([problem.data[i].hours / 24 for i in places])
            back = np.exp if observable.log else np.asarray
            name = f"{condition.name}, " if condition.name else ""
            color = PALETTE[c % len(PALETTE)]
            low, high = back(mean[places] - sd[places]), back(mean[places] + sd[places])
            _draw_course(axes, days, back(mean[places]), low, high, color, f"{name}sampled model")
            centre = problem.measured[places]
            bars = [
                back(centre) - back(centre - noise[places]),
                back(centre + noise[places]) - back(centre),
            ]
            axes.errorbar(days, back(centre), bars, fmt="o", color=color, ms=4, label=f"{name}data")
        axes.set_xlabel("time (days)")
        axes.set_ylabel(
            f"{observable.name} ({observable.unit})" if observable.unit else observable.name
        )
        if observable.log:
            axes.set_yscale("log")
        if index == 0:
            axes.legend(fontsize=7, frameon=False)
    return save_png(figure, path)


def _draw_course(axes: Axes, days, mean, low, high, color: str, label: str) -> None:
    """The sampled model over time; beside the datum where there is one time alone."""
    if len(days) > 1:
        axes.fill_between(days, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(days, mean, color=color, label=label)
        return
    bars = [mean - low, high - mean]
    axes.errorbar(days + 0.3, mean, bars, fmt="s", color=color, mfc="white", ms=5, label=label)
    axes.set_xlim(days[0] - 1, days[0] + 1)


def draw_path(result: Result, path: Path) -> Path:
    """Each parameter over the iterations, and its estimate with the 95 % interval."""
    from lattice.fitting.result import interval

    parameters = result.problem.parameters
    rows = -(-len(parameters) // COLUMNS)
    figure = new_figure(4.2 * min(COLUMNS, len(parameters)), 2.6 * rows)
    count = len(result.iterations)
    for i, parameter in enumerate(parameters):
        axes = figure.add_subplot(rows, min(COLUMNS, len(parameters)), i + 1)
        walked = [parameter.written(iteration.u[i]) for iteration in result.iterations]
        axes.plot(range(count), walked, "o-", color=MUTED, ms=3, label="search")
        low, high = interval(result, i)
        estimate = parameter.written(result.fitted.u[i])
        axes.errorbar(
            [count], [estimate], [[max(0.0, estimate - low)], [max(0.0, high - estimate)]],
            fmt="s", color=PALETTE[0], label="estimate, 95 %",
        )  # fmt: skip
        axes.set_title(parameter.name, fontsize=9, color=INK)
        axes.set_ylabel(_unit(parameter))
        axes.set_xlabel("iteration")
        if i == 0:
            axes.legend(fontsize=7, frameon=False)
    return save_png(figure, path)


def draw_posterior(result: Result, path: Path) -> Path:
    """The density of each parameter, and the cloud of each pair (a few at most)."""
    assert result.draws is not None
    parameters = result.problem.parameters[:8]
    flat = result.draws.reshape(-1, result.draws.shape[-1])
    size = len(parameters)
    figure = new_figure(1.6 * size + 1.2, 1.6 * size + 1.0)
    some = flat[:: max(1, len(flat) // 800)]
    for row in range(size):
        for column in range(row + 1):
            axes = figure.add_subplot(size, size, row * size + column + 1)
            x = np.vectorize(parameters[column].written)(some[:, column])
            if row == column:
                axes.hist(x, bins=30, color=PALETTE[0])
                axes.set_yticks([])
                axes.set_title(parameters[row].name, fontsize=6)
            else:
                y = np.vectorize(parameters[row].written)(some[:, row])
                axes.plot(x, y, ".", color=INK, ms=1.5, alpha=0.4)
            axes.tick_params(labelsize=5)
            if column == 0 and row:
                axes.set_ylabel(parameters[row].name, fontsize=5)
            if row == size - 1:
                axes.set_xlabel(_unit(parameters[column]), fontsize=6)
    return save_png(figure, path)


def draw_profiles(result: Result, path: Path) -> Path:
    """The profile likelihood of each parameter, with the line of 95 %."""
    from scipy.stats import chi2

    rows = -(-len(result.profiles) // COLUMNS)
    figure = new_figure(4.2 * min(COLUMNS, len(result.profiles)), 2.6 * rows)
    for i, (profile, parameter) in enumerate(
        zip(result.profiles, result.problem.parameters, strict=True)
    ):
        axes = figure.add_subplot(rows, min(COLUMNS, len(result.profiles)), i + 1)
        axes.plot([parameter.written(u) for u in profile.u], profile.rise, "o-", color=PALETTE[0])
        axes.axhline(float(chi2.ppf(0.95, 1)), color=MUTED, linestyle="--", label="95 %")
        axes.set_title(profile.name, fontsize=9)
        axes.set_xlabel(_unit(parameter))
        axes.set_ylabel("rise of -2 log likelihood")
    return save_png(figure, path)


def _unit(parameter: Parameter) -> str:
    return parameter.unit or "number"
