"""Verdicts: whether the numbers of a trial bear a claim out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from lattice.trial.statistics import Estimate, estimate, slopes
from lattice.trial.structure import DIRECTIONS, TRENDS, Check, Difference, Finding, Trial, Verdict

__all__ = ["Judged", "Line", "evaluate", "verdict_of"]

Values = Mapping[str, Mapping[str, Float[np.ndarray, "R"]]]
"""Outcome -> arm -> one value for each replicate; NaN where a run is missing."""


@dataclass(frozen=True)
class Line:
    """One quantity that was tested: what it is, its estimate, and what that says.

    `base`: the mean of the reference, to which `relative_percent` refers; NaN where it has none.
    `bound`: the margin ("none") or the least size, in the unit of the outcome."""

    what: str
    outcome: str
    expect: str
    estimate: Estimate
    base: float
    bound: float
    verdict: Verdict

    @property
    def relative_percent(self) -> float:
        """The mean as a percentage of the reference's."""
        return 100 * self.estimate.mean / abs(self.base) if self.base else float("nan")


@dataclass(frozen=True)
class Judged:
    """A finding with its verdict and the lines that it rests on."""

    finding: Finding
    verdict: Verdict
    lines: tuple[Line, ...]


def verdict_of(found: Estimate, expect: str, bound: float = 0.0) -> Verdict:
    """What an interval says about "up" (above `bound`), "down" (below -`bound`) or "none" (between
    the two): reproduced when it lies wholly there, not reproduced when wholly elsewhere.

    An interval that is the point 0 (no difference in any replicate) is neither up nor down."""
    low, high = found.low, found.high
    if not math.isfinite(low) or not math.isfinite(high) or not math.isfinite(bound):
        return "undecided"
    if expect == "none":
        if -bound <= low and high <= bound:
            return "reproduced"
        return "not reproduced" if low > bound or high < -bound else "undecided"
    if expect == "down":
        low, high = -high, -low
    if low > bound or (low == bound and bound > 0):
        return "reproduced"
    return "not reproduced" if high < bound or (high == bound == 0) else "undecided"


def evaluate(trial: Trial, values: Values) -> list[Judged]:
    """The findings of a trial in the order of its file."""
    return [_judge(finding, values) for finding in trial.findings]


def _judge(finding: Finding, values: Values) -> Judged:
    verdicts, lines = [], []
    for test in finding.tests:
        if test.expect == "within":
            verdict, found = _within(test, values)
        elif test.expect in DIRECTIONS:
            verdict, found = _directions(test, values)
        elif test.expect in TRENDS:
            verdict, found = _trends(test, values)
        elif test.expect == "interior optimum":
            verdict, found = _interior(test, values)
        else:
            verdict, found = _lower_optimum(test, values)
        verdicts.append(verdict)
        lines += found
    return Judged(finding, _all(verdicts), tuple(lines))


def _all(verdicts: Iterable[Verdict]) -> Verdict:
    """All have to hold: one failure refutes."""
    seen = set(verdicts)
    if "not reproduced" in seen:
        return "not reproduced"
    return "reproduced" if seen == {"reproduced"} else "undecided"


def _any(verdicts: Iterable[Verdict]) -> Verdict:
    """One has to hold: only when all fail is the claim refuted."""
    seen = set(verdicts)
    if "reproduced" in seen:
        return "reproduced"
    return "not reproduced" if seen == {"not reproduced"} else "undecided"


def _paired(difference: Difference, column) -> Float[np.ndarray, "R"]:
    gain = column[difference.arm] - column[difference.reference]
    if difference.less is None:
        return gain
    assert difference.less_reference is not None
    return gain - (column[difference.less] - column[difference.less_reference])


def _mean(values: Float[np.ndarray, "R"]) -> float:
    good = values[np.isfinite(values)]
    return float(good.mean()) if len(good) else float("nan")


def _named(difference: Difference) -> str:
    text = f"{difference.arm} − {difference.reference}"
    if difference.less is None:
        return text
    return f"({text}) − ({difference.less} − {difference.less_reference})"


def _directions(test: Check, values: Values) -> tuple[Verdict, list[Line]]:
    by_arm, lines = [], []
    for difference in test.differences:
        verdicts = []
        for outcome in test.outcomes:
            column = values[outcome]
            base = _mean(column[difference.reference])
            bound = test.size * abs(base) if test.relative and test.size else test.size
            found = estimate(_paired(difference, column))
            verdict = verdict_of(found, test.expect, bound)
            lines.append(
                Line(_named(difference), outcome, test.expect, found, base, bound, verdict)
            )
            verdicts.append(verdict)
        by_arm.append(_all(verdicts))
    return (_all if test.combine == "all" else _any)(by_arm), lines


def _within(test: Check, values: Values) -> tuple[Verdict, list[Line]]:
    """Whether the mean of an arm lies in a range, told from its 95 % interval."""
    low, high = test.range
    middle, half = (low + high) / 2, (high - low) / 2
    by_arm, lines = [], []
    for arm in test.arms:
        verdicts = []
        for outcome in test.outcomes:
            found = estimate(values[outcome][arm])
            about = replace(found, low=found.low - middle, high=found.high - middle)
            verdict = verdict_of(about, "none", half)
            expected = f"within {low:g} to {high:g}"
            lines.append(Line(arm, outcome, expected, found, float("nan"), 0.0, verdict))
            verdicts.append(verdict)
        by_arm.append(_all(verdicts))
    return (_all if test.combine == "all" else _any)(by_arm), lines


def _trends(test: Check, values: Values) -> tuple[Verdict, list[Line]]:
    """The slope over the doses of each replicate's differences."""
    lines = []
    for outcome in test.outcomes:
        column = values[outcome]
        points = np.stack([_paired(d, column) for d in test.differences])
        found = estimate(slopes(np.array(test.doses), points))
        verdict = verdict_of(found, "up" if test.expect == "rises" else "down")
        what = f"slope over dose of {', '.join(_named(d) for d in test.differences)}"
        lines.append(Line(what, outcome, test.expect, found, float("nan"), 0.0, verdict))
    return _all([line.verdict for line in lines]), lines


def _interior(test: Check, values: Values) -> tuple[Verdict, list[Line]]:
    """The best inner dose has to beat both no dose (its reference) and the highest one."""
    lines = []
    for outcome in test.outcomes:
        column = values[outcome]
        inner, top = test.differences[:-1], test.differences[-1]
        gains = [_mean(_paired(d, column)) for d in inner]
        if not np.isfinite(gains).any():
            return "undecided", lines
        best = inner[int(np.nanargmax(gains))]
        base = _mean(column[best.reference])
        ends = (best, Difference(best.arm, best.reference, top.arm, top.reference))
        for end in ends:
            found = estimate(_paired(end, column))
            verdict = verdict_of(found, "up")
            lines.append(Line(_named(end), outcome, test.expect, found, base, 0.0, verdict))
    return _all([line.verdict for line in lines]), lines


def _best_dose(
    differences: Sequence[Difference], doses: Sequence[float], column
) -> Float[np.ndarray, "R"]:
    """The dose of the largest gain in each replicate, 0 if none gains; NaN where one is missing."""
    nothing = np.zeros_like(column[differences[0].arm])
    gains = np.stack([nothing, *(_paired(d, column) for d in differences)])
    whole = np.isfinite(gains).all(axis=0)
    place = np.argmax(np.where(whole, gains, 0.0), axis=0)
    return np.where(whole, np.array([0.0, *doses])[place], np.nan)


def _lower_optimum(test: Check, values: Values) -> tuple[Verdict, list[Line]]:
    lines = []
    for outcome in test.outcomes:
        column = values[outcome]
        one = _best_dose(test.differences, test.doses, column)
        other = _best_dose(test.others, test.other_doses, column)
        found = estimate(one - other)
        names = (", ".join(d.arm for d in ds) for ds in (test.differences, test.others))
        what = "best dose of {} − best dose of {}".format(*names)
        verdict = verdict_of(found, "down")
        lines.append(Line(what, outcome, test.expect, found, _mean(other), 0.0, verdict))
    return _all([line.verdict for line in lines]), lines
