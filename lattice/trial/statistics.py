"""Intervals and effect sizes of differences between runs that share their random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

__all__ = ["CONFIDENCE", "Estimate", "cohen_d", "estimate", "slopes"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """The mean of some replicates' values with its 95 % interval (Student's t).

    NaN where it is not defined: the interval of one replicate, the effect size (mean / standard
    deviation of the values, Cohen's d_z when these are paired differences) without any spread."""

    n: int
    mean: float
    sd: float
    low: float
    high: float
    effect: float


def estimate(values: Float[np.ndarray, "R"]) -> Estimate:
    """The estimate from the values that are not NaN; without any, all is NaN and n is 0."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    n, nan = len(values), float("nan")
    if n == 0:
        return Estimate(0, nan, nan, nan, nan, nan)
    mean = float(values.mean())
    if n == 1:
        return Estimate(1, mean, nan, nan, nan, nan)
    # Equal values are without spread, though the rounding of their mean may leave some.
    sd = float(values.std(ddof=1)) if np.ptp(values) > 0 else 0.0
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * sd / np.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half, mean / sd if sd > 0 else nan)


def cohen_d(treated: Float[np.ndarray, "R"], reference: Float[np.ndarray, "S"]) -> float:
    """Difference of the means over the pooled standard deviation, unpaired (Cohen 1988)."""
    a, b = (x[np.isfinite(x)] for x in (np.asarray(treated, float), np.asarray(reference, float)))
    if len(a) < 2 or len(b) < 2:
        return float("nan")
    squares = a.var(ddof=1) * (len(a) - 1) + b.var(ddof=1) * (len(b) - 1)
    pooled = np.sqrt(squares / (len(a) + len(b) - 2))
    return float((a.mean() - b.mean()) / pooled) if pooled > 0 else float("nan")


def slopes(
    doses: Float[np.ndarray, "D"], values: Float[np.ndarray, "D R"]
) -> Float[np.ndarray, "R"]:
    """Least-squares slope of each replicate's values over the doses; NaN where one is missing."""
    centred = np.asarray(doses, float) - np.mean(doses)
    return centred @ np.asarray(values, float) / float(centred @ centred)
