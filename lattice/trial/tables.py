"""The tables of a trial, for other programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lattice.io.files import write_text
from lattice.trial.results import Results

__all__ = ["FINDING_COLUMNS", "TRIAL_COLUMNS", "write_tables"]

TRIAL_COLUMNS = (
    "arm",
    "outcome",
    "replicates",
    "mean",
    "difference",
    "ci_low",
    "ci_high",
    "effect_size",
    "unit",
    "reference",
    "sd",
    "relative_percent",
    "cohen_d",
)
FINDING_COLUMNS = (
    "finding",
    "verdict",
    "claim",
    "what",
    "outcome",
    "unit",
    "expected",
    "bound",
    "replicates",
    "difference",
    "ci_low",
    "ci_high",
    "relative_percent",
    "effect_size",
    "this_verdict",
    "source",
    "doi",
)


def write_tables(results: Results, folder: Path) -> list[Path]:
    """Writes ``trial.csv``, ``replicates.csv``, ``findings.csv`` and ``findings.json``.

    A number that is not defined is empty in CSV and null in JSON. Raises StorageError."""
    findings = list(_findings(results))
    write_text(folder / "trial.csv", _csv(TRIAL_COLUMNS, _trial(results)))
    names = [o.name for o in results.trial.outcomes]
    head = ("arm", "replicate", "seed", "status", "seconds", "digest", "problem", *names)
    write_text(folder / "replicates.csv", _csv(head, _replicates(results, names)))
    write_text(folder / "findings.csv", _csv(FINDING_COLUMNS, findings))
    nested = [
        {
            "finding": judged.finding.name,
            "claim": judged.finding.claim,
            "source": judged.finding.source,
            "doi": judged.finding.doi,
            "verdict": judged.verdict,
            "tests": [
                {k: _plain(v) for k, v in zip(FINDING_COLUMNS, row, strict=True) if k in _OF_TEST}
                for row in findings
                if row[0] == judged.finding.name
            ],
        }
        for judged in results.judged
    ]
    text = json.dumps({"trial": results.trial.name, "findings": nested}, indent=1, allow_nan=False)
    write_text(folder / "findings.json", text + "\n")
    return [folder / n for n in ("trial.csv", "replicates.csv", "findings.csv", "findings.json")]


_OF_TEST = {*FINDING_COLUMNS} - {"finding", "verdict", "claim", "source", "doi"}


def _trial(results: Results) -> Iterable[Sequence[Any]]:
    for c in results.comparisons:
        d = c.difference
        shown = (math.nan,) * 4 if d is None else (d.mean, d.low, d.high, d.effect)
        n = c.own.n if d is None else d.n
        sd, relative = (math.nan, math.nan) if d is None else (d.sd, c.percent(d.mean))
        head = (c.arm, c.outcome, n, c.own.mean, *shown, c.unit, c.reference or "")
        yield (*head, sd, relative, c.cohen_d)


def _replicates(results: Results, names: Sequence[str]) -> Iterable[Sequence[Any]]:
    for r in results.records:
        values = (r.values.get(name, math.nan) for name in names)
        yield (r.arm, r.replicate, r.seed, r.status, r.seconds, r.digest, r.problem, *values)


def _findings(results: Results) -> Iterable[Sequence[Any]]:
    for judged in results.judged:
        finding = judged.finding
        for line in judged.lines:
            e = line.estimate
            unit = results.units[line.outcome]
            if line.expect in ("rises", "falls"):
                unit = f"{unit} per unit of dose"
            elif line.expect == "lower optimum":
                unit = "dose"
            yield (
                finding.name,
                judged.verdict,
                finding.claim,
                line.what,
                line.outcome,
                unit,
                line.expect,
                line.bound,
                e.n,
                e.mean,
                e.low,
                e.high,
                line.relative_percent,
                e.effect,
                line.verdict,
                finding.source,
                finding.doi,
            )


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_plain(v) if _plain(v) is not None else "" for v in row] for row in rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
