"""Data that the simulator itself makes at a known truth, in the tables of a fit.

python -m tests.fitting.simulate configs/fits/efferocytosis/fit.toml --seed 0 --replicates 8
"""

from __future__ import annotations

import argparse
import csv
import tempfile
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


def simulated(
    problem: Problem, truth: Mapping[str, float], seeds: Sequence[int], days: Sequence[float]
) -> Problem:
    """The problem with data of sampled runs at `truth` (canonical units), on their scales."""
    plan = planned(problem, days)
    u = np.array([p.scaled(truth[p.name]) for p in problem.parameters])
    runs = sample(plan, u, seeds)
    data = tuple(
        replace(d, mean=float(runs[:, i].mean()), replicates=len(seeds))
        for i, d in enumerate(plan.data)
    )
    return replace(problem, data=data)


def write_measurements(
    problem: Problem, truth: Mapping[str, float], seeds: Sequence[int], days, path: Path
) -> None:
    """The table of measurements, one line for each replicate."""
    plan = planned(problem, days)
    u = np.array([p.scaled(truth[p.name]) for p in problem.parameters])
    runs = sample(plan, u, seeds)
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


def without_data(config: Path) -> Problem:
    """A fit file whose measurements need not exist yet."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "measurements.tsv"
        names = (config.parent / "observables.tsv").read_text().splitlines()[1:]
        conditions = (config.parent / "conditions.tsv").read_text().splitlines()
        first = conditions[1].split("\t")[0] if len(conditions) > 1 else ""
        lines = ["observableId\tsimulationConditionId\ttime\tmeasurement\tnoiseParameters"]
        lines += [f"{line.split(chr(9))[0]}\t{first}\t1 day\t1\t1" for line in names]
        table.write_text("\n".join(lines) + "\n")
        return load_fit(config, [f'measurements="{table}"'])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replicates", type=int, default=8)
    parser.add_argument("--days", type=float, nargs="+", default=[1, 2, 3, 4, 5])
    options = parser.parse_args()
    problem = without_data(options.config)
    model = problem.conditions[0].model
    truth = {name: model.values[name] for name in problem.names}
    seeds = range(options.seed, options.seed + options.replicates)
    path = options.config.parent / "measurements.tsv"
    write_measurements(problem, truth, seeds, options.days, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
