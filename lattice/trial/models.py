"""The model of each arm, and what arms have in common before they are treated."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np

from lattice.engine.interventions import due_steps
from lattice.model import loads
from lattice.model.errors import InputError
from lattice.model.reading import OVERRIDE
from lattice.model.structure import Model

__all__ = ["arm_model", "fingerprint", "first_change", "settings", "toml", "untreated"]


def toml(value: Any) -> str:
    """A value, as parsed from TOML, written as TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, Decimal):
        text = str(value)
        return text if re.search("[.eEn]", text) else f"{text}.0"
    return str(value)


def settings(table: Mapping[str, Any]) -> list[str]:
    """A table of settings as texts "key=value"; `a.b = 1` and `"a.b" = 1` are the same."""
    found = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            found += [f"{key}.{rest}" for rest in settings(value)]
        else:
            found.append(f"{key}={toml(value)}")
    return found


def arm_model(
    file: str,
    arm: str,
    includes: Sequence[str],
    tables: Sequence[tuple[str, Sequence[Mapping[str, Any]]]],
    overrides: Sequence[str],
) -> Model:
    """The model of an arm: files on top of one another, then tables, then settings.

    Raises InputError that names the trial's file and the arm."""
    lines = ["schema = 1", f"include = {toml(list(includes))}"]
    for kind, items in tables:
        for item in items:
            lines.append(f"[[{kind}]]")
            lines += [f"{json.dumps(key)} = {toml(value)}" for key, value in item.items()]
    folder, name = os.path.split(file)
    place = f'{name}, arm "{arm.replace("/", "-")}"'
    root = os.path.join(folder, place) if folder else place
    try:
        return loads("\n".join(lines) + "\n", overrides, folder=folder, file=place)
    except InputError as error:
        # The text was made here: its lines are not those of any file.
        said = re.sub(re.escape(root) + r":\d+:", root + ":", str(error))
        if said.startswith(f"{OVERRIDE}: "):
            said = f"{root}: set: {said.removeprefix(f'{OVERRIDE}: ')}"
        raise InputError(said) from None


def untreated(model: Model, hours: float) -> Model:
    """The model without the interventions that do not act in the first `hours`."""
    steps = round(hours / model.time.step)
    acts = np.atleast_1d(due_steps(model, 0, steps).any(axis=0))
    kept = tuple(i for i, on in zip(model.interventions, acts, strict=True) if on)
    gone = {i.name for i in model.interventions} - {i.name for i in kept}
    parameters = tuple(
        p
        for p in model.parameters
        if not (p.name.startswith("intervention.") and p.name.split(".")[1] in gone)
    )
    return replace(model, interventions=kept, parameters=parameters)


def essence(model: Model) -> dict[str, Any]:
    """What decides the bits of a run and the rows of its series, as JSON types."""
    return {
        "structure": _plain(model.structure),
        "geometry": _plain(model.geometry),
        "until": model.time.until,
        "series": model.output.series,
        "labels": list(model.output.label_times),
        "values": model.values,
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def fingerprint(model: Model) -> str:
    """SHA-256 of the `essence` of a model."""
    text = json.dumps(essence(model), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def first_change(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str | None:
    """The first place at which two essences differ, with both values; None if they are equal."""
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        name = key if path in ("", "values") else f"{path}.{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found = first_change(a, b, name)
            if found is not None:
                return found
        elif a != b:
            short = not isinstance(a, list | dict) and not isinstance(b, list | dict)
            return f"{name} was {_said(a)} and is {_said(b)} now" if short else f"{name} differs"
    return None


def _said(value: Any) -> str:
    return "absent" if value is None else str(value)
