"""The files of a finished design: JSON, a table of all points, and arguments of --set."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from lattice.fitting.design import Design
from lattice.fitting.design_conduct import DesignResult, difference, interval
from lattice.fitting.design_search import Point, Sampled
from lattice.fitting.result import GRADIENT
from lattice.fitting.structure import Parameter
from lattice.io.files import replacing, write_text

SCANNED = (
    "discrete scan of a relaxation ({reading}), with the offset of sampled runs: times are turned "
    "into steps, which have no derivative"
)


def searched_by(design: Design, index: int) -> str:
    """How a variable was searched, by its right name."""
    text = SCANNED if design.timing[index] else GRADIENT
    return text.format(reading=design.problem.settings.reading.replace("_", " "))


def summary(result: DesignResult) -> dict[str, Any]:
    """All that the design found, for machines; numbers in the units of the file."""
    design = result.design
    problem = design.problem
    ratios = [p.mean[0] / p.relaxed[0] for p in result.points if p.relaxed[0]]
    return {
        "design": problem.name,
        "outcome": problem.observables[0].name,
        "unit": problem.observables[0].unit,
        "goal": "most" if design.goal > 0 else "least",
        "variables": [
            {
                "name": p.name,
                "unit": p.unit,
                "value": p.written(u),
                "searched_by": searched_by(design, i),
            }
            for i, (p, u) in enumerate(zip(problem.parameters, result.treated.u, strict=True))
        ],
        "treated": _arm(result, result.treated),
        "untreated": _arm(result, result.untreated),
        "gain": _difference(result.treated, result.untreated),
        "verdict": verdict(result),
        "constraints": [
            {
                "name": o.name,
                "verdict": kept(design, result.treated, m),
                "limits": _limits(design, m),
            }
            for m, o in enumerate(problem.observables)
            if m
        ],
        "search": {"points": len(result.points), "sampled_runs": result.search_runs},
        "grid": _grid(result),
        "sampled_over_relaxed": [min(ratios), max(ratios)] if ratios else [],
        "final_runs_of_each_arm": len(result.treated.sampled),
        "notes": list(result.notes),
    }


def _arm(result: DesignResult, arm: Sampled) -> dict[str, Any]:
    """Name of outcome or constraint -> mean and 95 % interval."""
    names = [o.name for o in result.design.problem.observables]
    found = {}
    for m, name in enumerate(names):
        mean, low, high = interval(arm, m)
        found[name] = {"mean": mean, "interval_95": [low, high]}
    return found


def _difference(new: Sampled, old: Sampled) -> dict[str, Any]:
    mean, low, high = difference(new, old)
    return {"mean": mean, "interval_95": [low, high]}


def _limits(design: Design, row: int) -> dict[str, float]:
    sides = zip(("least", "most"), design.limits[row], strict=True)
    return {name: float(limit) for name, limit in sides if np.isfinite(limit)}


def _grid(result: DesignResult) -> dict[str, Any] | None:
    if result.gridded is None:
        return None
    problem = result.design.problem
    values = zip(problem.parameters, result.gridded.u, strict=True)
    return {
        "points": len(result.grid),
        "sampled_runs": result.grid_runs,
        "values": {p.name: p.written(u) for p, u in values},
        "arm": _arm(result, result.gridded),
        "design_minus_grid": _difference(result.treated, result.gridded),
    }


def kept(design: Design, arm: Sampled, row: int) -> str:
    """Whether an arm keeps a limit, as far as its runs tell."""
    low, high = design.limits[row]
    _, below, above = interval(arm, row)
    if above < low or below > high:
        return "broken"
    return "kept" if below >= low and above <= high else "undecided"


def verdict(result: DesignResult) -> str:
    """Whether the treatment is better than none, as far as fresh runs tell."""
    _, low, high = difference(result.treated, result.untreated)
    if result.design.goal < 0:
        low, high = -high, -low
    if low > 0:
        return "better than untreated"
    return "worse than untreated" if high < 0 else "undecided"


def write_result(result: DesignResult, folder: Path) -> list[Path]:
    """Write the files; returns their paths. Raises StorageError."""
    report = folder / "design.json"
    write_text(report, json.dumps(summary(result), indent=1) + "\n")
    settings = folder / "treatment.set"
    problem = result.design.problem
    pairs = zip(problem.parameters, result.treated.u, strict=True)
    write_text(settings, "".join(f"{_setting(p, u)}\n" for p, u in pairs))
    return [report, _table(result, folder / "points.csv"), settings]


def _setting(parameter: Parameter, u: float) -> str:
    value = f"{parameter.written(u):.9g}"
    return (
        f'{parameter.name}="{value} {parameter.unit}"'
        if parameter.unit
        else f"{parameter.name}={value}"
    )


def _table(result: DesignResult, path: Path) -> Path:
    """Every sampled point, one on each line."""
    problem = result.design.problem
    head = [
        "kind",
        "point",
        *(f"{p.name} ({p.unit})" if p.unit else p.name for p in problem.parameters),
    ]
    for o in problem.observables:
        head += [o.name, f"{o.name}, standard error", f"{o.name}, relaxation"]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*head, "runs", "within limits"])
        for kind, points in (("search", result.points), ("grid", result.grid)):
            for k, point in enumerate(points):
                writer.writerow([kind, k, *_row(result, point)])
        writer.writerow(["treated", "", *_row(result, result.treated)])
        if result.gridded is not None:
            writer.writerow(["best of the grid", "", *_row(result, result.gridded)])
        writer.writerow(["untreated", "", *_row(result, result.untreated)])
    return path


def _row(result: DesignResult, point: Sampled) -> list[object]:
    problem = result.design.problem
    numbers: list[object] = [
        f"{p.written(u):.6g}" for p, u in zip(problem.parameters, point.u, strict=False)
    ]
    numbers += [""] * (len(problem.parameters) - len(numbers))
    for m, (mean, error) in enumerate(zip(point.mean, point.error, strict=True)):
        relaxed = f"{point.relaxed[m]:.6g}" if isinstance(point, Point) else ""
        numbers += [f"{mean:.6g}", f"{error:.3g}", relaxed]
    return [*numbers, len(point.sampled), int(result.design.violation(point.mean) == 0)]
