"""Sampled runs of a fitting problem: what the simulator itself says about all data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from lattice.analysis.histomorphometry import DESCRIPTIONS, histomorphometry, parts_for
from lattice.engine.simulation import Simulation
from lattice.fitting.scans import changed_volumes, shown_bone
from lattice.fitting.structure import FirstScan, Problem
from lattice.inference.ensemble import batches, courses_here
from lattice.inference.observables import known_observables
from lattice.inference.relaxation import steps_of
from lattice.inference.sharing import each_on_a_device, local_devices
from lattice.io.vtkhdf import frame
from lattice.model.errors import NumericalError
from lattice.model.structure import Model
from lattice.recording import copied
from lattice.run import bone_of

TOGETHER = 64
"""Seeds that one call runs where nothing but series of a lattice without bone is asked."""

Keep = Callable[[Float[np.ndarray, "N M"]], None]


def sample(
    problem: Problem,
    u: Float[np.ndarray, "P"],
    seeds: Sequence[int],
    *,
    jobs: int | None = None,
    known: Float[np.ndarray, "N M"] | None = None,
    keep: Keep = lambda found: None,
) -> Float[np.ndarray, "N M"]:
    """All data as sampled runs with these seeds show them, on the scales of the observables.

    A run makes its synthetic bone from its own seed, as `osteolattice run` does. On a logarithmic
    scale what is not above 0 counts as half of the least that was measured. The devices of this
    process, at most `jobs` of them, share the runs. Where `known` is no NaN it is kept, and not run
    again; `keep` is handed what is there, NaN elsewhere, whenever more has ended."""
    values = problem.canonical(u)
    shape = (len(seeds), len(problem.data))
    found = np.full(shape, np.nan) if known is None else known.copy()
    devices = local_devices(jobs)
    tasks = [
        (condition, rows)
        for condition in sorted({d.condition for d in problem.data})
        for rows in _batches(problem, condition, found, len(devices))
    ]
    models = {
        condition: problem.conditions[condition].model.with_values(**values)
        for condition in {condition for condition, _ in tasks}
    }

    def courses(task):
        condition, rows = task
        return _courses(problem, condition, models[condition], [seeds[row] for row in rows])

    def read(place: int, courses) -> None:
        condition, rows = tasks[place]
        for row, course in zip(rows, courses, strict=True):
            _read(problem, condition, course, found[row])
        keep(found)

    each_on_a_device(courses, tasks, devices, read)
    return found


def _batches(
    problem: Problem, condition: int, found: Float[np.ndarray, "N M"], devices: int
) -> list[Sequence[int]]:
    """Rows of the runs of a condition that are missing, in parts that one call makes."""
    here = [d.condition == condition for d in problem.data]
    missing = [int(row) for row in np.flatnonzero(np.isnan(found[:, here]).any(axis=1))]
    geometry = problem.conditions[condition].model.geometry
    alike = geometry.kind == "empty" and not _measures(problem)
    return batches(missing, TOGETHER if alike else 1, devices)


def _measures(problem: Problem) -> list[str]:
    """Names that only histomorphometry gives, only a scan, or only the series of a run."""
    return [
        n
        for o in problem.observables
        for n in o.formula.names
        if n not in known_observables(problem.conditions[0].model)
    ]


def _courses(
    problem: Problem, condition: int, model: Model, seeds: Sequence[int]
) -> list[dict[float, dict[str, float]]]:
    """For each seed: hours -> name -> value."""
    hours = (0.0, *(h for h in problem.hours(condition) if h > 0))
    used = {d.observable for d in problem.data if d.condition == condition}
    names = sorted({n for o in used for n in problem.observables[o].formula.names})
    if _measures(problem):
        scan = problem.conditions[condition].scan
        return [_measured_course(model, seed, hours, names, scan) for seed in seeds]
    bone = bone_of(model, seeds[0])
    steps = [int(s) for s in steps_of(model, hours)]
    table = courses_here(model, names, steps, list(seeds), bone)
    return [
        {h: dict(zip(names, row, strict=True)) for h, row in zip(hours, rows, strict=True)}
        for rows in table
    ]


def _measured_course(
    model: Model, seed: int, hours, names, scan: FirstScan | None
) -> dict[float, dict[str, float]]:
    """A run whose state is measured at some times as a laboratory would, or shown by a scanner."""
    simulation = Simulation(model, seed, bone_of(model, seed))
    rows, course, parts = [simulation.row()], {}, parts_for(names)
    marks = model.output.label_times if "labels" in parts else ()
    times = sorted({*hours, *(t for t in marks if t < hours[-1])})
    shots, first = {}, np.zeros(0, bool)
    for time, step in zip(times, steps_of(model, times), strict=True):
        if step > simulation.step:
            rows += simulation.advance(int(step) - simulation.step, int(step) - simulation.step)
        if "labels" in parts and (time == 0 or time in marks):
            shots[simulation.time_h] = copied(frame(model, simulation.host_state()))
        if time not in hours:
            continue
        row: Mapping[str, tuple[float, str]] = rows[-1]
        known = {n: float(row[n][0]) for n in names if n in row}
        if scan is not None:
            shown = shown_bone(simulation.host_state(), scan.classes.osteoid)
            first = shown if time == 0 else first
            changed = changed_volumes(scan, first, shown)
            known |= {n: changed[n] for n in names if n in changed}
        if len(known) < len(names):
            ledger = {n: np.array([r[n][0] for r in rows]) for n in row}
            shot = shots | {simulation.time_h: frame(model, simulation.host_state())}
            found = histomorphometry(model, shot, ledger, parts=parts)
            missing = [n for n in names if n not in known and n not in found]
            if missing and time > 0:
                raise NumericalError(
                    f"{missing[0]} ({DESCRIPTIONS.get(missing[0], 'a series')}) cannot be measured "
                    f"at {time:g} h; measure something else"
                )
            known |= {n: float(found[n].value) for n in names if n in found and n not in known}
            known |= {n: float("nan") for n in missing}
        course[time] = known
    return course


def _read(problem: Problem, condition: int, course, into: Float[np.ndarray, "M"]) -> None:
    for place, datum in enumerate(problem.data):
        if datum.condition != condition:
            continue
        observable = problem.observables[datum.observable]
        value = float(observable.formula(course[datum.hours], course[0.0]))
        if observable.log:
            least = min(d.mean for d in problem.data if d.observable == datum.observable)
            value = float(np.log(max(value, 0.5 * np.exp(least))))
        if not np.isfinite(value):
            raise NumericalError(
                f"{observable.name} of a sampled run is no number at {datum.hours:g} h: its "
                f"formula {observable.formula.text} divides by 0 there; write another one"
            )
        into[place] = value
