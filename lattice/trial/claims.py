"""Findings as the trial file states them: claims that the numbers can refute."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lattice.model.errors import InputError
from lattice.model.kinds import did_you_mean
from lattice.trial.grammar import TEST_KEYS
from lattice.trial.structure import DIRECTIONS, Arm, Check, Difference, Finding

__all__ = ["read_finding"]

Refuse = Callable[[str, str], InputError]


def read_finding(
    table: Mapping[str, Any], arms: Sequence[Arm], outcomes: set[str], refuse: Refuse
) -> Finding:
    """A finding with its tests. Raises InputError."""
    key = f"finding.{table['name']}"
    own = {k: v for k, v in table.items() if k in TEST_KEYS}
    if "parts" in table and own:
        problem = "a finding has either parts or a test of its own; move this key into the parts"
        raise refuse(f"{key}.{next(iter(own))}", problem)
    parts = table.get("parts", [own])
    for word in ("outcome", "expect"):
        if "parts" not in table and word not in own:
            example = '"up"' if word == "expect" else '"bone formed"'
            raise refuse(f"{key}.{word}", f"this key is missing; write {word} = {example}")
    many = len(parts) > 1
    tests = tuple(
        _Reader(arms, outcomes, refuse, f"{key}.parts.{i}" if many else key).test(part)
        for i, part in enumerate(parts)
    )
    return Finding(
        table["name"], table["claim"], table.get("source", ""), table.get("doi", ""), tests
    )


class _Reader:
    """Reads one test."""

    def __init__(self, arms: Sequence[Arm], outcomes: set[str], refuse: Refuse, key: str) -> None:
        self.arms = {arm.name: arm for arm in arms}
        self.curves = sorted({arm.curve for arm in arms if arm.curve is not None})
        self.outcomes, self.refuse, self.key = outcomes, refuse, key

    def test(self, table: Mapping[str, Any]) -> Check:
        expect = table["expect"]
        outcomes = _listed(table["outcome"])
        for name in outcomes:
            self._known(name, self.outcomes, "outcome", "outcome")
        self._suits(table, expect)
        size, relative = self._size(table, expect)
        if expect == "within":
            return self._within(table, outcomes)
        if expect in DIRECTIONS:
            names = (
                _listed(table["arm"]) if "arm" in table else self._curve(table["curve"], "curve")
            )
            differences = tuple(self._difference(n, table) for n in names)
            combine = table.get("combine", "all")
            return Check(expect, outcomes, differences, combine, size, relative)
        names = self._curve(table["curve"], "curve")
        least = 2 if expect in ("rises", "falls") else 1
        if len(names) < least + (expect == "interior optimum"):
            problem = f"{len(names)} arms are too few for this; write more doses"
            raise self.refuse(f"{self.key}.curve", problem)
        others = self._curve(table["than"], "than") if "than" in table else ()
        return Check(
            expect,
            outcomes,
            tuple(self._difference(n, table) for n in names),
            doses=self._doses(names),
            others=tuple(self._difference(n, table) for n in others),
            other_doses=self._doses(others),
        )

    def _within(self, table: Mapping[str, Any], outcomes: tuple[str, ...]) -> Check:
        low, high = table["range"]
        if low >= high:
            raise self.refuse(f"{self.key}.range", "its begin is not below its end; swap them")
        arms = _listed(table["arm"])
        for name in arms:
            self._known(name, self.arms, "arm", "arm")
        combine = table.get("combine", "all")
        return Check("within", outcomes, (), combine, arms=arms, range=(float(low), float(high)))

    def _suits(self, table: Mapping[str, Any], expect: str) -> None:
        """Every key has a meaning for what is expected, and none is missing."""
        needed = {
            "none": ("margin",),
            "lower optimum": ("curve", "than"),
            "within": ("arm", "range"),
        }.get(expect, ())
        allowed = {"outcome", "expect", "reference", "curve"}
        if expect == "within":
            allowed = {"outcome", "expect", "arm", "range", "combine"}
        elif expect in DIRECTIONS:
            allowed |= {"arm", "combine", "less", "margin" if expect == "none" else "least"}
            if ("arm" in table) == ("curve" in table):
                raise self.refuse(f"{self.key}.arm", "write either arm or curve")
        else:
            allowed |= {"less"} if expect in ("rises", "falls") else set()
            allowed |= {"than"} if expect == "lower optimum" else set()
            needed = ("curve", *needed)
        for word in needed:
            if word not in table:
                example = {"margin": '"5 %"', "range": "[10, 25]"}.get(word, '"OCN kill"')
                problem = f'expect = "{expect}" needs it; write {word} = {example}'
                raise self.refuse(f"{self.key}.{word}", problem)
        for word in table:
            if word not in allowed:
                problem = f'this key has no meaning with expect = "{expect}"; remove it'
                raise self.refuse(f"{self.key}.{word}", problem)

    def _known(self, name: str, known, word: str, what: str) -> None:
        if name not in known:
            problem = f'there is no {what} "{name}"; {did_you_mean(name, known)}'
            raise self.refuse(f"{self.key}.{word}", problem)

    def _size(self, table: Mapping[str, Any], expect: str) -> tuple[float, bool]:
        word = "margin" if expect == "none" else "least"
        written = table.get(word, 0)
        text = str(written).strip()
        found = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(%?)", text)
        try:
            value = float(found[1]) if found else -1.0
        except ValueError:
            value = -1.0
        if found is None or value < 0 or (expect == "none" and value == 0):
            problem = f'"{text[:60]}" cannot be used; write {word} = "5 %"'
            raise self.refuse(f"{self.key}.{word}", problem)
        return (value / 100, True) if found[2] else (value, value == 0)

    def _curve(self, name: str, word: str) -> tuple[str, ...]:
        self._known(name, self.curves, word, "curve")
        found = [a for a in self.arms.values() if a.curve == name and a.reference is not None]
        return tuple(a.name for a in sorted(found, key=lambda a: a.dose or 0.0))

    def _doses(self, names: Sequence[str]) -> tuple[float, ...]:
        doses = tuple(self.arms[n].dose or 0.0 for n in names)
        if len(set(doses)) < len(doses):
            raise self.refuse(f"{self.key}.curve", "two of its arms have one dose; change one")
        return doses

    def _difference(self, name: str, table: Mapping[str, Any]) -> Difference:
        self._known(name, self.arms, "arm", "arm")
        reference = self._reference(name, table.get("reference"), "reference")
        if "less" not in table:
            return Difference(name, reference)
        less = table["less"]
        if not isinstance(less, str) and not isinstance(less, Mapping):
            raise self.refuse(f"{self.key}.less", "write an arm, or { arm = ..., reference = ... }")
        less = {"arm": less} if isinstance(less, str) else less
        self._known(less["arm"], self.arms, "less.arm", "arm")
        other = self._reference(less["arm"], less.get("reference"), "less.reference")
        return Difference(name, reference, less["arm"], other)

    def _reference(self, name: str, given: str | None, word: str) -> str:
        reference = given if given is not None else self.arms[name].reference
        if reference is None:
            problem = f'the arm "{name}" has no reference; write reference = ... here'
            raise self.refuse(f"{self.key}.{word}", problem)
        self._known(reference, self.arms, word, "arm")
        if reference == name:
            problem = f'the arm "{name}" is compared with itself; write another reference'
            raise self.refuse(f"{self.key}.{word}", problem)
        return reference


def _listed(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
