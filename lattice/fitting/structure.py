"""A fitting problem as read: frozen data, in canonical units (um, hour) and transformed scales."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lattice.fitting.formula import Formula
from lattice.inference.observables import VoxelClasses
from lattice.model.structure import Model

LOG10 = math.log(10.0)


@dataclass(frozen=True)
class Parameter:
    """A number of the model to be estimated.

    `low`, `high` and `start` are in canonical units; `unit` is how the table writes it, and one of
    those is `factor` canonical units. Fits work on its scale: the number itself ("lin") or its
    natural logarithm ("log", "log10"). `prior`: mean and standard deviation on that scale.
    """

    name: str
    scale: str
    low: float
    high: float
    start: float
    unit: str
    factor: float
    prior: tuple[float, float] | None

    def scaled(self, value: float) -> float:
        """A value in canonical units on the scale of the fit."""
        return value if self.scale == "lin" else math.log(value)

    def canonical(self, u: float) -> float:
        """Canonical units, from the scale of the fit."""
        return float(u) if self.scale == "lin" else math.exp(u)

    def written(self, u: float) -> float:
        """In the unit of the table, from the scale of the fit."""
        return self.canonical(u) / self.factor


@dataclass(frozen=True)
class Observable:
    """What was measured: `formula` for sampled runs, `surrogate` for relaxations.

    `log`: it is compared in natural logarithms."""

    name: str
    formula: Formula
    surrogate: Formula
    log: bool
    unit: str


@dataclass(frozen=True, eq=False)
class FirstScan:
    """The voxels of a first scan by layer, in so many `regions` along z, y and x."""

    classes: VoxelClasses
    regions: tuple[int, int, int]


@dataclass(frozen=True)
class Condition:
    """An experiment: the model under that condition, and its first scan where others are data."""

    name: str
    model: Model
    scan: FirstScan | None = None


@dataclass(frozen=True)
class Datum:
    """The replicates of one observable in one condition at one time.

    `mean` and `noise` (standard deviation of one measurement; None: nothing is said) are on the
    scale of the observable. `row` is the first line of its table that belongs to it.
    """

    condition: int
    observable: int
    hours: float
    mean: float
    replicates: int
    noise: float | None
    row: int


@dataclass(frozen=True)
class Settings:
    """How a fit is done; see `lattice.fitting.reading` for what each key means."""

    reading: str = "pair_closure"
    seed: int = 0
    runs: int = 8
    iterations: int = 8
    starts: int = 3
    spread: float = 0.5
    region: float = 0.5
    final_runs: int = 16
    add_model_scatter: bool = False
    gradient_check: int = 0
    posterior: str = "nuts"
    draws: int = 500
    profiles: bool = False
    polish: int = 0
    polish_seeds: int = 100
    cross_check: str = "none"
    cross_check_runs: int = 0


@dataclass(frozen=True)
class Problem:
    """A fitting problem: parameters [P], conditions [C], observables [O] and data [M]."""

    name: str
    file: str
    parameters: tuple[Parameter, ...]
    conditions: tuple[Condition, ...]
    observables: tuple[Observable, ...]
    data: tuple[Datum, ...]
    settings: Settings

    @property
    def names(self) -> tuple[str, ...]:
        """Dotted names of the parameters."""
        return tuple(p.name for p in self.parameters)

    @property
    def start(self) -> Float[np.ndarray, "P"]:
        """Where the fit begins, on its scales."""
        return np.array([p.scaled(p.start) for p in self.parameters])

    @property
    def bounds(self) -> tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P"]]:
        """Lowest and highest values, on the scales of the fit."""
        low = np.array([p.scaled(p.low) for p in self.parameters])
        return low, np.array([p.scaled(p.high) for p in self.parameters])

    @property
    def measured(self) -> Float[np.ndarray, "M"]:
        """The data, each on the scale of its observable."""
        return np.array([d.mean for d in self.data])

    def canonical(self, u: Float[np.ndarray, "P"]) -> dict[str, float]:
        """Dotted name -> value in canonical units."""
        return {p.name: p.canonical(x) for p, x in zip(self.parameters, u, strict=True)}

    def hours(self, condition: int) -> tuple[float, ...]:
        """The times at which something was measured in a condition."""
        return tuple(sorted({d.hours for d in self.data if d.condition == condition}))
