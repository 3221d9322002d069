"""The file of a screening: which parameters of a model are varied, and what is asked of it."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lattice.engine.observe import series_units
from lattice.model import load
from lattice.model.errors import InputError
from lattice.model.kinds import Either, Integer, ListOf, MapOf, Quantity, Record, Text, did_you_mean
from lattice.model.reading import set_in_file
from lattice.model.structure import Model

SETTING = Either((Quantity(), ListOf(Quantity())))
SETTINGS = MapOf(SETTING, "What --set could say: dotted names and their values.")
ARM = Record({"set": SETTINGS})
TABLES: dict[str, Any] = {
    "schema": Integer("Version of this grammar.", 1, 1),
    "screen": Record(
        {
            "model": Text("A model file; its path is relative to this file."),
            "method": Text("Elementary effects, or variances.", ("morris", "sobol")),
            "trajectories": Integer("morris: paths through the ranges.", 2, 100_000),
            "levels": Integer("morris: values that a parameter takes; even.", 2, 100),
            "samples": Integer("sobol: a power of two.", 2, 2**20),
            "seed": Integer("Of the design and of the first replicate."),
            "replicates": Integer("Pairs of runs at each design point.", 1, 10_000),
            "until": Quantity("End of the runs; as the model says if not given.", "35 day"),
            "outcomes": ListOf(Text(), 1, doc="Names of the series, at the end of the run."),
            "set": SETTINGS,
        },
        ("model", "outcomes"),
    ),
    "reference": ARM,
    "treated": ARM,
}
PARAMETER = Record(
    {
        "name": Text("The dotted name of a number of the model."),
        "low": Quantity("The smallest value.", "0.2 /day"),
        "high": Quantity("The largest value.", "2 /day"),
        "scale": Text("How the range is divided; linear if not given.", ("linear", "log")),
    },
    ("name", "low", "high"),
)


@dataclass(frozen=True)
class Range:
    """A parameter between two values in canonical units."""

    name: str
    low: float
    high: float
    scale: str
    written: str

    def value(self, share: float) -> float:
        """The value at a share, 0 to 1, of the range."""
        if self.scale == "log":
            return math.exp((1 - share) * math.log(self.low) + share * math.log(self.high))
        return (1 - share) * self.low + share * self.high


@dataclass(frozen=True)
class Screen:
    """A screening: two arms of one model, ranges, design and outcomes."""

    name: str
    method: str
    trajectories: int
    levels: int
    samples: int
    seed: int
    replicates: int
    outcomes: tuple[str, ...]
    units: tuple[str, ...]  # of the outcomes
    ranges: tuple[Range, ...]
    reference: Model
    treated: Model

    def values(self, shares: Float[np.ndarray, "P"]) -> dict[str, float]:
        """Values of the parameters at a design point."""
        return {r.name: r.value(float(x)) for r, x in zip(self.ranges, shares, strict=True)}


def read_screen(path: Path) -> Screen:
    """Read a screening. Raises InputError naming file, key and fix."""
    tables = _tables(path)

    def refuse(key: str, problem: str) -> InputError:
        return InputError(f"{path}: {key}: {problem}")

    screen = tables["screen"]
    if screen.get("levels", 4) % 2:
        raise refuse("screen.levels", "the number of levels must be even; write 4")
    if (samples := screen.get("samples", 64)) & (samples - 1):
        raise refuse("screen.samples", f"{samples} is not a power of two; write 64")
    file = path.parent / screen["model"]
    if not file.exists():
        raise refuse(
            "screen.model", f'"{screen["model"]}" does not exist; write a path from {path}'
        )

    def model_of(settings: dict[str, Any], key: str) -> Model:
        with set_in_file(key, refuse):
            return load(file, overrides_of(settings), beside=path.parent)

    shared = dict(screen.get("set", {}))
    if "until" in screen:
        shared["time.until"] = screen["until"]
    arms = []
    for arm in ("reference", "treated"):
        settings = {**shared, **tables.get(arm, {}).get("set", {})}
        arms.append((settings, model_of(settings, f"{arm}.set")))
    ranges = tuple(_ranges(tables["parameter"], arms, refuse, model_of))
    units = _units(screen["outcomes"], [model for _, model in arms], refuse)
    return Screen(
        path.stem,
        screen.get("method", "morris"),
        screen.get("trajectories", 8),
        screen.get("levels", 4),
        samples,
        screen.get("seed", 0),
        screen.get("replicates", 1),
        tuple(screen["outcomes"]),
        units,
        ranges,
        arms[0][1],
        arms[1][1],
    )


def _tables(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise InputError(f"{path}: it cannot be read ({reason}); check the path") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: this is not valid TOML: {reason}") from None

    def refuse(key: str, problem: str) -> InputError:
        return InputError(f"{path}: {key}: {problem}")

    known = [*TABLES, "parameter"]
    for key, value in tables.items():
        if key not in known:
            raise refuse(key, f"this key is not known; {did_you_mean(key, known)}")
        if key == "parameter":
            ListOf(PARAMETER, 2, 1000).check(value, key, refuse)
        else:
            TABLES[key].check(value, key, refuse)
    for key in ("schema", "screen", "parameter"):
        if key not in tables:
            written = {"schema": "schema = 1", "screen": "[screen]", "parameter": "[[parameter]]"}
            raise refuse(key, f"this is missing; write {written[key]}")
    return tables


def overrides_of(settings: dict[str, Any]) -> list[str]:
    """Settings as texts "key=value"."""
    return [f"{key}={_text(value)}" for key, value in settings.items()]


def _text(value: Any) -> str:
    if isinstance(value, list):
        quoted = [f'"{v}"' if isinstance(v, str) else str(v) for v in value]
        return "[" + ", ".join(quoted) + "]"
    return str(value)


def _ranges(tables, arms, refuse, model_of):
    seen = set()
    for index, table in enumerate(tables):
        name, key = table["name"], f"parameter.{index}"
        model = arms[0][1]
        if name not in model.values:
            hint = did_you_mean(name, model.values)
            raise refuse(f"{key}.name", f'"{name}" is not a number of the model; {hint}')
        if name in seen:
            raise refuse(f"{key}.name", f'"{name}" has a range already; write it once')
        if any(name in settings for settings, _ in arms):
            raise refuse(
                f"{key}.name", f'"{name}" is set in an arm as well; write only one of both'
            )
        seen.add(name)
        ends = {
            end: model_of({**arms[0][0], name: table[end]}, f"{key}.{end}").values[name]
            for end in ("low", "high")
        }
        scale = table.get("scale", "linear")
        if not ends["low"] < ends["high"]:
            raise refuse(f"{key}.high", "it is not above low; write a larger value")
        if scale == "log" and not ends["low"] > 0:
            raise refuse(f"{key}.low", 'a log scale begins above 0; write more, or "linear"')
        yield Range(name, ends["low"], ends["high"], scale, f"{table['low']} to {table['high']}")


def _units(outcomes, models, refuse) -> tuple[str, ...]:
    """Units of the outcomes. Raises InputError for one that is no series of an arm."""
    for model in models:
        known = series_units(model)
        for index, name in enumerate(outcomes):
            if name not in known:
                hint = did_you_mean(name, known)
                raise refuse(f"screen.outcomes.{index}", f'"{name}" is not a series; {hint}')
    return tuple(known[name] for name in outcomes)
