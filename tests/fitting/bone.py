"""Ten numbers of the bone model, recovered from data that the simulator made at a truth drawn anew.

python -m tests.fitting.bone --seed 3 --out runs/bone_recovery

Everything random comes from the seed: the truth, the data and the start. The folder holds the fit
as a user would write it, and what it found; the same command goes on with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lattice.cli.jax_setup import prepare_jax
from lattice.fitting.conduct import Result, conduct
from lattice.fitting.reading import load_fit
from lattice.fitting.report import write_report
from lattice.fitting.result import write_result
from lattice.io.files import replacing
from lattice.model import load
from tests.docs.blocks import ROOT
from tests.fitting.simulate import write_measurements
from tests.fitting.study import floor_of, log_errors

PARAMETERS = (
    "rule.activate.rate",
    "rule.commit.rate",
    "rule.mature_Osx.rate",
    "rule.die_aged.rate",
    "rule.engulf.rate",
    "rule.forget.rate",
    "rule.recruit_precursor.rate",
    "rule.fuse.rate",
    "rule.spread.rate",
    "state.osteoblast_fresh.lays",
)
COUNTED = (
    "LepR", "Osx", "Osx_dividing", "osteoblast_fresh", "osteoblast_aged", "M2", "osteoclast",
    "osteoclast_precursor", "lining",
)  # fmt: skip
RARE = ("apoptotic", "efferocyte")
BONE = "100 * BV/TV / initial(BV/TV) - 100"
TRUTH, SHIFT = 0.3, 0.4
"""Half-widths in natural logarithms: of the truth about the model file, of the start about it."""


@dataclass(frozen=True)
class Size:
    """How large a recovery is."""

    days: tuple[float, ...] = (2.0, 4.0, 7.0)
    replicates: int = 8
    runs: int = 4
    iterations: int = 6
    lattice: int = 36


def recovered(seed: int, folder: Path, size: Size) -> tuple[Result, dict[str, float]]:
    """The fit to data of this seed, and the truth that made them (canonical units)."""
    config = ROOT / "configs/adult.toml"
    base = load(config).values
    generator = np.random.default_rng(seed)
    drawn = generator.uniform(-TRUTH, TRUTH, len(PARAMETERS))
    truth = {n: base[n] * float(np.exp(s)) for n, s in zip(PARAMETERS, drawn, strict=True)}
    shift = generator.uniform(-SHIFT, SHIFT, len(PARAMETERS))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "measurements.tsv").exists():
        with TemporaryDirectory() as place:
            # Read with pretended data first: a fit without any is refused.
            plan = _written(Path(place), config, base, seed, size)
            _pretend(Path(place), size.days[-1])
            seeds = range(1000 * seed, 1000 * seed + size.replicates)
            with replacing(folder / "measurements.tsv") as table:
                write_measurements(load_fit(plan), truth, seeds, size.days, table)
    problem = load_fit(_written(folder, config, base, seed, size))
    starts = {n: truth[n] * float(np.exp(s)) for n, s in zip(PARAMETERS, shift, strict=True)}
    parameters = tuple(replace(p, start=starts[p.name]) for p in problem.parameters)
    return conduct(replace(problem, parameters=parameters), folder / "fit", print), truth


def _written(folder: Path, config: Path, base: dict[str, float], seed: int, size: Size) -> Path:
    """The fit file and its tables, all but the measurements. Bounds are a factor of four away."""
    side = size.lattice
    (folder / "fit.toml").write_text(
        f'''schema = 1
[fit]
name = "ten numbers of the bone model, seed {seed}"
model = "{config}"
set = ["lattice.shape=[{side}, {side}, {side}]", 'time.until="{size.days[-1]:g} day"']
parameters = "parameters.tsv"
observables = "observables.tsv"
measurements = "measurements.tsv"
time_unit = "day"
seed = {seed}
runs = {size.runs}
iterations = {size.iterations}
starts = 1
add_model_scatter = true
posterior = "none"
'''
    )
    lines = ["parameterId\tparameterScale\tlowerBound\tupperBound"]
    for name in PARAMETERS:
        unit, factor = ("um/h", 10.0) if name.endswith(".lays") else ("/h", 1.0)
        low, high = (f"{base[name] * factor * f:.6g} {unit}" for f in (0.25, 4.0))
        lines.append(f"{name}\tlog10\t{low}\t{high}")
    (folder / "parameters.tsv").write_text("\n".join(lines) + "\n")
    lines = ["observableId\tobservableFormula\tobservableTransformation"]
    lines += [f"{name}\t{name}\tlog" for name in COUNTED]
    lines += [f"{name}\t{name}\tlin" for name in RARE]
    lines += [f"bone\t{BONE}\tlin"]
    (folder / "observables.tsv").write_text("\n".join(lines) + "\n")
    return folder / "fit.toml"


def _pretend(folder: Path, day: float) -> None:
    """A table that names every observable, so that the fit can be read before there are data."""
    lines = ["observableId\ttime\tmeasurement"]
    lines += [f"{name}\t{day:g}\t1" for name in (*COUNTED, *RARE, "bone")]
    (folder / "measurements.tsv").write_text("\n".join(lines) + "\n")


def judged(result: Result, truth: dict[str, float]) -> str:
    """The errors in words."""
    errors = log_errors(result, truth)
    lines = [
        f"{name:<30} {error:+.3f} +- {sd:.3f}"
        for name, error, sd in zip(PARAMETERS, errors, result.information.errors, strict=True)
    ]
    rms, floor = float(np.sqrt(np.mean(errors**2))), floor_of(result)
    data = len(result.problem.data)
    lines.append(f"rms log error {rms:.3f}, statistical floor {floor:.3f}")
    lines.append(f"chi2 {result.chi2:.4g} of {data} data, {result.runs} sampled runs")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--days", type=float, nargs="+", default=Size.days)
    parser.add_argument("--replicates", type=int, default=Size.replicates)
    parser.add_argument("--runs", type=int, default=Size.runs)
    parser.add_argument("--iterations", type=int, default=Size.iterations)
    options = parser.parse_args(arguments)
    prepare_jax()
    size = Size(tuple(options.days), options.replicates, options.runs, options.iterations)
    result, truth = recovered(options.seed, options.out, size)
    write_result(result, options.out / "fit")
    write_report(result, options.out / "fit")
    print(judged(result, truth))


if __name__ == "__main__":
    main()
