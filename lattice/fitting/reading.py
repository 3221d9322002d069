"""From a fit file and its tables to a `Problem`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lattice.analysis.histomorphometry import DESCRIPTIONS
from lattice.analysis.labels import DESCRIPTIONS as LABELLED
from lattice.analysis.layers import Regions
from lattice.engine.observe import series_units
from lattice.fitting.data import condition_of, gather
from lattice.fitting.formula import Formula, FormulaError, read_formula
from lattice.fitting.scans import scan_data, scan_observables, with_first_scan
from lattice.fitting.structure import (
    LOG10,
    Condition,
    Datum,
    Observable,
    Parameter,
    Problem,
    Settings,
)
from lattice.fitting.tables import Row, read_table, unique
from lattice.inference.observables import known_observables
from lattice.inference.relaxation import READINGS
from lattice.model import load
from lattice.model.errors import InputError
from lattice.model.kinds import Flag, Integer, ListOf, Quantity, Record, Text, did_you_mean
from lattice.model.reading import parse_toml, set_in_file
from lattice.model.structure import Model

TABLE = Record(
    {
        "name": Text("What the fit is called."),
        "model": Text("A model file."),
        "set": ListOf(Text('Numbers of the model changed in all conditions: "key=value".')),
        "parameters": Text("Table of what is to be estimated."),
        "observables": Text("Table of what was measured."),
        "conditions": Text("Table of the experiments; without it there is one, the model itself."),
        "measurements": Text("Table of the data."),
        "images": Text("Table of later scans; the first one is geometry.image of the model."),
        "image_regions": ListOf(
            Integer("", 1, 16), 3, 3, "Parts of a scan along z, y, x that are compared apart."
        ),
        "image_shows": Text("What a scanner sees.", ("mineral", "matrix")),
        "time_unit": Text("Unit of bare numbers in the column time.", ("min", "h", "day", "week")),
        "reading": Text("The relaxation.", READINGS),
        "seed": Integer("Seed of starts and of sampled runs.", 0, 2**63),
        "runs": Integer("Sampled runs of each condition in an iteration.", 2, 10_000),
        "iterations": Integer("Iterations of offset and search.", 1, 1000),
        "starts": Integer("Starts of the first search.", 1, 1000),
        "spread": Quantity("Distance of the other starts from the first, on the scale.", "0.5"),
        "region": Quantity("Longest step of the second iteration, on the scale.", "0.5"),
        "final_runs": Integer("Sampled runs at the estimate.", 2, 100_000),
        "add_model_scatter": Flag(
            "The noise in the tables is of measuring alone: add how sampled runs scatter."
        ),
        "gradient_check": Integer(
            "Seeds of coupled differences that check the relaxation's gradient; 0: none.",
            0,
            100_000,
        ),
        "posterior": Text("How the posterior is drawn.", ("nuts", "laplace", "none")),
        "draws": Integer("Draws of each of the four chains.", 10, 1_000_000),
        "profiles": Flag("Profile likelihoods of every parameter."),
        "polish": Integer("Gauss-Newton steps on coupled runs at the end; 0: none.", 0, 100),
        "cross_check": Text("A second search, on sampled runs alone.", ("none", "cma")),
        "cross_check_runs": Integer(
            "Sampled runs of each condition for it; 0: ten times those of the search.", 0, 10**7
        ),
        "polish_seeds": Integer("Seeds of their Jacobian; at least 100 for errors.", 2, 100_000),
    },
    ("model", "parameters"),
)
SCALES = ("lin", "log", "log10")
TABLES_OF_DATA = ("observables", "measurements")


def load_fit(path: Path, overrides: Sequence[str] = ()) -> Problem:
    """Read a fit file, its model and its tables. `overrides` are texts "key=value" for the table
    [fit]. Raises InputError naming file, line or key, and the fix."""

    def refuse(key: str, problem: str) -> InputError:
        return InputError(f"{path}: {key}: {problem}")

    table = _fit_table(path, overrides, refuse)
    folder = path.parent
    shared = list(table.get("set", ()))

    def model_with(more: Sequence[str] = ()) -> Model:
        return load(folder / table["model"], [*shared, *more], beside=folder)

    with set_in_file("fit.set", refuse):
        model = model_with()
    conditions = (Condition("", model),)
    if "conditions" in table:
        conditions = _conditions(read_table(folder / table["conditions"], "conditions"), model_with)
    rows = read_table(folder / table["parameters"], "parameters")
    parameters = _parameters(rows, model, model_with, conditions)
    observables, data = _measurements(table, folder, model, conditions, refuse)
    if "images" in table:
        conditions, seen, scans = _images(table, folder, conditions, len(observables), refuse)
        observables, data = observables + seen, data + scans
    settings = {k: v for k, v in table.items() if k in Settings.__dataclass_fields__}
    for key in ("spread", "region"):
        if key in settings:
            settings[key] = positive(settings[key], f"fit.{key}", refuse)
    name = table.get("name", path.stem)
    return Problem(name, str(path), parameters, conditions, observables, data, Settings(**settings))


def _measurements(
    table: dict[str, Any], folder: Path, model: Model, conditions: Sequence[Condition],
    refuse: Callable,
) -> tuple[tuple[Observable, ...], tuple[Datum, ...]]:  # fmt: skip
    """What the tables of observables and of measurements say; nothing where neither is named."""
    for key in TABLES_OF_DATA:
        if key not in table and ("images" not in table or {*TABLES_OF_DATA} & {*table}):
            raise refuse(f"fit.{key}", f'this key is missing; write {key} = "{key}.tsv"')
    if "measurements" not in table:
        return (), ()
    path = folder / table["measurements"]
    rows = read_table(folder / table["observables"], "observables")
    observables = _observables(rows, model)
    data = gather(
        read_table(path, "measurements"), rows, observables, conditions,
        time_unit=table.get("time_unit"), model_scatter=table.get("add_model_scatter", False),
    )  # fmt: skip
    check_labels(path, conditions, observables, data)
    return observables, data


def _images(
    table: dict[str, Any], folder: Path, conditions: Sequence[Condition], first: int,
    refuse: Callable,
) -> tuple[tuple[Condition, ...], tuple[Observable, ...], tuple[Datum, ...]]:  # fmt: skip
    """The conditions with their first scans, and what later ones show as data."""
    if table.get("reading") != "mean_field":
        raise refuse("fit.reading", 'images need single voxels; write reading = "mean_field"')
    if not table.get("add_model_scatter"):
        raise refuse(
            "fit.add_model_scatter",
            "a scan is one realisation, which scatters as the sampled model does; write true",
        )
    rows = read_table(folder / table["images"], "images")
    regions: Regions = tuple(table.get("image_regions", (1, 1, 1)))  # pyright: ignore
    osteoid = table.get("image_shows") == "matrix"
    scanned = {condition_of(row, conditions): row for row in reversed(rows)}
    found = tuple(
        with_first_scan(c, regions, osteoid, scanned[k]) if k in scanned else c
        for k, c in enumerate(conditions)
    )
    data = scan_data(rows, found, first, table.get("time_unit"))
    return found, scan_observables(regions), data


def _fit_table(path: Path, overrides: Sequence[str], refuse: Callable) -> dict[str, Any]:
    content = content_of(path, ("schema", "fit"), refuse)
    if "fit" not in content:
        raise refuse("fit", "this table is missing; write [fit]")
    table = with_overrides(content["fit"], "fit", overrides)
    TABLE.check(table, "fit", refuse)
    return table


def content_of(path: Path, known: Sequence[str], refuse: Callable) -> dict[str, Any]:
    """A file of TOML of schema 1 with nothing but the `known` keys. Raises InputError."""
    try:
        content = parse_toml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: this file cannot be read; write a TOML file") from None
    for key in content:
        if key not in known:
            raise refuse(key, f"this key is not known; {did_you_mean(key, known)}")
    Integer("", 1, 1).check(content.get("schema"), "schema", refuse)
    return content


def with_overrides(found: Any, name: str, overrides: Sequence[str]) -> Any:
    """A table with some of its keys replaced; what is no table is left to the check."""
    if not isinstance(found, dict):
        return found
    table = dict(found)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f'--set {text}: write it as key=value, such as "runs=16"')
        key = key.strip().removeprefix(f"{name}.")
        try:
            table |= parse_toml(f"{key} = {value}", "--set")
        except InputError:
            table[key] = value.strip()
    return table


def positive(value: Any, key: str, refuse: Callable) -> float:
    """A number above 0. Raises InputError."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise refuse(key, f"{value} is no positive number; write one such as 0.5")
    return number


def _conditions(rows: Sequence[Row], model_with: Callable) -> tuple[Condition, ...]:
    unique(rows, "conditionId")
    found = []
    for row in rows:
        changes = {k: v for k, v in row.cells.items() if not k.startswith("condition")}
        found.append(Condition(row.need("conditionId"), _set(row, changes, model_with)))
    return tuple(found)


def _set(row: Row, changes: Mapping[str, str], model_with: Callable) -> Model:
    """The model with some keys set. Raises InputError naming the line."""
    if not changes:
        return model_with()
    try:
        return model_with([f"{key}={value}" for key, value in changes.items()])
    except InputError as error:
        raise InputError(f"{row.path}: line {row.line}: {error}") from None


def _parameters(
    rows: Sequence[Row], model: Model, model_with: Callable, conditions: Sequence[Condition]
) -> tuple[Parameter, ...]:
    unique(rows, "parameterId")
    estimated = [row for row in rows if row.choice("estimate", ("0", "1"), "1") == "1"]
    if not estimated:
        raise rows[0].refuse("estimate", "nothing is estimated; write 1 in one line or more")
    for row in estimated:
        name = row.need("parameterId")
        if name not in model.values:
            hint = did_you_mean(name, model.values)
            raise row.refuse("parameterId", f'"{name}" is no number of the model; {hint}')
        if name in schedule_names(model):
            raise row.refuse(
                "parameterId",
                f"{name} is a time of a schedule, which moves in whole steps and has no "
                "derivative; estimate another number, or choose times by `osteolattice design`",
            )
        for condition in conditions:
            if condition.model.values.get(name) != model.values[name]:
                raise row.refuse(
                    "parameterId",
                    f"{name} is set by the condition {condition.name} too; leave one of them out",
                )
    return tuple(_parameter(row, model, model_with) for row in estimated)


def schedule_names(model: Model) -> set[str]:
    """The numbers of a model that tell when an intervention acts."""
    schedules = [i.schedule for i in model.interventions]
    return {n for s in schedules for n in (s.start, s.stop, s.every, *s.at) if n is not None}


def check_labels(
    path: Path,
    conditions: Sequence[Condition],
    observables: Sequence[Observable],
    data: Sequence[Datum],
) -> None:
    """Refuse what fluorochrome labels cannot show at its time. Raises InputError."""
    for datum in data:
        observable, model = observables[datum.observable], conditions[datum.condition].model
        seen = [n for n in observable.formula.names if n in LABELLED]
        times = model.output.label_times
        if not seen or (times and datum.hours >= times[-1]):
            continue
        if times:
            problem = f"{observable.name} at {datum.hours:g} h comes before the labels have been "
            raise InputError(f"{path}: {problem}taken up, at {times[-1]:g} h; write a later time")
        raise InputError(
            f"{path}: {observable.name} needs {seen[0]}, which two labels show; write "
            'output.labels, such as ["26 day", "33 day"], in the model file'
        )


def _parameter(row: Row, model: Model, model_with: Callable) -> Parameter:
    name, scale = row.need("parameterId"), row.choice("parameterScale", SCALES, "log10")

    def canonical(column: str) -> float:
        written = row.need(column)
        if column != "nominalValue" and parts(written)[1] != parts(row.need("lowerBound"))[1]:
            raise row.refuse(column, f"{written} has another unit than lowerBound; write one unit")
        try:
            return model_with([f"{name}={quoted(written)}"]).values[name]
        except InputError as error:
            raise row.refuse(column, str(error)) from None

    low, high = canonical("lowerBound"), canonical("upperBound")
    start = canonical("nominalValue") if "nominalValue" in row.cells else model.values[name]
    if scale != "lin" and low <= 0:
        raise row.refuse(
            "lowerBound", f"{row.get('lowerBound')} has no logarithm; write one above 0, or lin"
        )
    if not low < high:
        raise row.refuse("upperBound", "not above lowerBound; write a higher one")
    if not low <= start <= high:
        where = "nominalValue" if "nominalValue" in row.cells else "lowerBound"
        raise row.refuse(where, f"the start {start:g} lies outside of the bounds; widen them")
    number, unit = parts(row.need("upperBound"))
    factor = high / number if number else 1.0
    prior = _prior(row, scale)
    return Parameter(name, scale, low, high, start, unit, factor, prior)


def parts(written: str) -> tuple[float, str]:
    """Number and unit of what `units.parse` has read already; (0, "") of anything else."""
    match = re.fullmatch(r"([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*(.*)", written)
    return (float(match[1]), match[2]) if match else (0.0, "")


def quoted(written: str) -> str:
    return f'"{written}"' if parts(written)[1] else written


def _prior(row: Row, scale: str) -> tuple[float, float] | None:
    """Mean and standard deviation on the scale of the fit (natural logarithms)."""
    known = ("parameterScaleUniform", "parameterScaleNormal", "logNormal")
    kind = row.choice("objectivePriorType", known, "parameterScaleUniform")
    if kind == "parameterScaleUniform":
        return None
    if kind == "logNormal" and scale == "lin":
        raise row.refuse("objectivePriorType", "logNormal needs the parameterScale log or log10")
    written = row.need("objectivePriorParameters").split(";")
    if len(written) != 2:
        raise row.refuse("objectivePriorParameters", "write mean;standard deviation")
    mean, sd = (row.number("objectivePriorParameters", text) for text in written)
    if sd <= 0:
        raise row.refuse("objectivePriorParameters", "the standard deviation must be above 0")
    unit = LOG10 if scale == "log10" and kind == "parameterScaleNormal" else 1.0
    return mean * unit, sd * unit


def _observables(rows: Sequence[Row], model: Model) -> tuple[Observable, ...]:
    unique(rows, "observableId")
    relaxed = known_observables(model)
    sampled = [*series_units(model), *DESCRIPTIONS]

    def formula(row: Row, column: str, known) -> Formula:
        try:
            return read_formula(row.need(column), known)
        except FormulaError as error:
            raise row.refuse(column, str(error)) from None

    found = []
    for row in rows:
        asked = formula(row, "observableFormula", sampled)
        beyond = [name for name in asked.names if name not in relaxed]
        if "surrogateFormula" in row.cells:
            surrogate = formula(row, "surrogateFormula", relaxed)
        elif beyond:
            raise row.refuse(
                "surrogateFormula",
                f"relaxations do not give {beyond[0]}; write a formula that is nearly "
                "proportional, such as osteoblast + osteocyte",
            )
        else:
            surrogate = asked
        log = row.choice("observableTransformation", SCALES, "lin") != "lin"
        name, unit = row.need("observableId"), row.get("unit")
        known_unit = series_units(model).get(row.need("observableFormula"))
        if unit and known_unit and unit != known_unit:
            raise row.refuse("unit", f'{name} is in "{known_unit}", not in "{unit}"')
        found.append(Observable(name, asked, surrogate, log, unit or known_unit or ""))
    return tuple(found)
