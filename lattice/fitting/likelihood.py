"""How far predictions are from the data, in units of what the data scatter.

The data are normal on the scale of their observable. Where the scatter comes from replicates, or is
the model's own (`add_model_scatter`), sampled runs say how data of one condition are correlated:
counts at two times of one piece of bone are not two independent measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.linalg import cholesky, solve_triangular

from lattice.fitting.structure import Problem

GUESS = 0.1
"""Relative noise where neither the tables nor sampled runs show any."""


def scatter(
    problem: Problem, ensembles: Sequence[Float[np.ndarray, "N M"]]
) -> Float[np.ndarray, "M M"]:
    """Covariance of one sampled run, from several ensembles (each about its own mean), shrunk.

    Conditions are independent. Correlations are shrunk toward none by the weight that is best in
    the mean square (Schaefer & Strimmer 2005, doi 10.2202/1544-6115.1175, target D)."""
    centred = np.concatenate([e - e.mean(axis=0) for e in ensembles])
    freedom = len(centred) - len(ensembles)
    sd = np.sqrt(np.sum(centred**2, axis=0) / freedom)
    z = centred / np.where(sd > 0, sd, 1.0)
    correlation = z.T @ z / freedom
    products = z[:, :, None] * z[:, None, :]
    variance = (
        products.var(axis=0) * len(z) / freedom**2 if len(z) > 2 else np.ones_like(correlation)
    )
    off = ~np.eye(len(sd), dtype=bool)
    strength = np.sum(correlation[off] ** 2)
    weight = min(1.0, float(np.sum(variance[off]) / strength)) if strength > 0 else 1.0
    conditions = np.array([d.condition for d in problem.data])
    same = conditions[:, None] == conditions[None, :]
    shrunk = np.where(off, (1 - weight) * correlation * same, 1.0)
    return shrunk * sd[:, None] * sd[None, :]


def covariance(problem: Problem, run: Float[np.ndarray, "M M"]) -> Float[np.ndarray, "M M"]:
    """Covariance of the data about the truth; `run` is that of one sampled run. A datum that
    scatters nowhere counts as uncertain by a tenth."""
    replicates = np.array([d.replicates for d in problem.data], float)
    root = np.sqrt(replicates[:, None] * replicates[None, :])
    noise = np.array([0.0 if d.noise is None else d.noise for d in problem.data])
    sd = np.sqrt(np.diag(run))
    if problem.settings.add_model_scatter:
        total = run / root + np.diag(noise**2 / replicates)
    else:
        # Noise that replicates show is correlated as sampled runs are.
        safe = np.where(sd > 0, sd, 1.0)
        correlation = run / (safe[:, None] * safe[None, :])
        np.fill_diagonal(correlation, 1.0)
        alone = np.array([d.replicates == 1 for d in problem.data])
        correlation[alone | alone[:, None]] = 0.0
        np.fill_diagonal(correlation, 1.0)
        total = correlation * noise[:, None] * noise[None, :] / root
    # Far from the data runs may all show nothing: the guess stands in until some do.
    nothing = np.diag(total) <= 0
    return total + np.diag(np.where(nothing, _guess(problem) ** 2 / replicates, 0.0))


def _guess(problem: Problem) -> Float[np.ndarray, "M"]:
    log = np.array([problem.observables[d.observable].log for d in problem.data])
    size = np.abs(problem.measured)
    typical = np.mean(size[~log]) if np.any(~log) else 1.0
    return np.where(log, GUESS, GUESS * np.maximum(size, 0.1 * typical))


class Whitening:
    """Turns residuals into independent ones of variance 1."""

    def __init__(self, total: Float[np.ndarray, "M M"]) -> None:
        # A grain on the diagonal: correlations that are exactly 1 have no inverse.
        grain = 1e-9 * np.diag(np.diag(total))
        self.lower = cholesky(total + grain, lower=True)

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """L^-1 array, along its first axis [M, ...]."""
        return solve_triangular(self.lower, array, lower=True)


def offset_of(
    sampled: Float[np.ndarray, "M"], surrogate: Float[np.ndarray, "M"], log: np.ndarray
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M"]]:
    """Factor [M] and shift [M] that take the surrogate to the sampled mean: a ratio, as a shift
    where the scale is logarithmic already; a shift too where a ratio has no meaning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = sampled / surrogate
    by_ratio = ~log & np.isfinite(ratio) & (ratio > 0.05) & (ratio < 20)
    factor = np.where(by_ratio, ratio, 1.0)
    return factor, np.where(by_ratio, 0.0, sampled - surrogate)


def is_log(problem: Problem) -> np.ndarray:
    """[M] whether each datum is compared in logarithms."""
    return np.array([problem.observables[d.observable].log for d in problem.data])


def prior_residuals(problem: Problem, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(u - mean) / sd of each normal prior [Q], and its derivative [Q, P]."""
    priors = [(i, *p.prior) for i, p in enumerate(problem.parameters) if p.prior is not None]
    places = [i for i, _, _ in priors]
    means, sds = np.array([m for _, m, _ in priors]), np.array([s for _, _, s in priors])
    slopes = np.zeros((len(places), len(u)))
    slopes[np.arange(len(places)), places] = 1 / sds if len(places) else 0.0
    return (np.asarray(u)[places] - means) / sds, slopes
