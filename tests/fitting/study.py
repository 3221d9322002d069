"""Studies with a known truth: fits of data that the simulator made itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lattice.fitting.conduct import Result, conduct
from lattice.fitting.reading import load_fit
from lattice.fitting.structure import Problem
from lattice.fitting.surrogate import Surrogate
from tests.fitting.simulate import planned, simulated

ROOT = Path(__file__).resolve().parents[2]
DISH = ROOT / "configs/fits/efferocytosis/fit.toml"
DAYS = (1.0, 2.0, 3.0, 4.0, 5.0)
REPLICATES = 8


class Dish:
    """The fit of the dish, compiled once for many data sets."""

    def __init__(self, **settings) -> None:
        problem = load_fit(DISH)
        settings = {"posterior": "none", "iterations": 8, "runs": 8, **settings}
        self.problem = planned(
            replace(problem, settings=replace(problem.settings, **settings)), DAYS
        )
        self.surrogate = Surrogate(self.problem)
        model = problem.conditions[0].model
        self.truth = {name: model.values[name] for name in problem.names}

    def fitted(
        self, truth, data_seed: int, folder: Path, start_shift=None, seed: int = 1
    ) -> Result:
        """The fit of data made at `truth` with seeds from `data_seed`, from a shifted start."""
        problem = simulated(self.problem, truth, range(data_seed, data_seed + REPLICATES), DAYS)
        problem = started(problem, truth, start_shift)
        problem = replace(problem, settings=replace(problem.settings, seed=seed))
        return conduct(problem, folder, surrogate=self.surrogate)


def started(problem: Problem, truth, shift: Sequence[float] | None) -> Problem:
    """The problem with its start at truth times exp(shift), within the bounds."""
    if shift is None:
        return problem
    parameters = tuple(
        replace(p, start=float(np.clip(truth[p.name] * np.exp(s), p.low * 1.01, p.high / 1.01)))
        for p, s in zip(problem.parameters, shift, strict=True)
    )
    return replace(problem, parameters=parameters)


def log_errors(result: Result, truth) -> np.ndarray:
    """[P] estimate minus truth, in natural logarithms."""
    wanted = [p.scaled(truth[p.name]) for p in result.problem.parameters]
    return result.fitted.u - np.array(wanted)


def floor_of(result: Result) -> float:
    """The statistical floor: rms of the standard deviations that the data alone leave."""
    return float(np.sqrt(np.mean(result.information.errors**2)))
