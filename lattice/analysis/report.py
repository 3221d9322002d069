"""The report of a run: figures, tables and words on one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lattice.analysis import bone_view, slices, timecourses
from lattice.analysis.page import Html, Page, number
from lattice.analysis.series import Series, series_of
from lattice.analysis.style import TimeScale, save_png, state_colours
from lattice.analysis.tables import Row, run_table
from lattice.io.files import write_text
from lattice.io.runfile import RunFile
from lattice.model import loads
from lattice.model.structure import Model


@dataclass(frozen=True)
class View:
    """A run with everything that its figures share."""

    run: RunFile
    model: Model
    series: dict[str, Series]
    colours: dict[str, str]
    marks: list[timecourses.Mark]
    scale: TimeScale
    folder: Path

    @property
    def fields(self) -> dict[str, str]:
        """Cytokine -> unit, those that are in the snapshots."""
        names = [c.name for c in self.model.cytokines]
        return {n: self.run.arrays[n] for n in names if n in self.run.arrays}

    def moment(self, index: int) -> str:
        """The time of a snapshot in words."""
        time = self.run.times[index]
        return "at the start" if time == 0 else f"after {self.scale.text(time)}"


def write_report(run_folder: Path | str) -> Path:
    """Writes ``report/index.html`` and its pictures into a run folder; returns the page's path.

    The page stands alone: pictures are embedded, nothing is loaded from elsewhere. A run that is
    still going on is reported as far as it is. Raises InputError when there is no run,
    DamagedFileError when it cannot be read.
    """
    run = RunFile.open(Path(run_folder))
    model = loads(run.config, folder=run.folder, file=str(run.folder / "config.toml"))
    series = series_of(run)
    states = [s.name for s in model.states]
    end = float(run.series_time[-1]) if len(run.series_time) else 0.0
    view = View(
        run,
        model,
        series,
        state_colours(states, {s.name: s.color for s in model.states}),
        timecourses.intervention_marks(model, end),
        TimeScale.of([end]),
        run.folder / "report",
    )
    view.folder.mkdir(exist_ok=True)
    page = Page(f"Report: {model.name}")
    page.section("")
    page.paragraph(summary(view), "summary")
    _pictures(page, view)
    _time_courses(page, view)
    _histomorphometry(page, view)
    _budgets(page, view)
    add_parameters(page, model)
    _provenance(page, view)
    path = view.folder / "index.html"
    write_text(path, page.html())
    return path


def summary(view: View) -> str:
    """One paragraph: what was simulated, how long, and what came out."""
    model, run = view.model, view.run
    size = " × ".join(f"{n * model.lattice.voxel:g}" for n in model.lattice.shape)
    voxels = " × ".join(str(n) for n in model.lattice.shape)
    end = float(run.series_time[-1]) if len(run.series_time) else 0.0
    steps = round(end / model.time.step)
    text = (
        f"This run simulated a block of {size} µm (x, y, z; {voxels} voxels of "
        f"{model.lattice.voxel:g} µm) for {view.scale.text(end)} in {steps:,} steps, with "
        f"{len(model.states) - 1} cell states, {len(model.cytokines)} cytokines and "
        f"{len(model.rules)} rules; seed {run.seed}."
    )
    bone = view.series.get("BV/TV")
    if bone is not None and len(bone) and bone.values[0] > 0:
        first, last = bone.values[0], bone.values[-1]
        text += (
            f" Bone volume / tissue volume went from {first:.3g} % to {last:.3g} % "
            f"({100 * (last / first - 1):+.2g} % of its initial value)."
        )
    counts = {n: view.series[n].values[-1] for n in view.colours if n in view.series}
    if counts and len(run.series_time):
        most = sorted(counts, key=lambda n: -counts[n])[:3]
        names = ", ".join(f"{counts[n]:,.0f} {n}" for n in most)
        text += f" At the end there were {sum(counts.values()):,.0f} cells; most were {names}."
    if view.marks:
        text += f" Interventions: {', '.join(m.name for m in view.marks)}."
    return text


def _save(page: Page, view: View, name: str, figure: Figure, caption: str) -> None:
    page.picture(save_png(figure, view.folder / f"{name}.png"), caption)


def _pictures(page: Page, view: View) -> None:
    run = view.run
    if not run.times:
        return
    page.section("Pictures")
    indices = sorted({0, len(run.times) - 1}, reverse=True)
    snapshots = {i: run.snapshot(i) for i in indices}
    voxel_um = run.voxel_um
    assert voxel_um is not None, "a run with snapshots has a voxel"
    field = _most_varied(view, snapshots[indices[0]])
    norm = slices.shared_norm([s[field] for s in snapshots.values()]) if field else None
    states, colours = run.states, view.colours
    for index, label in zip(indices, ("end", "start"), strict=False):
        snapshot = snapshots[index]
        if "bone" in snapshot and snapshot["bone"].any() and min(snapshot["bone"].shape) > 1:
            figure = bone_view.figure_bone_view(
                snapshot, states, colours, voxel_um, view.moment(index)
            )
            _save(page, view, f"bone_{label}", figure, VIEW_CAPTION)
    for index, label in zip(reversed(indices), ("start", "end"), strict=False):
        snapshot = snapshots[index]
        if not snapshot.keys() & {"cells", "bone"} and not field:
            continue
        figure = slices.figure_slices(
            snapshot,
            states,
            colours,
            voxel_um,
            view.moment(index),
            field,
            view.fields.get(field or "", ""),
            norm,
        )
        _save(page, view, f"slices_{label}", figure, SLICE_CAPTION)
    if len(view.fields) > 1:
        last = snapshots[indices[0]]
        figure = slices.figure_fields(last, view.fields, voxel_um, view.moment(indices[0]))
        caption = "Every cytokine at the end, each on its own colour scale (unit beside it)."
        _save(page, view, "cytokine_maps", figure, caption)


VIEW_CAPTION = (
    "Bone in parallel projection, shaded; brown where the block's faces cut through bone. Spheres "
    "are cells that touch bone, coloured by state (cells deeper in the marrow are not drawn); what "
    "lies farther back fades. The bar holds for lengths in the plane of the picture."
)
SLICE_CAPTION = (
    "Three planes through the middle of the block. A coloured square is one voxel with a cell, in "
    "the colour of its state; it hides the matrix in that voxel. Grey is mineralised bone and tan "
    "is osteoid, paler where they fill a voxel only in part. White lines are the edge of bone. The "
    "colour scale of the cytokine is the same at the start and at the end."
)


def _most_varied(view: View, snapshot: Mapping[str, np.ndarray]) -> str | None:
    """The cytokine whose concentration differs most over the lattice, relative to its mean."""

    def contrast(name: str) -> float:
        mean = float(snapshot[name].mean(dtype=np.float64))
        return float(snapshot[name].std(dtype=np.float64)) / mean if mean > 0 else 0.0

    return max(view.fields, key=contrast, default=None)


def _time_courses(page: Page, view: View) -> None:
    if len(view.run.series_time) < 2:
        return
    page.section("Time courses")
    series, marks = view.series, view.marks
    states = [s for s in timecourses.by_lineage(view.model) if s in series]
    if states:
        figure = timecourses.figure_counts(series, states, view.colours, marks)
        caption = (
            "How many cells were in each state. States that turn into one another stand side by "
            "side; above each panel, the first and the last number."
        )
        _save(page, view, "counts", figure, caption)
    if "BV/TV" in series:
        caption = (
            "Bone volume as a share of the whole block (osteoid included), the volumes of osteoid "
            "and of mineralised matrix, and the matrix turned over since the start."
        )
        _save(page, view, "bone", timecourses.figure_bone(series, marks), caption)
    cytokines = [c.name for c in view.model.cytokines if f"{c.name}.mean" in series]
    if cytokines:
        figure = timecourses.figure_cytokines(series, cytokines, marks)
        caption = (
            "Concentration of each cytokine. Scales are logarithmic where the extremes are far "
            "apart."
        )
        _save(page, view, "cytokines", figure, caption)
    if any(name.startswith("events.") for name in series):
        caption = "How many times each rule of the model acted on a cell in the whole run."
        _save(page, view, "events", timecourses.figure_events(series), caption)


def _histomorphometry(page: Page, view: View) -> None:
    rows = run_table(view.run) if view.run.times else []
    if not rows:
        return
    page.section("Histomorphometry")
    page.paragraph(
        "Names and units of the American Society for Bone and Mineral Research (Dempster 2013, "
        "Bouxsein 2010).",
        "note",
    )
    times = sorted({r.time_h for r in rows if r.time_h is not None})
    symbols = list(dict.fromkeys(r.symbol for r in rows))
    found: dict[tuple[str, float | None], Row] = {(r.symbol, r.time_h): r for r in rows}
    body = []
    for symbol in symbols:
        row = next(r for r in rows if r.symbol == symbol)
        values = [found.get((symbol, t)) for t in times]
        numbers = [number(v.value if v else None) for v in values]
        body.append([symbol, *numbers, _pretty(row.unit), row.description])
    heads = ["at the start" if t == 0 else f"after {view.scale.text(t)}" for t in times]
    page.table(["symbol", *heads, "unit", "meaning"], body)


def _pretty(unit: str) -> str:
    return unit.replace("^3", "³").replace("^2", "²").replace("um", "µm")


def _budgets(page: Page, view: View) -> None:
    series = view.series
    matrix = [n for n in ("formed", "resorbed", "mineralised") if f"matrix.{n}" in series]
    molecules = [c.name for c in view.model.cytokines if f"{c.name}.produced" in series]
    if not len(view.run.series_time) or not (matrix or molecules):
        return
    page.section("Matrix and molecules")
    if matrix:
        rows = []
        for name in matrix:
            one = series[f"matrix.{name}"]
            rows.append([name, number(float(one.values[-1]), 6), _pretty(one.unit)])
        page.paragraph("Matrix turned over in the whole run, exact:", "note")
        page.table(["matrix", "amount", "unit"], rows)
    if molecules:
        kinds = [k for k in BUDGET if any(f"{n}.{k}" in series for n in molecules)]
        rows = []
        for name in molecules:
            amounts = [_at(series.get(f"{name}.{k}"), -1) for k in kinds]
            start = _at(series.get(f"{name}.present"), 0)
            unit = series[f"{name}.produced"].unit
            rows.append([name, number(start), *map(number, amounts), unit])
        page.paragraph(
            "Molecules of each cytokine in the whole block: what was there at the start, totals "
            "since then, and what is present at the end.",
            "note",
        )
        page.table(["cytokine", "at the start", *kinds, "unit"], rows)


BUDGET = ("produced", "decayed", "consumed", "reacted", "present")


def _at(series: Series | None, row: int) -> float | None:
    return None if series is None else float(series.values[row])


def add_parameters(page: Page, model: Model) -> None:
    """A section with every number of a model and its source."""
    page.section("Parameters")
    rows = []
    for p in model.parameters:
        source = escape(p.source)
        if p.doi:
            source += f' <a href="https://doi.org/{escape(p.doi, quote=True)}">{escape(p.doi)}</a>'
        name = Html(f"<code>{escape(p.name)}</code>")
        rows.append([name, number(p.value, 6), _pretty(p.unit), p.written, Html(source), p.label])
    head = ["name", "value", "unit", "as written", "source", "label"]
    page.table(head, rows, fold=f"All {len(rows)} numbers of the model, with their sources")


def _provenance(page: Page, view: View) -> None:
    page.section("Provenance")
    rows = [["seed", str(view.run.seed)], ["file", view.run.path.name]]
    page.table(["what", "value"], rows + _flat(view.run.provenance))
    page.add(
        "<details><summary>The model file as it was resolved</summary>"
        f"<pre>{escape(view.run.config)}</pre></details>"
    )


def _flat(values: Mapping[str, object], prefix: str = "") -> list[list[str]]:
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key} ")
        elif value not in (None, ""):
            rows.append([f"{prefix}{key}", str(value)])
    return rows
