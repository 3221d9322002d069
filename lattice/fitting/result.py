"""The files of a finished fit: estimates, a model file, a posterior for ArviZ, and JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from lattice.fitting.conduct import Result
from lattice.fitting.structure import Parameter
from lattice.io.files import replacing, write_text
from lattice.io.optional import require

INTERVAL = (2.5, 97.5)
ESTIMATE_COLUMNS = (
    *("parameter", "estimate", "unit", "sd", "ci_low", "ci_high"),
    *("identifiable", "gradient_reliable"),
)
"""Of `estimate.csv`; scripts of users rely on them."""
GRADIENT = "exact gradient of a relaxation ({reading}), with the offset of sampled runs"


def interval(result: Result, index: int) -> tuple[float, float]:
    """The 95 % interval of a parameter in the unit of its table: of the posterior where it was
    drawn, else of the normal approximation."""
    parameter = result.problem.parameters[index]
    if result.draws is not None:
        low, high = np.percentile(result.draws[..., index], INTERVAL)
    else:
        u, error = result.fitted.u[index], result.information.errors[index]
        low, high = u - 1.96 * error, u + 1.96 * error
    return parameter.written(low), parameter.written(high)


def summary(result: Result) -> dict[str, Any]:
    """All that the fit found, for machines; numbers in the units of the table of parameters."""
    problem, known = result.problem, result.information
    rows = []
    for i, parameter in enumerate(problem.parameters):
        low, high = interval(result, i)
        rows.append(
            {
                "name": parameter.name,
                "unit": parameter.unit,
                "estimate": parameter.written(result.fitted.u[i]),
                "interval_95": [low, high],
                "scale": parameter.scale,
                "error_on_scale": float(known.errors[i]),
                "verdict": known.verdicts[i],
                "gradient": gradient_verdict(result, i),
            }
        )
    data = len(problem.data)
    return {
        "fit": problem.name,
        "parameters": rows,
        "correlation": known.correlation.tolist(),
        "fisher_eigenvalues": known.eigenvalues.tolist(),
        "sampled_model": {
            "chi2": result.chi2,
            "data": data,
            "chi2_per_datum": result.chi2 / data,
            "runs_at_estimate": len(result.sampled),
        },
        "relaxation_with_offset": {"objective": result.fitted.objective},
        "starts": list(result.objectives),
        "sampled_runs": result.runs,
        "gradient": GRADIENT.format(reading=problem.settings.reading.replace("_", " ")),
        "posterior": problem.settings.posterior,
        "profiles": [
            {"name": f.name, "interval_95": [p.written(u) for u in f.interval]}
            for f, p in zip(result.profiles, problem.parameters, strict=False)
        ],
        "cross_check": crossed_summary(result),
        "notes": list(result.notes),
    }


def crossed_summary(result: Result) -> dict[str, Any] | None:
    """Where CMA-ES ended, and how far from the estimate in its standard errors."""
    crossed, problem = result.crossed, result.problem
    if crossed is None:
        return None
    distance = (crossed.u - result.fitted.u) / result.information.errors
    rows = [
        {"name": p.name, "unit": p.unit, "estimate": p.written(u), "errors_away": float(z)}
        for p, u, z in zip(problem.parameters, crossed.u, distance, strict=True)
    ]
    return {
        "method": "CMA-ES on sampled runs",
        "parameters": rows,
        "chi2": crossed.chi2,
        "sampled_runs_of_each_condition": crossed.runs,
        "those_of_the_search": problem.settings.iterations * problem.settings.runs,
        "points": crossed.points,
        "rms_errors_away": float(np.sqrt(np.mean(distance**2))),
    }


def crossed_sentence(result: Result) -> str:
    """The cross-check in words; empty where there was none."""
    found = crossed_summary(result)
    if found is None:
        return ""
    return (
        f"{found['method']}: {found['sampled_runs_of_each_condition']} runs of each condition, "
        f"the search {found['those_of_the_search']}; chi2 {found['chi2']:.4g} beside "
        f"{result.chi2:.4g}; {found['rms_errors_away']:.2g} standard errors away (rms)"
    )


def gradient_verdict(result: Result, index: int) -> str:
    """Whether the relaxation's gradient is that of sampled runs, as far as it was checked."""
    if result.check is None:
        return "not checked"
    reliable = result.check.reliable[index]
    if reliable is None:
        return "undecided: coupled runs do not tell it precisely"
    cosine = f"cosine {result.check.cosine[index]:.3f} with coupled runs"
    return (
        cosine
        if reliable
        else f"UNRELIABLE: {cosine}, {result.check.wrong_signs[index]} wrong signs"
    )


def write_result(result: Result, folder: Path) -> list[Path]:
    """Write the files; returns their paths. Raises StorageError."""
    report = folder / "fit.json"
    write_text(report, json.dumps(summary(result), indent=1) + "\n")
    paths = [report, _estimate(result, folder / "estimate.csv")]
    paths += [_estimates(result, folder / "estimates.tsv"), _model(result, folder)]
    if result.draws is not None:
        paths.append(_posterior(result, folder / "posterior.nc"))
    return paths


def standard_deviation(result: Result, index: int) -> float:
    """That of a parameter in the unit of its table: of the posterior where it was drawn, else of
    the normal approximation on the scale of the fit."""
    parameter, error = result.problem.parameters[index], result.information.errors[index]
    if result.draws is not None:
        return float(np.std(np.vectorize(parameter.written)(result.draws[..., index]), ddof=1))
    if parameter.scale == "lin":
        return float(error) / parameter.factor
    return parameter.written(result.fitted.u[index]) * float(error)


def _estimate(result: Result, path: Path) -> Path:
    """One line for each parameter, with interval and verdicts, for scripts and spreadsheets."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ESTIMATE_COLUMNS)
        for i, parameter in enumerate(result.problem.parameters):
            numbers = (parameter.written(result.fitted.u[i]), standard_deviation(result, i))
            estimate, sd, low, high = (f"{v:.9g}" for v in (*numbers, *interval(result, i)))
            verdict = result.information.verdicts[i].split(",")[0]
            known = {"identified": "yes", "weakly identified": "weakly", "not identified": "no"}
            checked = None if result.check is None else result.check.reliable[i]
            unsure = "not checked" if result.check is None else "undecided"
            reliable = unsure if checked is None else "yes" if checked else "no"
            writer.writerow(
                [parameter.name, estimate, parameter.unit, sd, low, high, known[verdict], reliable]
            )
    return path


def _estimates(result: Result, path: Path) -> Path:
    """A table of parameters as PEtab has it, that a next fit can start from."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(
            [
                "parameterId",
                "parameterScale",
                "lowerBound",
                "upperBound",
                "nominalValue",
                "estimate",
            ]
        )
        for parameter, u in zip(result.problem.parameters, result.fitted.u, strict=True):
            bounds = (f"{v / parameter.factor:.9g}" for v in (parameter.low, parameter.high))
            low, high = (f"{text} {parameter.unit}".strip() for text in bounds)
            writer.writerow([parameter.name, parameter.scale, low, high, _value(parameter, u), 1])
    return path


def _value(parameter: Parameter, u: float) -> str:
    return f"{parameter.written(u):.9g} {parameter.unit}".strip()


def _model(result: Result, folder: Path) -> Path:
    """Arguments of `--set` that give the estimate, one on each line."""
    path = folder / "estimates.set"
    lines = []
    for parameter, u in zip(result.problem.parameters, result.fitted.u, strict=True):
        value = _value(parameter, u)
        lines.append(
            f'{parameter.name}="{value}"' if parameter.unit else f"{parameter.name}={value}"
        )
    write_text(path, "\n".join(lines) + "\n")
    return path


def _posterior(result: Result, path: Path) -> Path:
    """The draws as ArviZ reads them: groups posterior, sample_stats, observed_data, and
    posterior_predictive (the runs of the sampled model at the estimate)."""
    xarray = require("xarray", "the file of the posterior", "fit")
    problem = result.problem
    labels = [
        ", ".join([problem.observables[d.observable].name, condition, f"{d.hours:g} h"])
        for d in problem.data
        for condition in [problem.conditions[d.condition].name or "data"]
    ]
    assert result.draws is not None
    draws = {}
    for i, p in enumerate(problem.parameters):
        written = np.vectorize(p.written)(result.draws[..., i])
        draws[p.name] = xarray.DataArray(written, dims=("chain", "draw"), attrs={"units": p.unit})
    groups = {
        "posterior": xarray.Dataset(draws, attrs={"inference": problem.settings.posterior}),
        "observed_data": xarray.Dataset({"data": ("datum", problem.measured)}, {"datum": labels}),
        "posterior_predictive": xarray.Dataset(
            {"data": (("chain", "draw", "datum"), result.sampled[None])}, {"datum": labels}
        ),
    }
    if result.statistics:
        groups["sample_stats"] = xarray.Dataset(
            {k: (("chain", "draw"), v) for k, v in result.statistics.items()}
        )
    with replacing(path) as temporary:
        xarray.DataTree.from_dict({f"/{k}": v for k, v in groups.items()}).to_netcdf(
            temporary, engine="h5netcdf"
        )
    return path
