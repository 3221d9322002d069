"""`osteolattice bench compare`: what has become faster, slower or less accurate, beyond noise.

A time has changed if medians differ by more than the threshold and by more than the notches of
both boxes, 1.57 IQR / sqrt(n) each: intervals of about 95 % for the median (McGill, Tukey & Larsen,
The American Statistician 32 (1978) 12). Noise between processes is not in an IQR, so where a copy
was measured beside it, the time in copies has to have changed as well. Errors and memory do not
vary: there the threshold decides, apart from errors that are rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.record import Record
from lattice.model.errors import InputError

FEWEST = 3
"""Runs from which a spread says something."""

ROUNDING = 1e-5
"""Errors below are those of float32 sums, which any change of order changes."""

WITHOUT_SPREAD = {"error_l2": "error L2", "error_linf": "error Linf", "bytes_per_voxel": "B/voxel"}


@dataclass(frozen=True)
class Change:
    """One quantity of one measurement, before and after; `verdict` is "worse", "better", "same" or
    "not judged"."""

    what: str
    quantity: str
    before: float
    after: float
    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """All changes, and what else a reader has to know."""

    changes: list[Change]
    notes: list[str]

    @property
    def is_regression(self) -> bool:
        """Whether anything has become worse."""
        return any(c.verdict == "worse" for c in self.changes)


def compare(
    before: Sequence[Record], after: Sequence[Record], threshold: float = 0.1
) -> Comparison:
    """Two files of records. Raises InputError where they are of different machines, or have no
    measurement in common."""
    if not 0 < threshold < 10:
        raise InputError(f"--threshold {threshold:g}: write a part such as 0.1")
    require_one_machine(before, after)
    old, new = ({r.key: r for r in records} for records in (before, after))
    common = [key for key in old if key in new]
    notes = [*version_notes(before, after), *unmatched_notes(old, new)]
    if not common:
        raise InputError(
            "the two files have no measurement in common, whose case, method, size, precision and "
            f"parameters are equal ({name_of(before[0])} / {name_of(after[0])}): measure both with "
            "the same options"
        )
    changes = [c for key in common for c in changes_of(old[key], new[key], threshold)]
    return Comparison(changes, notes)


def require_one_machine(before: Sequence[Record], after: Sequence[Record]) -> None:
    """Raises InputError unless all records are of one machine."""
    machines = list(dict.fromkeys(r.machine for r in (*before, *after)))
    if len(machines) > 1:
        raise InputError(
            f"the records are of different machines ({' / '.join(machines[:3])}): a difference "
            "would say nothing about the program; measure both on one"
        )


def version_notes(before: Sequence[Record], after: Sequence[Record]) -> list[str]:
    """Packages that changed between the two."""
    old, new = (
        {k: v for r in records for k, v in r.versions.items()} for records in (before, after)
    )
    return [
        f"{name} was {old.get(name)} and is {new.get(name)}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def unmatched_notes(old: dict, new: dict) -> list[str]:
    """Measurements that only one file has."""
    notes = [f"only before: {name_of(r)}" for key, r in old.items() if key not in new]
    return notes + [f"only after: {name_of(r)}" for key, r in new.items() if key not in old]


def name_of(record: Record) -> str:
    """A measurement in words."""
    told = ", ".join(f"{k}={v}" for k, v in record.parameters.items() if v is not None)
    size = "x".join(map(str, record.size))
    return f"{record.case} {record.method} {size} {record.precision} ({told})"


def changes_of(old: Record, new: Record, threshold: float) -> list[Change]:
    """The quantities that both have."""
    found = []
    if old.median_s and new.median_s:
        verdict, why = judged_time(old, new, new.median_s / old.median_s, threshold)
        found.append(Change(name_of(new), "time (s)", old.median_s, new.median_s, verdict, why))
    for quantity, label in WITHOUT_SPREAD.items():
        a, b = getattr(old, quantity), getattr(new, quantity)
        if a is None or b is None:
            continue
        is_rounding = quantity.startswith("error") and max(a, b) < ROUNDING
        verdict = "same" if is_rounding else beyond(b / a if a else math.inf, threshold)
        found.append(Change(name_of(new), label, a, b, verdict, "rounding" if is_rounding else ""))
    return found


def beyond(ratio: float, threshold: float) -> str:
    """A verdict on what should be small; the same factor counts in both directions."""
    if ratio > 1 + threshold:
        return "worse"
    return "better" if ratio < 1 / (1 + threshold) else "same"


def judged_time(old: Record, new: Record, ratio: float, threshold: float) -> tuple[str, str]:
    """The verdict on medians of this ratio, and why where it is not that of the ratio alone."""
    verdict = beyond(ratio, threshold)
    if verdict == "same":
        return verdict, ""
    before, after = notch(old), notch(new)
    if before is None or after is None:
        return "not judged", f"fewer than {FEWEST} runs"
    if abs((new.median_s or 0) - (old.median_s or 0)) <= math.hypot(before, after):
        return "same", "within the spread"
    if old.copy_bytes_per_s and new.copy_bytes_per_s:
        in_copies = ratio * new.copy_bytes_per_s / old.copy_bytes_per_s
        if beyond(in_copies, threshold) != verdict:
            return "same", "the copy changed as well"
    return verdict, ""


def notch(record: Record) -> float | None:
    """Half the interval of a median, in seconds; None where too little was measured."""
    if record.iqr_s is None or record.repeats is None or record.repeats < FEWEST:
        return None
    return 1.57 * record.iqr_s / math.sqrt(record.repeats)


def table(found: Comparison) -> str:
    """A line for each change, then what else is to be known, then the sum."""
    lines = [f"note: {note}" for note in found.notes]
    for c in found.changes:
        ratio = f"x {c.after / c.before:.3f}" if c.before else ""
        why = f" ({c.why})" if c.why else ""
        numbers = f"{c.before:.4g} -> {c.after:.4g} {ratio}"
        lines.append(f"{c.verdict + why:<32} {numbers:<34} {c.quantity:<10} {c.what}")
    verdicts = ("worse", "better", "same", "not judged")
    count = {v: sum(c.verdict == v for c in found.changes) for v in verdicts}
    lines.append(", ".join(f"{n} {v}" for v, n in count.items()))
    return "\n".join(lines)
