"""`osteolattice bench report`: tables and plots of records, as Markdown and as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.plots import FIGURES, cube, grouped
from benchmarks.record import Record
from lattice.analysis.page import Html, Page, number
from lattice.analysis.style import save_png
from lattice.io.files import explain_os_error, replacing

TITLE = "Benchmarks of osteolattice"

COLUMNS = {
    "median_s": "median (s)",
    "iqr_s": "IQR (s)",
    "repeats": "runs",
    "seconds_per_simulated_day": "s per simulated day",
    "mlups": "MLUPS",
    "error_l2": "error L2",
    "error_linf": "error Linf",
    "bytes_counted": "bytes counted",
    "copy_fraction": "share of copy",
    "compile_s": "compile (s)",
    "bytes_per_voxel": "bytes per voxel",
    "peak_bytes": "peak memory (bytes)",
}

LEGEND = (
    "Median and inter-quartile range are over the runs of one process. MLUPS: million voxel "
    "updates per second. Errors are relative, of the worst species. Share of copy: the bytes "
    "counted per second over what a copy of as many bytes reached in the same process. Peak "
    "memory is that of the process until then."
)


def write_report(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write `index.html`, `report.md` and the plots; returns their paths. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(folder, error) from error
    drawn = {}
    for name, (draw, caption) in FIGURES.items():
        figure = draw(records)
        if figure is not None:
            drawn[save_png(figure, folder / f"{name}.png")] = caption
    texts = {"index.html": html(records, drawn), "report.md": markdown(records, drawn)}
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts] + list(drawn)


def table_of(records: Sequence[Record]) -> tuple[list[str], list[list[str | float | None]]]:
    """Head and rows of one case: only columns in which something stands. Cells are texts or
    numbers."""
    used = {k: t for k, t in COLUMNS.items() if any(getattr(r, k) is not None for r in records)}
    parameters = sorted({k for r in records for k in r.parameters})
    varied = [k for k in parameters if len({str(r.parameters.get(k)) for r in records}) > 1]
    more = [
        k
        for k in dict.fromkeys(k for r in records for k in r.more)
        if all(isinstance(r.more.get(k, 0), int | float) for r in records)
    ]
    head = ["method", "lattice", "precision", *(k.replace("_", " ") for k in varied)]
    head += [*used.values(), *(k.replace("_", " ") for k in more)]
    rows = []
    for r in records:
        row: list = [
            r.method,
            cube(r),
            r.precision,
            *(str(r.parameters.get(k, "–")) for k in varied),
        ]
        row += [getattr(r, k) for k in used] + [r.more.get(k) for k in more]
        rows.append(row)
    return head, rows


def fixed(records: Sequence[Record]) -> str:
    """The parameters that all records of a case share."""
    first = records[0].parameters
    shared = {k: v for k, v in first.items() if all(r.parameters.get(k) == v for r in records)}
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in shared.items() if v is not None)


def origins(records: Sequence[Record]) -> list[str]:
    """Machines, versions and commits, one line each."""
    found = []
    for r in records:
        versions = ", ".join(f"{k} {v}" for k, v in r.versions.items())
        state = " with changes" if r.dirty else ""
        found.append(f"{r.machine}; {versions}; commit {(r.commit or 'unknown')[:12]}{state}")
    return list(dict.fromkeys(found))


def html(records: Sequence[Record], drawn: dict[Path, str]) -> str:
    """The page."""
    page = Page(TITLE)
    page.section("")
    for origin in origins(records):
        page.paragraph(origin, "summary")
    page.section("Plots")
    for path, caption in drawn.items():
        page.picture(path, caption)
    for case, found in grouped(records, lambda r: r.case).items():
        page.section(case)
        if fixed(found):
            page.paragraph(fixed(found), "note")
        head, rows = table_of(found)
        page.table(head, [[_html_cell(c) for c in row] for row in rows])
    page.section("How to read the tables")
    page.paragraph(LEGEND, "note")
    page.add(Html('<p class="note">The same in text: <a href="report.md">report.md</a>.</p>'))
    return page.html()


def markdown(records: Sequence[Record], drawn: dict[Path, str]) -> str:
    """The same as text."""
    parts = [f"# {TITLE}", "", *(f"- {origin}" for origin in origins(records)), "", LEGEND]
    for path, caption in drawn.items():
        parts += ["", f"![{caption}]({path.name})"]
    for case, found in grouped(records, lambda r: r.case).items():
        head, rows = table_of(found)
        parts += ["", f"## {case}", "", *([fixed(found), ""] if fixed(found) else [])]
        parts += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        parts += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows]
    return "\n".join(parts) + "\n"


def _html_cell(value: str | float | None) -> str:
    return value if isinstance(value, str) else number(None if value is None else float(value))


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
