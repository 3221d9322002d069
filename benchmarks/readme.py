"""What the README says of speed, made from the committed record: a sentence and a table.

python -m benchmarks.readme        write them anew
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Record, read_records

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks" / "records" / "cpu-2-cores.json"
START, END = "<!-- {}:start -->\n", "<!-- {}:end -->"

ROWS = (
    ("whole-step", "auto", "a whole step: fields, 3 % active cells, bone that changes"),
    ("field", "exact", "a step of fields with the same diffusion everywhere"),
    ("field-bone", "auto", "a step of fields that diffuse a hundred times slower in bone"),
    ("field-reference", "two_poles", "the same with sources that move at every step"),
    ("cells", "sparse", "a step of cells alone in 3 % of the voxels"),
    ("sweep", "Jacobi, contrast 100", "a sweep of the field solver"),
    ("random", "threefry2x32-13", "a random number for each voxel"),
    ("checkpoint", "write", "writing a checkpoint"),
)
"""Case, method and what it is in words; rows that the record does not hold are left out."""


def sentence(records: Sequence[Record]) -> str:
    """The one number of the first screen: a whole step."""
    step = chosen(records, "whole-step", "auto")
    if step is None:
        raise ValueError("the record holds no whole step")
    size = " x ".join(map(str, step.size))
    return (
        f"Speed: a whole step of {size} voxels (six cytokines, diffusion in "
        "bone a hundred times slower, 3 % of the voxels with an active cell, bone that changes) "
        f"takes {shown(step.median_s, '{:.2f} s')}, or "
        f"{shown(step.seconds_per_simulated_day, '{:.0f} s')} per simulated day, on {step.machine} "
        f"with JAX {step.versions.get('jax', '?')} (`osteolattice bench --case whole-step`; more "
        "[below](#speed)).\n"
    )


def table(records: Sequence[Record]) -> str:
    """The measurements of `ROWS`."""
    rows = [(words, r) for case, method, words in ROWS if (r := chosen(records, case, method))]
    machine, jax = (
        " and ".join(dict.fromkeys(texts))
        for texts in ([r.machine for _, r in rows], [r.versions.get("jax", "?") for _, r in rows])
    )
    lines = [
        f"On {machine}, with JAX {jax} and six cytokines (`osteolattice bench`; "
        f"`benchmarks/records/{RECORD.name}`):",
        "",
        "| what | lattice | takes | a simulated day takes | L2 error | share of copy |",
        "|---|---|---|---|---|---|",
    ]
    for words, r in rows:
        cells = [
            words,
            " × ".join(map(str, r.size)),
            shown(r.median_s, "{:.3g} s"),
            shown(r.seconds_per_simulated_day, "{:.2g} s"),
            shown(r.error_l2, "{:.1e}"),
            shown(None if r.case == "whole-step" else r.copy_fraction, "{:.0%}"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Errors are those of the worst cytokine; share of copy: bytes that have to move per second "
        "over those of a copy in the same process.",
    ]
    return "\n".join(lines) + "\n"


def shown(value: float | None, text: str) -> str:
    """A number, or a dash."""
    return "–" if value is None else text.format(value)


def chosen(records: Sequence[Record], case: str, method: str) -> Record | None:
    """The measurement on the lattice nearest to 128 voxels an edge; of cells, that of 3 %."""
    found = [
        r
        for r in records
        if (r.case, r.method) == (case, method) and r.parameters.get("occupied", 0.03) == 0.03
    ]
    return min(found, key=lambda r: abs(r.voxels - 128**3), default=None)


def renewed(text: str, records: Sequence[Record]) -> str:
    """The README with the sentence and the table of these records."""
    for name, part in (("benchmark", sentence(records)), ("benchmark table", table(records))):
        start, end = START.format(name), END.format(name)
        head, _, rest = text.partition(start)
        _, _, tail = rest.partition(end)
        text = f"{head}{start}{part}{end}{tail}"
    return text


def main() -> int:
    """Writes the README."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(renewed(text, read_records(RECORD)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
