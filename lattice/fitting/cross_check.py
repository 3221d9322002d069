"""The search again without any relaxation: CMA-ES on sampled runs alone, as a check.

It knows nothing of gradients, and so of their errors; it pays with many more runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lattice.fitting import likelihood
from lattice.fitting.search import scales_of
from lattice.fitting.store import SampleStore
from lattice.fitting.structure import Problem
from lattice.io.optional import require

SEEDS_BEYOND = 5_000_000
"""Its seeds begin so far from those of the search."""

EACH = 2
"""Sampled runs of a point: with runs that are few, many points are worth more than precise ones."""

MORE = 10
"""Times the sampled runs of the search, where nothing else is asked for."""


@dataclass(frozen=True)
class CrossCheck:
    """Where CMA-ES ended, u [P], after so many points; `chi2`: distance of sampled runs there from
    the data, of the seeds that the estimate of the fit was judged by."""

    u: Float[np.ndarray, "P"]
    points: int
    chi2: float

    @property
    def runs(self) -> int:
        """Sampled runs of each condition."""
        return self.points * EACH


def cross_check(
    problem: Problem,
    total: Float[np.ndarray, "M M"],
    run: Float[np.ndarray, "M M"],
    store: SampleStore,
    tell: Callable[[str], None],
) -> tuple[Float[np.ndarray, "P"], int]:
    """The centre of the last generation, and how many points were sampled; `total` is the
    covariance by which the fit measures distances, `run` that of one sampled run.

    Points of one generation have the same seeds, so that they are ranked by their numbers and not
    by luck, and every generation has its own, so that none is fitted to its seeds."""
    settings = problem.settings
    budget = settings.cross_check_runs or MORE * settings.iterations * settings.runs
    whiten = likelihood.Whitening(total + run / EACH)
    search = _strategy(problem)
    points = generation = 0
    while (points + search.popsize) * EACH <= budget or not generation:
        first = SEEDS_BEYOND + generation * EACH
        seeds = store.seeds(first, EACH)
        asked = search.ask()
        found = []
        for k, x in enumerate(asked):
            u = _within(problem, np.asarray(x))
            sampled = store.get(f"cma-{generation:03d}-{k:02d}", problem, u, seeds)
            found.append(distance(problem, whiten, sampled, u))
        search.tell(asked, found)
        points, generation = points + len(asked), generation + 1
        done = points * EACH
        tell(f"CMA-ES: {done} of {budget} sampled runs of each condition, chi2 {min(found):.4g}")
    return _within(problem, np.asarray(search.result.xfavorite)), points


def distance(
    problem: Problem, whiten: likelihood.Whitening, sampled: Float[np.ndarray, "N M"], u: np.ndarray
) -> float:
    """Twice the negative log posterior of the mean of sampled runs, up to a constant."""
    misfit = whiten(sampled.mean(axis=0) - problem.measured)
    return float(misfit @ misfit + np.sum(likelihood.prior_residuals(problem, u)[0] ** 2))


def _within(problem: Problem, x: Float[np.ndarray, "P"]) -> Float[np.ndarray, "P"]:
    """The point on the scales of the fit, from coordinates of the strategy."""
    return np.clip(x * scales_of(problem), *problem.bounds)


def _strategy(problem: Problem) -> Any:
    """CMA-ES that begins where the fit did, with its own stream of random numbers."""
    cma = require("cma", "the cross-check", "fit")
    generator = np.random.default_rng([problem.settings.seed, 2])
    low, high = (bound / scales_of(problem) for bound in problem.bounds)
    options = {
        "bounds": [low.tolist(), high.tolist()],
        "randn": lambda *shape: generator.standard_normal(shape),
        "seed": np.nan,  # the global stream of numpy is left alone
        "verbose": -9,
        "verb_log": 0,
    }
    start = problem.start / scales_of(problem)
    return cma.CMAEvolutionStrategy(start, problem.settings.spread, options)
