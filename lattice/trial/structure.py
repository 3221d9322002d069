"""What a trial is, as frozen data: arms, outcomes and findings. Times are hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lattice.model.structure import Model

Reduction = Literal["last", "mean", "change", "percent", "max", "min", "area"]
Expectation = Literal[
    "up", "down", "none", "within", "rises", "falls", "interior optimum", "lower optimum"
]
Verdict = Literal["reproduced", "not reproduced", "undecided"]

DIRECTIONS = ("up", "down", "none")
TRENDS = ("rises", "falls")


@dataclass(frozen=True)
class Outcome:
    """One number for each run.

    From the series: those that match `series` are summed, restricted to `window` (first and last
    hour) and reduced; `per` is reduced likewise and divides (in per cent where the units agree).
    Or from the last snapshot: `measure` names a row of the histomorphometry.
    """

    name: str
    series: tuple[str, ...] = ()
    per: tuple[str, ...] = ()
    reduce: Reduction = "last"
    window: tuple[float, float] = (0.0, 0.0)
    measure: str | None = None
    unit_of_series: str = ""
    unit_of_per: str = ""


@dataclass(frozen=True)
class Arm:
    """One treatment. `reference` is None for an arm that is compared with nothing.

    `start` names the common beginning that this arm shares with others (see `Trial.starts`)."""

    name: str
    model: Model
    reference: str | None
    dose: float | None
    curve: str | None
    start: int


@dataclass(frozen=True)
class Difference:
    """Of an arm to its reference, less that of `less` to `less_reference` where given."""

    arm: str
    reference: str
    less: str | None = None
    less_reference: str | None = None


@dataclass(frozen=True)
class Check:
    """One expectation about some outcomes.

    `differences`: what is tested, arm by arm ("up", "down", "none"), or the points of the curve
    `doses`, in rising order ("rises", "falls", "interior optimum", "lower optimum"; the last is
    compared with the curve of `others` and `other_doses`). `size`: how near to nothing "none" is,
    or how large "up" or "down" have to be; as a fraction of the reference's mean where `relative`.
    `arms` and `range`: the arms that are compared with nothing but a range ("within"). `combine`
    says whether all arms or any of them have to do so."""

    expect: Expectation
    outcomes: tuple[str, ...]
    differences: tuple[Difference, ...]
    combine: Literal["all", "any"] = "all"
    size: float = 0.0
    relative: bool = True
    doses: tuple[float, ...] = ()
    others: tuple[Difference, ...] = ()
    other_doses: tuple[float, ...] = ()
    arms: tuple[str, ...] = ()
    range: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Finding:
    """A claim that can fail: all of its tests have to hold."""

    name: str
    claim: str
    source: str
    doi: str
    tests: tuple[Check, ...]


@dataclass(frozen=True)
class Trial:
    """Arms times replicates.

    `starts`: the models of the common beginnings, each without the interventions that act only
    later; empty when `treated_from` is 0. `courses`: sums of series that
    the report draws over time."""

    name: str
    file: str
    seed: int
    replicates: int
    until: float
    treated_from: float
    arms: tuple[Arm, ...]
    starts: tuple[Model, ...]
    outcomes: tuple[Outcome, ...]
    findings: tuple[Finding, ...]
    courses: tuple[tuple[str, ...], ...]
    units: dict[str, str]
    """Unit of every series that some arm has."""
    dose_is: str = "dose"
    """What the doses of arms are, for the axis of figures."""

    def arm(self, name: str) -> Arm:
        """The arm of that name. Raises KeyError."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)

    def seed_of(self, replicate: int) -> int:
        """The seed of a replicate (from 0), the same in every arm."""
        return self.seed + replicate
