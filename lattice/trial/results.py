"""What the finished runs of a trial give: outcomes, comparisons, verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from lattice.io.runfile import RunFile
from lattice.model.errors import DamagedFileError
from lattice.trial.findings import Judged, evaluate
from lattice.trial.folder import TrialFolder
from lattice.trial.outcomes import outcome_unit, outcome_value, summed
from lattice.trial.statistics import Estimate, cohen_d, estimate
from lattice.trial.structure import Outcome, Trial

__all__ = ["Comparison", "Results", "RunRecord", "collect"]


@dataclass(frozen=True)
class RunRecord:
    """One run: "done", "failed" or "missing", and its outcomes by name."""

    arm: str
    replicate: int
    seed: int
    status: str
    problem: str = ""
    seconds: float = math.nan
    digest: str = ""
    values: dict[str, float] = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One outcome of one arm, and its paired difference to the reference (None: it has none)."""

    arm: str
    outcome: str
    unit: str
    reference: str | None
    own: Estimate
    base: float
    difference: Estimate | None
    cohen_d: float

    def percent(self, value: float) -> float:
        """A difference as a percentage of the reference's mean over the same replicates."""
        return 100 * value / abs(self.base) if self.base else math.nan


@dataclass(frozen=True)
class Course:
    """A sum of series over time in every finished run of an arm: `values[replicate, time]`."""

    time: Float[np.ndarray, "T"]
    values: Float[np.ndarray, "R T"]


@dataclass(frozen=True)
class Results:
    """Everything that tables and the report are made from."""

    trial: Trial
    place: TrialFolder
    records: tuple[RunRecord, ...]
    units: dict[str, str]
    values: dict[str, dict[str, Float[np.ndarray, "R"]]]
    comparisons: tuple[Comparison, ...]
    judged: tuple[Judged, ...]
    courses: dict[tuple[str, ...], dict[str, Course]]

    def compared(self, arm: str, outcome: str) -> Comparison:
        """The comparison of an arm by an outcome."""
        return next(c for c in self.comparisons if (c.arm, c.outcome) == (arm, outcome))


def collect(trial: Trial, place: TrialFolder) -> Results:
    """Reads what has finished. Raises DamagedFileError."""
    records, courses, measured = [], {c: {} for c in trial.courses}, {}
    for arm in trial.arms:
        runs: list[RunFile] = []
        for replicate in range(trial.replicates):
            record, run = _record(trial, place, arm.name, replicate, measured)
            records.append(record)
            runs += [run] if run is not None else []
        for patterns, by_arm in courses.items():
            course = _course(patterns, runs)
            if course is not None:
                by_arm[arm.name] = course
    values = {
        outcome.name: {
            arm.name: np.array(
                [r.values.get(outcome.name, math.nan) for r in records if r.arm == arm.name]
            )
            for arm in trial.arms
        }
        for outcome in trial.outcomes
    }
    units = {o.name: outcome_unit(o, measured) for o in trial.outcomes}
    comparisons = [
        _compare(arm.name, arm.reference, outcome, units[outcome.name], values[outcome.name])
        for arm in trial.arms
        for outcome in trial.outcomes
    ]
    return Results(
        trial,
        place,
        tuple(records),
        units,
        values,
        tuple(comparisons),
        tuple(evaluate(trial, values)),
        courses,
    )


def _record(
    trial: Trial, place: TrialFolder, arm: str, replicate: int, measured: dict[str, str]
) -> tuple[RunRecord, RunFile | None]:
    seed = trial.seed_of(replicate)
    result = place.result(arm, replicate)
    if result is None:
        problem = place.failure(arm, replicate)
        status = "missing" if problem is None else "failed"
        return RunRecord(arm, replicate, seed, status, problem or ""), None
    run = RunFile.open(place.run(arm, replicate))
    if run.seed != seed:
        raise DamagedFileError(f"{run.path} has the seed {run.seed}, not {seed}: remove its folder")
    measures = place.measures(arm, replicate)
    measured |= {name: unit for name, (_, unit) in measures.items()}
    columns = {name: v for name, (v, _) in run.series.items()}
    values = {o.name: outcome_value(o, run.series_time, columns, measures) for o in trial.outcomes}
    record = RunRecord(
        arm,
        replicate,
        seed,
        "done",
        seconds=float(result["seconds"]),
        digest=str(result["digest"]),
        values=values,
        provenance=result["provenance"],
    )
    return record, run


def _course(patterns: tuple[str, ...], runs: list[RunFile]) -> Course | None:
    rows = []
    for run in runs:
        one = summed(patterns, {name: v for name, (v, _) in run.series.items()})
        if one is not None:
            rows.append(one)
    if not rows:
        return None
    return Course(runs[0].series_time, np.stack(rows))


def _compare(arm: str, reference: str | None, outcome: Outcome, unit: str, column) -> Comparison:
    own = estimate(column[arm])
    if reference is None:
        return Comparison(arm, outcome.name, unit, None, own, math.nan, None, math.nan)
    paired = column[arm] - column[reference]
    both = column[reference][np.isfinite(paired)]
    return Comparison(
        arm,
        outcome.name,
        unit,
        reference,
        own,
        float(both.mean()) if len(both) else math.nan,
        estimate(paired),
        cohen_d(column[arm], column[reference]),
    )
