"""What the data tell about each parameter: Fisher information, verdicts, profiles, checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import chi2

from lattice.fitting import likelihood
from lattice.fitting.search import Fitted, minimise
from lattice.fitting.structure import Problem
from lattice.fitting.surrogate import Surrogate
from lattice.inference.gradient import STEP

WELL, WEAKLY = 0.25, 1.0
"""Standard deviations on the scale below which a parameter is identified, or weakly."""

PROFILE_POINTS = 7
"""Points of a profile, from -3 to 3 standard deviations."""

MORE_PRECISE = 5.0
"""An entry of the sampled Jacobian counts for the check if it is so many standard errors large."""


RunsAt = Callable[[str, Float[np.ndarray, "P"]], Float[np.ndarray, "N M"]]
"""Sampled runs at a point, kept under a name; the same seeds each time."""


@dataclass(frozen=True)
class Information:
    """Fisher information [P, P] of the data and the priors, and what follows from it.

    `errors` are standard deviations on the scale of the fit; `eigenvalues` are sorted upward."""

    fisher: Float[np.ndarray, "P P"]
    covariance: Float[np.ndarray, "P P"]
    correlation: Float[np.ndarray, "P P"]
    errors: Float[np.ndarray, "P"]
    eigenvalues: Float[np.ndarray, "P"]
    weakest: Float[np.ndarray, "P"]
    verdicts: tuple[str, ...]


def information(problem: Problem, surrogate: Surrogate, fitted: Fitted) -> Information:
    """J^T Sigma^-1 J of the relaxation with offset at the estimate."""
    whiten = likelihood.Whitening(fitted.total)
    _, derivative = surrogate.with_jacobian(fitted.u)
    slope = whiten(fitted.offset.factor[:, None] * derivative)
    fisher = slope.T @ slope
    _, slopes = likelihood.prior_residuals(problem, fitted.u)
    with_prior = fisher + slopes.T @ slopes
    values, vectors = np.linalg.eigh(with_prior)
    # A direction without information has no variance: the bounds are all that is known of it.
    widths = np.subtract(*reversed(problem.bounds))
    floor = 1.0 / np.max(widths) ** 2
    covariance = (vectors / np.maximum(values, floor)) @ vectors.T
    errors = np.sqrt(np.diag(covariance))
    verdicts = []
    for parameter, u, error, width in zip(
        problem.parameters, fitted.u, errors, widths, strict=True
    ):
        relative = error if parameter.scale != "lin" else error / max(abs(u), 1e-300)
        low, high = parameter.scaled(parameter.low), parameter.scaled(parameter.high)
        if error > 0.5 * width or relative > WEAKLY:
            verdict = "not identified"
        elif relative > WELL:
            verdict = "weakly identified"
        else:
            verdict = "identified"
        at_bound = min(u - low, high - u) < 1e-3 * (high - low)
        verdicts.append(f"{verdict}, at a bound" if at_bound else verdict)
    return Information(
        fisher, covariance, covariance / np.outer(errors, errors), errors,
        np.linalg.eigvalsh(fisher), vectors[:, 0], tuple(verdicts),
    )  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """Twice the negative log likelihood above its least, the parameter held at `u`."""

    name: str
    u: Float[np.ndarray, "K"]
    rise: Float[np.ndarray, "K"]
    interval: tuple[float, float]


def profiles(
    problem: Problem, surrogate: Surrogate, fitted: Fitted, known: Information,
    tell: Callable[[str], None],
) -> list[Profile]:  # fmt: skip
    """The profile likelihood of every parameter on the surrogate with offset, others searched anew.

    The interval is where it rises by less than the 95 % point of chi-square with one degree."""
    found = []
    limit = float(chi2.ppf(0.95, 1))
    for index, parameter in enumerate(problem.parameters):
        width = 3 * known.errors[index]
        low, high = (bound[index] for bound in problem.bounds)
        grid = np.clip(fitted.u[index] + np.linspace(-width, width, PROFILE_POINTS), low, high)
        rise, u = [], fitted.u
        for value in grid:
            begin = np.array(u)
            begin[index] = value
            u, objective = minimise(
                problem, surrogate, fitted.offset, fitted.total, begin, fixed=index
            )
            rise.append(objective - fitted.objective)
        rise_above = np.array(rise) - min(0.0, *rise)
        inside = np.interp(np.linspace(0, 1, 400), np.linspace(0, 1, len(grid)), rise_above)
        fine = np.interp(np.linspace(0, 1, 400), np.linspace(0, 1, len(grid)), grid)
        kept = fine[inside <= limit]
        found.append(Profile(parameter.name, grid, rise_above, (kept.min(), kept.max())))
        tell(f"profile {index + 1} of {len(problem.parameters)}: {parameter.name}")
    return found


def coupled_jacobian(
    problem: Problem, u: np.ndarray, runs_at: RunsAt
) -> tuple[Float[np.ndarray, "M P"], Float[np.ndarray, "M P"]]:  # fmt: skip
    """Derivative of the sampled model, and its standard error. `runs_at(name, u)` gives runs of the
    same seeds at any u. Parameters on a linear scale are stepped relative to their size."""
    columns, errors = [], []
    low, high = problem.bounds
    for index, parameter in enumerate(problem.parameters):
        size = STEP if parameter.scale != "lin" else STEP * (abs(u[index]) or 1.0)
        up, down = np.array(u, float), np.array(u, float)
        up[index], down[index] = (
            min(u[index] + size, high[index]), max(u[index] - size, low[index]),
        )  # fmt: skip
        difference = runs_at(f"{index}-up", up) - runs_at(f"{index}-down", down)
        slopes = difference / (up[index] - down[index])
        columns.append(slopes.mean(axis=0))
        errors.append(slopes.std(axis=0, ddof=1) / np.sqrt(len(slopes)))
    return np.stack(columns, axis=1), np.stack(errors, axis=1)


@dataclass(frozen=True)
class GradientCheck:
    """The relaxation's gradient with offset against coupled sampled runs, for each parameter.

    `cosine` over the entries that sampled runs tell precisely, weighted by the noise of the data;
    `reliable`: at least 0.95 and no wrong sign; None where no entry is precise enough."""

    cosine: Float[np.ndarray, "P"]
    wrong_signs: tuple[int, ...]
    reliable: tuple[bool | None, ...]


def check_gradient(
    problem: Problem, surrogate: Surrogate, fitted: Fitted, runs_at: RunsAt
) -> GradientCheck:  # fmt: skip
    """Compare at the estimate (acceptance A5)."""
    sampled, error = coupled_jacobian(problem, fitted.u, runs_at)
    _, derivative = surrogate.with_jacobian(fitted.u)
    relaxed = fitted.offset.factor[:, None] * derivative
    weight = 1 / np.sqrt(np.diag(fitted.total))
    cosines, wrong, reliable = [], [], []
    for column in range(len(problem.parameters)):
        large = np.abs(sampled[:, column]) > MORE_PRECISE * error[:, column]
        a, b = (m[large, column] * weight[large] for m in (sampled, relaxed))
        size = np.linalg.norm(a) * np.linalg.norm(b)
        cosines.append(float(a @ b / size) if size > 0 else np.nan)
        wrong.append(int(np.sum(a * b < 0)))
        good = cosines[-1] >= 0.95 and wrong[-1] == 0
        reliable.append(good if len(a) and size > 0 else None)
    return GradientCheck(np.array(cosines), tuple(wrong), tuple(reliable))
