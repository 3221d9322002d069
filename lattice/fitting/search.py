"""The search: a relaxation with the offset that sampled runs show, in a shrinking trust region.

At theta_k, n fresh sampled runs give F_k, the relaxation S(theta_k); with r = F_k / S(theta_k) the
next theta minimises the distance of r S(theta) from the data. Offsets of the later iterations are
pooled at the end: they differ by the noise of their runs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from lattice.fitting import likelihood
from lattice.fitting.structure import Problem
from lattice.fitting.surrogate import Surrogate

SHRINK = 0.8
"""Each trust region is this much of the one before."""

SEARCHES = 25
"""Evaluations of one search at most."""


@dataclass(frozen=True)
class Iteration:
    """Sampled runs [N, M] at u [P], and what the search made of them."""

    u: Float[np.ndarray, "P"]
    sampled: Float[np.ndarray, "N M"]
    surrogate: Float[np.ndarray, "M"]


@dataclass(frozen=True)
class Offset:
    """Takes the surrogate to the sampled model; `error` is the covariance of the taken mean."""

    factor: Float[np.ndarray, "M"]
    shift: Float[np.ndarray, "M"]
    error: Float[np.ndarray, "M M"]

    def __call__(self, surrogate: np.ndarray) -> np.ndarray:
        return self.factor * surrogate + self.shift


@dataclass(frozen=True)
class Fitted:
    """The estimate [P] on the scale of the fit, with all that inference about it needs.

    `total`: covariance of the data about the truth plus that of the offset; `objective`: twice the
    negative log posterior of the surrogate with offset, up to a constant."""

    u: Float[np.ndarray, "P"]
    offset: Offset
    run: Float[np.ndarray, "M M"]
    total: Float[np.ndarray, "M M"]
    objective: float


def minimise(
    problem: Problem,
    surrogate: Surrogate,
    offset: Offset,
    total: Float[np.ndarray, "M M"],
    start: Float[np.ndarray, "P"],
    radius: float | None = None,
    fixed: int | None = None,
) -> tuple[Float[np.ndarray, "P"], float]:
    """Least squares of whitened residuals and priors: where, and how low.

    Within `radius` of the start on every axis, and always within bounds; `fixed`: this parameter
    stays where it starts."""
    whiten = likelihood.Whitening(total)
    free = np.array([i for i in range(len(start)) if i != fixed])
    low, high = (bound[free] for bound in problem.bounds)
    if radius is not None:
        low, high = np.maximum(low, start[free] - radius), np.minimum(high, start[free] + radius)

    def whole(v):
        u = np.array(start, float)
        u[free] = v
        return u

    def residuals(v):
        u = whole(v)
        prior, _ = likelihood.prior_residuals(problem, u)
        return np.concatenate([whiten(offset(surrogate(u)) - problem.measured), prior])

    def jacobian(v):
        u = whole(v)
        _, derivative = surrogate.with_jacobian(u)
        _, slopes = likelihood.prior_residuals(problem, u)
        return np.concatenate([whiten(offset.factor[:, None] * derivative), slopes])[:, free]

    if not len(free):
        return start, float(np.sum(residuals(start[free]) ** 2))
    # Just inside: the algorithm wants a start strictly within its bounds.
    inside = np.clip(start[free], low + 1e-6 * (high - low), high - 1e-6 * (high - low))
    found = least_squares(
        residuals,
        inside,
        jacobian,  # pyright: ignore[reportArgumentType]
        bounds=(low, high),
        xtol=1e-4,
        ftol=1e-5,
        max_nfev=SEARCHES,
    )
    return whole(found.x), 2 * float(found.cost)


def starts_of(problem: Problem) -> list[Float[np.ndarray, "P"]]:
    """The first start, and others about it."""
    generator = np.random.default_rng([problem.settings.seed, 1])
    low, high = problem.bounds
    first, found = problem.start, [problem.start]
    scale = scales_of(problem)
    for _ in range(problem.settings.starts - 1):
        step = problem.settings.spread * scale * generator.uniform(-1, 1, len(first))
        found.append(np.clip(first + step, low, high))
    return found


def scales_of(problem: Problem) -> Float[np.ndarray, "P"]:
    """What a step of 1 means: 1 in a logarithm, the size of the start on a linear scale."""
    return np.array([1.0 if p.scale != "lin" else abs(p.start) or 1.0 for p in problem.parameters])


def offset_at(problem: Problem, iterations: list[Iteration], run: np.ndarray) -> Offset:
    """The offset that some iterations show together."""
    log = likelihood.is_log(problem)
    parts = [likelihood.offset_of(i.sampled.mean(axis=0), i.surrogate, log) for i in iterations]
    factor = np.mean([f for f, _ in parts], axis=0)
    shift = np.mean([s for _, s in parts], axis=0)
    runs = sum(len(i.sampled) for i in iterations)
    return Offset(factor, shift, run / runs)


def pooled(
    problem: Problem, surrogate: Surrogate, iterations: list[Iteration], start: np.ndarray
) -> Fitted:
    """The best point near a start, with the offset of later iterations and the scatter of all."""
    run = likelihood.scatter(problem, [i.sampled for i in iterations])
    offset = offset_at(problem, iterations[len(iterations) // 2 :], run)
    total = likelihood.covariance(problem, run) + offset.error
    u, objective = minimise(problem, surrogate, offset, total, start)
    return Fitted(u, offset, run, total, objective)


def search(
    problem: Problem,
    surrogate: Surrogate,
    runs_at: Callable[[int, Float[np.ndarray, "P"]], Float[np.ndarray, "N M"]],
    tell: Callable[[str], None],
) -> tuple[Fitted, list[Iteration], list[float]]:
    """The estimate, the iterations, and the lowest objective from each start.

    `runs_at(k, u)` gives the sampled runs of iteration k, and may know them already."""
    u, iterations, objectives = problem.start, [], []
    for k in range(problem.settings.iterations):
        iterations.append(Iteration(u, runs_at(k, u), surrogate(u)))
        run = likelihood.scatter(problem, [i.sampled for i in iterations])
        offset = offset_at(problem, iterations[-1:], run)
        total = likelihood.covariance(problem, run) + offset.error
        if k == 0:
            found = [minimise(problem, surrogate, offset, total, s) for s in starts_of(problem)]
            objectives = [objective for _, objective in found]
            u, low = min(found, key=lambda pair: pair[1])
        else:
            radius = problem.settings.region * SHRINK ** (k - 1)
            u, low = minimise(problem, surrogate, offset, total, u, radius)
        tell(
            f"iteration {k + 1} of {problem.settings.iterations}: chi2 {low:.4g}, {_at(problem, u)}"
        )
    later = [i.u for i in iterations[len(iterations) // 2 :]] + [u]
    fitted = pooled(problem, surrogate, iterations, np.mean(later, axis=0))
    return fitted, iterations, objectives


def _at(problem: Problem, u: np.ndarray) -> str:
    return ", ".join(
        f"{p.name} {p.written(x):.4g} {p.unit}".strip()
        for p, x in zip(problem.parameters, u, strict=True)
    )
