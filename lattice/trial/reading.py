"""From a trial file to a `Trial`: read, checked, each arm with its model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lattice.engine.observe import series_units
from lattice.model import units
from lattice.model.errors import InputError
from lattice.model.kinds import Integer, did_you_mean
from lattice.model.reading import parse_toml
from lattice.model.structure import Model
from lattice.trial.claims import read_finding
from lattice.trial.grammar import ARM, FINDING, OUTCOME, TABLES, TRIAL
from lattice.trial.models import arm_model, essence, fingerprint, first_change, settings, untreated
from lattice.trial.outcomes import matching, read_outcome
from lattice.trial.structure import Arm, Trial

__all__ = ["load_trial"]

SCHEMA = 1
ARRAYS = {"outcome": OUTCOME, "arm": ARM, "finding": FINDING}
_LARGEST_FILE = 1_000_000

Refuse = Callable[[str, str], InputError]


@dataclass(frozen=True)
class Context:
    """What the parts of a trial file are read with."""

    file: str
    refuse: Refuse
    begin: float
    until: float

    def hours(self, value: Any, key: str) -> float:
        """A time from 0 to the end of the trial. Raises InputError."""
        hours = hours_of(value, key, self.refuse)
        if hours > self.until * (1 + 1e-9):
            raise self.refuse(
                key, f"{value} lies after the end of the trial; write an earlier time"
            )
        return hours


def hours_of(value: Any, key: str, refuse: Refuse) -> float:
    """Hours in a time such as "14 day", not negative."""
    example = 'write a time such as "14 day"'
    try:
        parsed = units.parse(value)
    except units.UnitError as error:
        raise refuse(key, f"{error}; {example}") from None
    if parsed.exponents != units.DIMENSIONS["time"].exponents or parsed.value < 0:
        raise refuse(key, f"{units.show(value)} is not a time; {example}")
    return float(parsed.value)


def load_trial(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    until: str | None = None,
    replicates: int | None = None,
) -> Trial:
    """Read a trial file and the models of its arms.

    `overrides` ("key=value", as after ``--set``) are applied to every arm, last; `until` and
    `replicates` replace what the file says. Raises InputError.
    """
    file = os.fspath(path)
    content = parse_toml(_text(file), file)

    def refuse(key: str, problem: str) -> InputError:
        return InputError(f"{file}: {key}: {problem}")

    _check(content, refuse)
    table = dict(content["trial"])
    if until is not None:
        table["until"] = until
    models = {a["name"]: _model(file, content, table, a, overrides, None) for a in content["arm"]}
    first = next(iter(models.values()))
    end = hours_of(table["until"], "trial.until", refuse) if "until" in table else first.time.until
    begin = hours_of(table.get("treated_from", "0 h"), "trial.treated_from", refuse)
    if end <= 0 or begin >= end:
        raise refuse(
            "trial.treated_from", "the treatment begins after the end; write a later until"
        )
    final = [f"time.until={end!r} h"]
    models = {a["name"]: _model(file, content, table, a, overrides, final) for a in content["arm"]}
    context = Context(file, refuse, begin, end)
    _check_steps(models, begin, context)
    arms, starts = _arms(content, table, models, context)
    found: dict[str, str] = {}
    for model in models.values():
        found |= {n: u for n, u in series_units(model).items() if n not in found}
    outcomes = tuple(read_outcome(t, found, context) for t in content["outcome"])
    findings = tuple(
        read_finding(t, arms, {o.name for o in outcomes}, refuse)
        for t in content.get("finding", [])
    )
    return Trial(
        name=table.get("name", Path(file).stem),
        file=file,
        seed=table.get("seed", 0),
        replicates=replicates or table.get("replicates", 8),
        until=end,
        treated_from=begin,
        arms=arms,
        starts=starts,
        outcomes=outcomes,
        findings=findings,
        courses=_courses(table, outcomes, found, refuse),
        units=found,
        dose_is=table.get("dose_is", "dose"),
    )


def _text(file: str) -> str:
    try:
        if not os.path.isfile(file):
            kind = "is a folder" if os.path.isdir(file) else "does not exist"
            raise InputError(f"{file}: this {kind}; write the path of a trial file (.toml)")
        if os.path.getsize(file) > _LARGEST_FILE:
            raise InputError(f"{file}: this is too large to be a trial file; write a .toml file")
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: this file cannot be read as text; write a TOML file") from error


def _check(content: dict[str, Any], refuse: Refuse) -> None:
    known = {"schema", "trial", *ARRAYS, *TABLES}
    if "lattice" in content or "include" in content:
        raise refuse("trial", "this is a model file, not a trial; use `osteolattice run` for it")
    for key in content:
        if key not in known:
            raise refuse(key, f"this key is not known; {did_you_mean(key, known)}")
    Integer("", SCHEMA, SCHEMA).check(content.get("schema"), "schema", refuse)
    if "trial" not in content:
        raise refuse("trial", 'this table is missing; write [trial] and model = "..." below it')
    TRIAL.check(content["trial"], "trial", refuse)
    for key in ("arm", "outcome"):
        if not content.get(key):
            raise refuse(key, f"a trial needs at least one; write [[{key}]]")
    for key, kind in {**ARRAYS, **TABLES}.items():
        if key not in content:
            continue
        if key in TABLES:
            kind.check(content[key], key, refuse)
            continue
        if not isinstance(content[key], list):
            raise refuse(key, f"these are named tables; write [[{key}]] for each of them")
        seen = set()
        for table in content[key]:
            name = table.get("name") if isinstance(table, dict) else None
            kind.check(table, f"{key}.{name}" if isinstance(name, str) else key, refuse)
            if name in seen:
                raise refuse(f"{key}.{name}", "this name is given twice; write another for one")
            seen.add(name)


def _model(file, content, table, arm, overrides, final) -> Model:
    """The model of an arm. Without `final`, as it says itself when it ends."""

    def listed(holder: Mapping[str, Any]) -> list[str]:
        found = holder.get("include", [])
        return [found] if isinstance(found, str) else list(found)

    includes = [arm.get("model", table["model"]), *listed(table), *listed(arm)]
    tables = [(k, holder[k]) for holder in (content, arm) for k in TABLES if k in holder]
    last = [*settings(table.get("set", {})), *settings(arm.get("set", {})), *overrides]
    return arm_model(file, arm["name"], includes, tables, [*last, *(final or [])])


def _check_steps(models: Mapping[str, Model], begin: float, context: Context) -> None:
    for name, model in models.items():
        steps = begin / model.time.step
        if abs(steps - round(steps)) > 1e-6:
            problem = f'{begin:g} h are no whole number of steps of the arm "{name}"'
            raise context.refuse(
                "trial.treated_from", f"{problem} ({model.time.step:g} h); write a multiple of it"
            )
        if model.output.series is None:
            problem = f'the arm "{name}" writes no series; write output.series = "1 h" in its model'
            raise context.refuse("trial.model", problem)
        if any(not begin <= t <= context.until for t in model.output.label_times):
            problem = f'output.labels of the arm "{name}" lie outside the time of its treatment'
            raise context.refuse("trial.model", f"{problem}; write times after treated_from")


def _arms(content, table, models, context: Context) -> tuple[tuple[Arm, ...], tuple[Model, ...]]:
    """The arms, and the models of their common beginnings."""
    names = list(models)
    starts: list[Model] = []
    known: dict[str, int] = {}
    owners: dict[str, tuple[str, Model]] = {}
    arms = []
    for arm in content["arm"]:
        name, model = arm["name"], models[arm["name"]]
        start = 0
        if context.begin > 0:
            common = untreated(model, context.begin)
            mark = fingerprint(common)
            if not arm.get("own_start", False):
                source = arm.get("model", table["model"])
                first, other = owners.setdefault(source, (name, common))
                change = first_change(essence(other), essence(common))
                if change is not None:
                    raise context.refuse(
                        f"arm.{name}",
                        f'before treated_from it differs from "{first}" ({change}): treat by an '
                        "[[intervention]] that begins later, or write own_start = true",
                    )
            start = known.setdefault(mark, len(starts))
            if start == len(starts):
                starts.append(common)
        reference = arm.get("reference", table.get("reference"))
        if reference is not None and reference not in names:
            key = f"arm.{name}.reference" if "reference" in arm else "trial.reference"
            problem = f"there is no arm {units.show(reference)}; {did_you_mean(reference, names)}"
            raise context.refuse(key, problem)
        dose = _bare(arm["dose"], f"arm.{name}.dose", context.refuse) if "dose" in arm else None
        if "curve" in arm and dose is None:
            raise context.refuse(
                f"arm.{name}.dose", "an arm of a curve needs a dose; write dose = 0.2"
            )
        reference = None if reference == name else reference
        arms.append(Arm(name, model, reference, dose, arm.get("curve"), start))
    return tuple(arms), tuple(starts)


def _bare(value: Any, key: str, refuse: Refuse) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise refuse(key, f"{units.show(value)} is no bare number; write dose = 0.2") from None


def _courses(table, outcomes, found, refuse: Refuse) -> tuple[tuple[str, ...], ...]:
    """The series to draw: those that are named, or else those of the outcomes."""
    if "courses" not in table:
        return tuple(dict.fromkeys(o.series for o in outcomes if o.series))
    chosen = []
    for index, item in enumerate(table["courses"]):
        patterns = (item,) if isinstance(item, str) else tuple(item)
        matching(patterns, found, f"trial.courses.{index}", refuse)
        chosen.append(patterns)
    return tuple(chosen)
