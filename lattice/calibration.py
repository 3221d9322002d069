"""Calibration by feedback: numbers of a model are steered until a run stays at its targets.

One simulation goes on and on. After each interval every control multiplies its numbers by
(target / measured) ** gain, integral control in the logarithm; a negative gain lowers the numbers
where too little is measured. What is left at the end are numbers for which the state holds itself,
and that state's densities of cells, with which a model can be seeded. No gradient is needed, and
slow feedback through the bone is part of what is calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lattice.analysis.histomorphometry import DESCRIPTIONS, histomorphometry
from lattice.engine.numbers import numbers_of
from lattice.engine.observe import series_units
from lattice.engine.simulation import Simulation
from lattice.io.vtkhdf import frame
from lattice.model import load
from lattice.model.errors import InputError, NumericalError
from lattice.model.kinds import Integer, ListOf, Quantity, Record, Text, did_you_mean
from lattice.model.reading import parse_toml
from lattice.model.structure import Model
from lattice.model.units import UnitError, parse
from lattice.run import bone_of

STRONGEST = 1.4
"""No number changes by more than this factor at once."""

_TABLE = Record(
    {
        "model": Text("A model file."),
        "seed": Integer("Seed of the run.", 0, 2**63),
        "every": Quantity("Interval between corrections.", "3 day"),
        "begin": Quantity("First correction.", "6 day"),
        "until": Quantity("End of the run.", "45 day"),
    },
    ("model", "every", "until"),
)
_CONTROL = Record(
    {
        "numbers": ListOf(Text("A dotted name."), 1),
        "measure": Text("A series, by its change, or a measure of histomorphometry."),
        "per": Text("A series by whose change that of the measure is divided."),
        "target": Quantity("What it should be.", "3.2"),
        "gain": Quantity("Power of the correction.", "0.5"),
    },
    ("numbers", "measure", "target", "gain"),
)


@dataclass(frozen=True)
class Control:
    """`numbers` are steered so that `measure` (divided by `per`) becomes `target`."""

    numbers: tuple[str, ...]
    measure: str
    per: str | None
    target: float
    gain: float


@dataclass(frozen=True)
class Calibration:
    """A calibration as read; times in hours."""

    model: Model
    seed: int
    every: float
    begin: float
    until: float
    controls: tuple[Control, ...]


@dataclass(frozen=True)
class Reading:
    """After an interval: hours, what each control measured, and the numbers from now on."""

    time_h: float
    measured: tuple[float, ...]
    numbers: dict[str, float]


def load_calibration(path: Path) -> Calibration:
    """Read a calibration file. Raises InputError naming file, key and fix."""

    def refuse(key: str, problem: str) -> InputError:
        return InputError(f"{path}: {key}: {problem}")

    try:
        content = parse_toml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: this file cannot be read; write a TOML file") from None
    for key in content:
        if key not in ("schema", "calibration", "control"):
            known = ["schema", "calibration", "control"]
            raise refuse(key, f"this key is not known; {did_you_mean(key, known)}")
    Integer("", 1, 1).check(content.get("schema"), "schema", refuse)
    if "calibration" not in content or not content.get("control"):
        raise refuse("control", "nothing to steer; write [calibration] and one [[control]] or more")
    table, controls = content["calibration"], content["control"]
    _TABLE.check(table, "calibration", refuse)
    ListOf(_CONTROL, 1).check(controls, "control", refuse)

    def hours(key: str, default: str = "0 h") -> float:
        return _number(table.get(key, default), f"calibration.{key}", refuse)

    model = load(path.parent / table["model"])
    if hours("every") < model.time.step:
        raise refuse("calibration.every", "shorter than a step of the model; write a longer time")
    found = tuple(_control(c, f"control.{i}", model, refuse) for i, c in enumerate(controls))
    return Calibration(
        model, table.get("seed", 0), hours("every"), hours("begin"), hours("until"), found
    )


def _number(value, key: str, refuse) -> float:
    try:
        return float(parse(value).value)
    except UnitError as error:
        raise refuse(key, f"{error}; write it as in configs/calibrations/adult.toml") from None


def _control(table, key: str, model: Model, refuse) -> Control:
    for name in table["numbers"]:
        if name not in model.values:
            raise refuse(f"{key}.numbers", f"no number {name}; {did_you_mean(name, model.values)}")
    series = series_units(model)
    for word in ("measure", "per"):
        name = table.get(word)
        known = series if word == "per" or "per" in table else [*series, *DESCRIPTIONS]
        if name is not None and name not in known:
            raise refuse(
                f"{key}.{word}", f"nothing has the name {name}; {did_you_mean(name, known)}"
            )
    target = _number(table["target"], f"{key}.target", refuse)
    if target <= 0:
        raise refuse(f"{key}.target", "a target is a positive number; write one such as 3.2")
    gain = _number(table["gain"], f"{key}.gain", refuse)
    return Control(tuple(table["numbers"]), table["measure"], table.get("per"), target, gain)


def calibrate(
    plan: Calibration, report: Callable[[Reading], None] = lambda reading: None
) -> tuple[list[Reading], Simulation]:
    """Carry a calibration out: all readings, and the simulation at its end.

    Raises NumericalError if a measure is not a positive number."""
    model, simulation = (
        plan.model,
        Simulation(plan.model, plan.seed, bone_of(plan.model, plan.seed)),
    )
    every = round(plan.every / model.time.step)
    values: dict[str, float] = {}
    readings, rows = [], [simulation.row()]
    while simulation.time_h < plan.until * (1 - 1e-9):
        rows = [rows[-1], *simulation.advance(every, every)]
        measured = tuple(_measured(c, model, simulation, rows) for c in plan.controls)
        if simulation.time_h >= plan.begin:
            for control, value in zip(plan.controls, measured, strict=True):
                values |= _steered(control, value, model.values | values)
            simulation.numbers = numbers_of(model.with_values(**values))
        readings.append(Reading(simulation.time_h, measured, dict(values)))
        report(readings[-1])
    return readings, simulation


def _measured(control: Control, model: Model, simulation: Simulation, rows) -> float:
    def change(name: str) -> float:
        return rows[-1][name][0] - rows[0][name][0]

    if control.per is not None:
        below = change(control.per)
        value = change(control.measure) / below if below else math.nan
    elif control.measure in rows[-1]:
        value = change(control.measure)
    else:
        names = {row_name for row in rows for row_name in row}
        ledger = {n: np.array([row[n][0] for row in rows]) for n in names}
        shot = {simulation.time_h: frame(model, simulation.host_state())}
        found = histomorphometry(model, shot, ledger, parts=("cells", "flux"))
        value = found[control.measure].value if control.measure in found else math.nan
    if not value > 0:
        raise NumericalError(
            f"{control.measure} is {value:g} at {simulation.time_h:g} h, which cannot be steered "
            f"to {control.target:g}: choose another measure, or start nearer to the target"
        )
    return value


def _steered(control: Control, measured: float, values: dict[str, float]) -> dict[str, float]:
    factor = (control.target / measured) ** control.gain
    factor = min(max(factor, 1 / STRONGEST), STRONGEST)
    return {name: values[name] * factor for name in control.numbers}
