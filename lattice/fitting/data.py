"""From lines of measurements to data: replicates gathered, on the scale of their observable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lattice.fitting.structure import LOG10, Condition, Datum, Observable
from lattice.fitting.tables import Row
from lattice.model import units
from lattice.model.kinds import did_you_mean

TIME_EXAMPLE = 'write a time with its unit, as "7 day", or give time_unit in the fit file'


def gather(
    rows: Sequence[Row],
    observable_rows: Sequence[Row],
    observables: Sequence[Observable],
    conditions: Sequence[Condition],
    *,
    time_unit: str | None,
    model_scatter: bool,
) -> tuple[Datum, ...]:
    """The data, one for each observable, condition and time. Raises InputError naming the line."""
    names = [o.name for o in observables]
    noises = {r.need("observableId"): r for r in observable_rows}
    groups: dict[tuple[int, int, float], list[tuple[Row, float]]] = {}
    for row in rows:
        name = row.need("observableId")
        if name not in names:
            hint = did_you_mean(name, names)
            raise row.refuse("observableId", f'"{name}" is not in the table of observables; {hint}')
        observable = observables[names.index(name)]
        condition = condition_of(row, conditions)
        hours = hours_of(row, time_unit, conditions[condition])
        unit = row.get("unit")
        if unit and unit != observable.unit:
            raise row.refuse("unit", f'{name} is in "{observable.unit}", not in "{unit}"')
        key = (condition, names.index(name), hours)
        groups.setdefault(key, []).append((row, _measurement(row, observable)))
    unused = [r for r in observable_rows if r.need("observableId") not in _measured(names, groups)]
    if unused:
        raise unused[0].refuse("observableId", "nothing of it was measured; leave the line out")
    return _with_noise(groups, observables, noises, model_scatter)


def _measured(names, groups) -> set[str]:
    return {names[observable] for _, observable, _ in groups}


def condition_of(row: Row, conditions: Sequence[Condition]) -> int:
    """Which of the conditions a line names. Raises InputError."""
    known = [c.name for c in conditions]
    name = row.get("simulationConditionId")
    if name in known:
        return known.index(name)
    if known == [""]:
        raise row.refuse(
            "simulationConditionId", "there is no table of conditions; name one in the fit file"
        )
    hint = did_you_mean(name, known)
    raise row.refuse("simulationConditionId", f'"{name}" is not in the table of conditions; {hint}')


def hours_of(row: Row, time_unit: str | None, condition: Condition) -> float:
    """The time of a line in hours. Raises InputError."""
    written = row.need("time")
    try:
        parsed = units.parse(written)
        if parsed.bare and time_unit is not None:
            parsed = units.parse(f"{written} {time_unit}")
    except units.UnitError as error:
        raise row.refuse("time", f"{error}; {TIME_EXAMPLE}") from None
    if parsed.exponents != units.DIMENSIONS["time"].exponents or parsed.value < 0:
        raise row.refuse("time", f'"{written}" is no time; {TIME_EXAMPLE}')
    hours = float(parsed.value)
    if hours > condition.model.time.until * (1 + 1e-9):
        raise row.refuse(
            "time", f"{written} lies after the end of the model (time.until); write an earlier one"
        )
    return hours


def _measurement(row: Row, observable: Observable) -> float:
    value = row.number("measurement")
    if not observable.log:
        return value
    if value <= 0:
        raise row.refuse(
            "measurement",
            f"{value:g} has no logarithm; write lin as observableTransformation of "
            f"{observable.name}, or leave the line out",
        )
    return math.log(value)


def _with_noise(groups, observables, noises, model_scatter: bool) -> tuple[Datum, ...]:
    """The data with their noise: as written, else from replicates, else None (the model's)."""
    data = []
    for (condition, o, hours), entries in sorted(groups.items()):
        values = [value for _, value in entries]
        noise = _written_noise(entries, observables[o], noises[observables[o].name])
        first = entries[0][0].line
        data.append(Datum(condition, o, hours, float(np.mean(values)), len(values), noise, first))
    if model_scatter:
        return tuple(data)
    for o, observable in enumerate(observables):
        missing = [i for i, d in enumerate(data) if d.observable == o and d.noise is None]
        if missing:
            spreads = _spreads(groups, data, o, missing, observable)
            for i, spread in zip(missing, spreads, strict=True):
                data[i] = replace(data[i], noise=spread)
    return tuple(data)


def _written_noise(entries, observable: Observable, observable_row: Row) -> float | None:
    """Standard deviation of one measurement as the tables say; None where they say nothing."""
    found = set()
    for row, _ in entries:
        if "noiseParameters" in row.cells:
            found.add(positive_in(row, "noiseParameters"))
        elif "noiseFormula" in observable_row.cells:
            found.add(positive_in(observable_row, "noiseFormula"))
        else:
            found.add(None)
    if len(found) > 1:
        raise entries[0][0].refuse(
            "noiseParameters", "replicates of one measurement have different noise; write one"
        )
    noise = found.pop()
    scale = observable_row.choice("observableTransformation", ("lin", "log", "log10"), "lin")
    observable_row.choice("noiseDistribution", ("normal",), "normal")
    return noise * LOG10 if noise is not None and scale == "log10" else noise


def positive_in(row: Row, column: str) -> float:
    """A standard deviation. Raises InputError."""
    value = row.number(column)
    if value <= 0:
        raise row.refuse(column, f"{value:g} is no standard deviation; write a number above 0")
    return value


def _spreads(groups, data, o: int, missing: Sequence[int], observable: Observable) -> list[float]:
    """Standard deviations from replicates, pooled over times and conditions: on a logarithmic scale
    as they are, else relative to the mean, since few replicates tell little about each."""
    values = {i: _values(groups, data[i]) for i in missing}
    scale = {i: 1.0 if observable.log else abs(data[i].mean) for i in missing}
    repeated = [i for i in missing if len(values[i]) > 1 and scale[i] > 0]
    freedom = sum(len(values[i]) - 1 for i in repeated)
    squares = sum(
        np.sum((np.array(values[i]) - data[i].mean) ** 2) / scale[i] ** 2 for i in repeated
    )
    if not freedom or not squares > 0:
        row = groups[data[missing[0]].condition, o, data[missing[0]].hours][0][0]
        raise row.refuse(
            "noiseParameters",
            f"{observable.name} has no noise and no replicates that differ; write its standard "
            "deviation there (or as noiseFormula), add replicates, or set add_model_scatter",
        )
    relative = math.sqrt(squares / freedom)
    typical = float(np.mean([s for s in scale.values() if s > 0]))
    # Where the mean is 0 a relative spread is none: the typical one stands in.
    return [relative * (scale[i] if scale[i] > 0 else typical) for i in missing]


def _values(groups, datum: Datum) -> list[float]:
    return [v for _, v in groups[datum.condition, datum.observable, datum.hours]]
