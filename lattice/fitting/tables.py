"""The tables of a fitting problem, in the columns of PEtab (Schmiester et al. 2021,
doi 10.1371/journal.pcbi.1008646) but for that of images, as tab- or comma-separated text.

Every complaint names the table, the line and the fix.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lattice.model.errors import InputError
from lattice.model.kinds import did_you_mean

LARGEST = 50_000_000
"""Bytes of a table."""

COLUMNS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "parameters": (
        ("parameterId", "lowerBound", "upperBound"),
        (
            "parameterName", "parameterScale", "nominalValue", "estimate",
            "objectivePriorType", "objectivePriorParameters",
        ),
    ),
    "observables": (
        ("observableId", "observableFormula"),
        (
            "observableName", "surrogateFormula", "observableTransformation", "noiseFormula",
            "noiseDistribution", "unit",
        ),
    ),
    "conditions": (("conditionId",), ("conditionName",)),
    "measurements": (
        ("observableId", "time", "measurement"),
        ("simulationConditionId", "noiseParameters", "replicateId", "unit"),
    ),
    "images": (
        ("time", "image"),
        ("simulationConditionId", "imageVoxel", "threshold", "noiseParameters"),
    ),
}  # fmt: skip
"""Table -> columns that must be there, and columns that may be. Names and replicateId are for the
reader of the table."""


@dataclass(frozen=True)
class Row:
    """A line of a table. Empty cells are left out of `cells`."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def get(self, column: str, default: str = "") -> str:
        return self.cells.get(column, default)

    def need(self, column: str) -> str:
        """A cell that must be filled. Raises InputError."""
        if column not in self.cells:
            raise self.refuse(column, "is empty; write a value")
        return self.cells[column]

    def number(self, column: str, text: str | None = None) -> float:
        """A finite number. Raises InputError."""
        written = self.need(column) if text is None else text
        try:
            value = float(written)
        except ValueError:
            raise self.refuse(column, f'"{written[:60]}" is no number; write one') from None
        if not math.isfinite(value):
            raise self.refuse(
                column, f"{written} is no finite number; write one, or leave the line out"
            )
        return value

    def choice(self, column: str, known: Sequence[str], default: str) -> str:
        """One of some words. Raises InputError."""
        word = self.get(column, default)
        if word not in known:
            raise self.refuse(column, f'"{word[:60]}" is not known; {did_you_mean(word, known)}')
        return word

    def refuse(self, column: str, problem: str) -> InputError:
        return InputError(f"{self.path}: line {self.line}: {column}: {problem}")


def read_table(path: Path, kind: str) -> list[Row]:
    """The lines of a table of a kind of `COLUMNS`. Columns of a condition that are not declared
    are numbers of the model. Raises InputError."""
    needed, allowed = COLUMNS[kind]
    lines = _lines(path)
    try:
        _, head = next(lines)
    except StopIteration:
        raise InputError(f"{path}: the table is empty; write a line of column names") from None
    for column in needed:
        if column not in head:
            raise InputError(
                f"{path}: line 1: the column {column} is missing; the columns of {kind} are "
                f"{', '.join(needed)}, and if wanted {', '.join(allowed)}"
            )
    for column in head:
        if head.count(column) > 1:
            raise InputError(f"{path}: line 1: the column {column} stands there twice; remove one")
        if kind != "conditions" and column not in (*needed, *allowed):
            hint = did_you_mean(column, (*needed, *allowed))
            raise InputError(f'{path}: line 1: the column "{column}" is not known; {hint}')
    rows = []
    for line, cells in lines:
        if len(cells) != len(head):
            raise InputError(
                f"{path}: line {line}: {len(cells)} cells under {len(head)} columns; "
                "write one for each column"
            )
        filled = {c: v for c, v in zip(head, cells, strict=True) if v}
        rows.append(Row(path, line, filled))
    if not rows:
        raise InputError(f"{path}: there is no line below the column names; write one or more")
    return rows


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that is not blank. Tabs separate where there is one in the
    first line, else commas."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: larger than {LARGEST // 10**6} MB; write a smaller table")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"{path}: this table cannot be read; write a text file of columns separated by tabs"
        ) from None
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    try:
        for number, cells in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), 1):
            stripped = [cell.strip() for cell in cells]
            if any(stripped) and not stripped[0].startswith("#"):
                yield number, stripped
    except csv.Error as error:
        raise InputError(f"{path}: not a table ({error}); separate columns by tabs") from None


def unique(rows: Sequence[Row], column: str) -> None:
    """Raises InputError if two lines have one name."""
    seen: dict[str, int] = {}
    for row in rows:
        name = row.need(column)
        if name in seen:
            raise row.refuse(column, f'"{name}" stands in line {seen[name]} too; remove one')
        seen[name] = row.line
