"""What the README says of speed, made from the committed records: a sentence, and a table each.

python -m benchmarks.readme        write them anew
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Record, read_records

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "records"
RECORDS = (FOLDER / "cpu-2-cores.json", FOLDER / "nvidia-h100-80gb-hbm3-x1.json")
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


def sentence(records: Sequence[Sequence[Record]]) -> str:
    """The numbers of the first screen: a whole step on each machine."""
    steps = [step for found in records if (step := chosen(found, "whole-step", "auto"))]
    if not steps:
        raise ValueError("the records hold no whole step")
    if len({step.size for step in steps}) > 1:
        raise ValueError("the records hold whole steps of different lattices")
    size = " x ".join(map(str, steps[0].size))
    machines = "; ".join(
        f"{shown(step.median_s, '{:.2g} s')}, or "
        f"{shown(step.seconds_per_simulated_day, '{:.2g} s')} per simulated day, on {step.machine} "
        f"with JAX {step.versions.get('jax', '?')}"
        for step in steps
    )
    return (
        f"Speed: a whole step of {size} voxels (six cytokines, diffusion in "
        "bone a hundred times slower, 3 % of the voxels with an active cell, bone that changes) "
        f"takes {machines} (`osteolattice bench --case whole-step`; more [below](#speed)).\n"
    )


def table(records: Sequence[Record], name: str) -> str:
    """The measurements of `ROWS` in the record of this name."""
    rows = [
        (words, r)
        for case, method, words in ROWS
        for r in (lattices if case == "whole-step" else nearest)(records, case, method)
    ]
    machine, jax = (
        " and ".join(dict.fromkeys(texts))
        for texts in ([r.machine for _, r in rows], [r.versions.get("jax", "?") for _, r in rows])
    )
    lines = [
        f"On {machine}, with JAX {jax} and six cytokines (`osteolattice bench`; "
        f"`benchmarks/records/{name}`):",
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
    return "\n".join(lines) + "\n\n"


LEGEND = (
    "Errors are those of the worst cytokine; share of copy: bytes that have to move per second "
    "over those of a copy in the same process.\n"
)


def shown(value: float | None, text: str) -> str:
    """A number, or a dash."""
    return "–" if value is None else text.format(value)


def lattices(records: Sequence[Record], case: str, method: str) -> list[Record]:
    """The measurements on all lattices, small ones first."""
    return sorted(
        (r for r in records if (r.case, r.method) == (case, method)), key=lambda r: r.voxels
    )


def nearest(records: Sequence[Record], case: str, method: str) -> list[Record]:
    """The one on the lattice nearest to 128 voxels an edge, if any; of cells, that of 3 %."""
    found = lattices(records, case, method)
    found = [r for r in found if r.parameters.get("occupied", 0.03) == 0.03]
    return sorted(found, key=lambda r: abs(r.voxels - 128**3))[:1]


def chosen(records: Sequence[Record], case: str, method: str) -> Record | None:
    """As `nearest`, or None."""
    return next(iter(nearest(records, case, method)), None)


def renewed(text: str, records: Sequence[Sequence[Record]]) -> str:
    """The README with the sentence and the tables of these records, those of `RECORDS`."""
    names = [path.name for path in RECORDS]
    tables = "".join(table(r, name) for r, name in zip(records, names, strict=True)) + LEGEND
    for name, part in (("benchmark", sentence(records)), ("benchmark table", tables)):
        start, end = START.format(name), END.format(name)
        head, _, rest = text.partition(start)
        _, _, tail = rest.partition(end)
        text = f"{head}{start}{part}{end}{tail}"
    return text


def main() -> int:
    """Writes the README."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(renewed(text, [read_records(r) for r in RECORDS]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
