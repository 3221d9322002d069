"""Outcomes: from the time series of a run to one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from lattice.model.errors import InputError
from lattice.model.kinds import did_you_mean
from lattice.trial.measures import NAMES
from lattice.trial.structure import Outcome

if TYPE_CHECKING:
    from lattice.trial.reading import Context

__all__ = ["matching", "outcome_unit", "outcome_value", "read_outcome", "summed"]

Columns = Mapping[str, Shaped[np.ndarray, "T"]]
_NEED_TWO = ("change", "percent", "area", "mean")


def read_outcome(table: Mapping[str, Any], found: Mapping[str, str], context: Context) -> Outcome:
    """An outcome; `found` are the units of the series that runs will have. Raises InputError."""
    key, refuse = f"outcome.{table['name']}", context.refuse
    if ("series" in table) == ("histomorphometry" in table):
        raise refuse(
            key, 'an outcome has either series or histomorphometry; write series = "BV/TV"'
        )
    if "histomorphometry" in table:
        for word in ("per", "reduce", "window"):
            if word in table:
                problem = "histomorphometry measures the last snapshot; remove this key"
                raise refuse(f"{key}.{word}", problem)
        measure = table["histomorphometry"]
        if measure not in NAMES:
            problem = f'there is no measure "{measure}"; {did_you_mean(measure, NAMES)}'
            raise refuse(f"{key}.histomorphometry", problem)
        return Outcome(table["name"], measure=measure, window=(context.until, context.until))
    patterns, units = {}, {"per": ""}
    for word in ("series", "per"):
        written = table.get(word, [])
        patterns[word] = (written,) if isinstance(written, str) else tuple(written)
        if word in table:
            units[word] = matching(patterns[word], found, f"{key}.{word}", refuse)
    reduce = table.get("reduce", "last")
    default = (context.until if reduce == "last" else context.begin, context.until)
    window = default
    if "window" in table:
        first, last = (context.hours(t, f"{key}.window.{i}") for i, t in enumerate(table["window"]))
        if first > last or (first == last and reduce in _NEED_TWO):
            raise refuse(f"{key}.window", "it ends before it has begun; write [first, last]")
        window = (first, last)
    return Outcome(
        table["name"],
        patterns["series"],
        patterns["per"],
        reduce,
        window,
        unit_of_series=units["series"],
        unit_of_per=units["per"],
    )


def matching(
    patterns: Sequence[str],
    found: Mapping[str, str],
    key: str,
    refuse: Callable[[str, str], InputError],
) -> str:
    """The common unit of the series that match the patterns. Raises InputError without one."""
    units: dict[str, str] = {}
    for pattern in patterns:
        names = [n for n in found if fnmatchcase(n, pattern)]
        if not names:
            problem = f'no arm has a series "{pattern}"; {did_you_mean(pattern, found)}'
            raise refuse(key, problem)
        units |= {found[n]: n for n in names}
    if len(units) > 1:
        said = " and ".join(f"{name} in {unit}" for unit, name in units.items())
        raise refuse(key, f"{said} cannot be summed; write series of one unit")
    return next(iter(units))


def summed(patterns: Sequence[str], columns: Columns) -> Shaped[np.ndarray, "T"] | None:
    """The sum of the series that match any of the patterns; None if none does."""
    names = [n for n in columns if any(fnmatchcase(n, p) for p in patterns)]
    return sum((columns[n] for n in names[1:]), columns[names[0]] + 0.0) if names else None


def outcome_value(
    outcome: Outcome,
    time: Shaped[np.ndarray, "T"],
    columns: Columns,
    measures: Mapping[str, tuple[float, str]],
) -> float:
    """The outcome of one run; NaN where it is not defined. `time` in hours."""
    if outcome.measure is not None:
        return float(measures.get(outcome.measure, (np.nan, ""))[0])
    top = _reduced(outcome, time, summed(outcome.series, columns))
    if not outcome.per:
        return top
    bottom = _reduced(outcome, time, summed(outcome.per, columns))
    scale = 100.0 if outcome.unit_of_series == outcome.unit_of_per else 1.0
    return scale * top / bottom if bottom else float("nan")


def _reduced(outcome: Outcome, time, values) -> float:
    """One number of a series: straight lines join its rows, also at the edges of the window."""
    if values is None or not len(values):
        return float("nan")
    first, last = outcome.window
    inside = (time > first) & (time < last)
    t = np.concatenate([[first], time[inside], [last]])
    v = np.concatenate(
        [[np.interp(first, time, values)], values[inside], [np.interp(last, time, values)]]
    )
    if outcome.reduce == "last":
        return float(v[-1])
    if outcome.reduce in ("max", "min"):
        return float(v.max() if outcome.reduce == "max" else v.min())
    if outcome.reduce == "change":
        return float(v[-1] - v[0])
    if outcome.reduce == "percent":
        return float(100 * (v[-1] / v[0] - 1)) if v[0] else float("nan")
    area = float(np.trapezoid(v, t))
    return area / 24.0 if outcome.reduce == "area" else area / (last - first)


def outcome_unit(outcome: Outcome, measured: Mapping[str, str]) -> str:
    """The unit of an outcome; `measured` holds those of the measures."""
    if outcome.measure is not None:
        return measured.get(outcome.measure, "")
    unit, per = outcome.unit_of_series, outcome.unit_of_per
    if outcome.reduce == "percent":
        return "%"
    if outcome.per:
        return "%" if unit == per else f"{unit}/({per})"
    return f"{unit} day" if outcome.reduce == "area" else unit
