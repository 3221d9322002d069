"""Data that the simulator itself makes at a known truth, in place of the measurements of a fit.

python -m tests.fitting.simulate configs/fits/efferocytosis/fit.toml --seed 0 --replicates 8
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lattice.fitting.reading import load_fit
from lattice.fitting.sampled import sample
from lattice.fitting.structure import Datum, Problem


def planned(problem: Problem, days: Sequence[float]) -> Problem:
    """The problem with every observable in every condition at some days, and nothing measured."""
    data = tuple(
        Datum(c, o, 24.0 * day, 0.0, 1, None, 0)
        for c in range(len(problem.conditions))
        for o in range(len(problem.observables))
        for day in days
    )
    return replace(problem, data=data)


def runs_at_truth(
    problem: Problem, truth: Mapping[str, float], seeds: Sequence[int], days: Sequence[float]
) -> tuple[Problem, np.ndarray]:
    """The planned problem, and what sampled runs [N, M] at `truth` (canonical units) show of it."""
    plan = planned(problem, days)
    u = np.array([p.scaled(truth[p.name]) for p in problem.parameters])
    return plan, sample(plan, u, seeds)


def simulated(
    problem: Problem, truth: Mapping[str, float], seeds: Sequence[int], days: Sequence[float]
) -> Problem:
    """The problem with data of sampled runs at `truth` (canonical units), on their scales."""
    plan, runs = runs_at_truth(problem, truth, seeds, days)
    data = tuple(
        replace(d, mean=float(runs[:, i].mean()), replicates=len(seeds))
        for i, d in enumerate(plan.data)
    )
    return replace(problem, data=data)


def write_measurements(
    problem: Problem, truth: Mapping[str, float], seeds: Sequence[int], days, path: Path
) -> None:
    """The table of measurements, one line for each replicate."""
    plan, runs = runs_at_truth(problem, truth, seeds, days)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(
            ["observableId", "simulationConditionId", "time", "measurement", "replicateId"]
        )
        for i, d in enumerate(plan.data):
            observable = problem.observables[d.observable]
            for k in range(len(seeds)):
                value = np.exp(runs[k, i]) if observable.log else runs[k, i]
                condition = problem.conditions[d.condition].name
                row = [observable.name, condition, f"{d.hours / 24:g}", f"{value:.6g}", k + 1]
                writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replicates", type=int, default=8)
    parser.add_argument("--days", type=float, nargs="+", default=[1, 2, 3, 4, 5])
    options = parser.parse_args()
    problem = load_fit(options.config)
    model = problem.conditions[0].model
    truth = {name: model.values[name] for name in problem.names}
    seeds = range(options.seed, options.seed + options.replicates)
    path = options.config.parent / "measurements.tsv"
    write_measurements(problem, truth, seeds, options.days, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
