"""The report of a trial: one HTML page, verdicts first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lattice.analysis.page import Html, Page, number
from lattice.analysis.report import add_parameters
from lattice.analysis.style import TimeScale, save_png
from lattice.io.files import write_text
from lattice.trial import figures
from lattice.trial.findings import Judged, Line
from lattice.trial.results import Results
from lattice.trial.statistics import Estimate

__all__ = ["write_report"]

COLOURS = {"reproduced": "#00694e", "not reproduced": "#b03a00", "undecided": "#5c5c5c"}
RULE = (
    "Reproduced: the 95 % interval of the difference lies wholly where the claim expects it (for "
    "“none”: wholly inside the margin; “within”: that of the arm's own mean, inside the range). "
    "Not reproduced: wholly elsewhere. Undecided: the interval holds both. Differences are between "
    "runs with the same seed, so with the same bone and the same random numbers; intervals are "
    "Student's t over replicates and are not corrected for the number of claims. Effect size: mean "
    "/ standard deviation of the paired differences (d_z)."
)


def write_report(results: Results) -> Path:
    """Writes ``report/index.html`` and its pictures into the trial's folder; returns its path.

    Missing and failed runs are said first. Raises StorageError, DamagedFileError."""
    folder = results.place.path / "report"
    folder.mkdir(exist_ok=True)
    page = Page(f"Trial: {results.trial.name}")
    page.section("")
    page.paragraph(_summary(results), "summary")
    _failures(page, results)
    _verdicts(page, results)
    _outcomes(page, results, folder)
    _doses(page, results, folder)
    _courses(page, results, folder)
    _slices(page, results, folder)
    _arms(page, results)
    add_parameters(page, results.trial.arms[0].model)
    page.paragraph(
        f"The numbers of the arm {results.trial.arms[0].name}; the config.toml of every run holds "
        "its own.",
        "note",
    )
    _provenance(page, results)
    path = folder / "index.html"
    write_text(path, page.html())
    return path


def _summary(results: Results) -> str:
    trial = results.trial
    scale = TimeScale.of([trial.until])
    nx, ny, nz = trial.arms[0].model.lattice.shape
    voxel = trial.arms[0].model.lattice.voxel
    done = sum(r.status == "done" for r in results.records)
    before = ""
    if trial.treated_from:
        before = f", treated from {scale.text(trial.treated_from)} on"
    text = (
        f"{len(trial.arms)} arms of {trial.replicates} replicates, {scale.text(trial.until)} "
        f"each{before}, in blocks of {nx} × {ny} × {nz} voxels of {voxel:g} µm; seeds "
        f"{trial.seed} to {trial.seed_of(trial.replicates - 1)}, the same in every arm. "
        f"{done} of {len(results.records)} runs have finished."
    )
    if results.judged:
        counts = Counter(j.verdict for j in results.judged)
        said = ", ".join(f"{counts[v]} {v}" for v in COLOURS)
        text += f" Of {len(results.judged)} claims: {said}."
    return text


def _failures(page: Page, results: Results) -> None:
    bad = [r for r in results.records if r.status != "done"]
    if not bad:
        return
    rows = [[r.arm, str(r.replicate), str(r.seed), r.status, r.problem] for r in bad]
    page.paragraph(
        f"{len(bad)} runs are not in these numbers. A pair without one of its runs is left out.",
        "summary",
    )
    page.table(["arm", "replicate", "seed", "status", "why"], rows)


def _verdict(verdict: str) -> Html:
    return Html(f'<strong style="color:{COLOURS[verdict]}">{verdict}</strong>')


def _verdicts(page: Page, results: Results) -> None:
    if not results.judged:
        return
    page.section("Verdicts")
    order = ("not reproduced", "undecided", "reproduced")
    for verdict in order[:2]:
        names = [j.finding.name for j in results.judged if j.verdict == verdict]
        if names:
            page.paragraph(f"{verdict.capitalize()}: {', '.join(names)}.", "summary")
    rows = [
        [j.finding.name, j.finding.claim, _verdict(j.verdict), _source(j)] for j in results.judged
    ]
    page.table(["", "claim", "verdict", "source of the claim"], rows)
    page.paragraph(RULE, "note")
    lines = [
        [j.finding.name, line.what, line.outcome, *_numbers(results, line), _verdict(line.verdict)]
        for j in results.judged
        for line in j.lines
    ]
    head = ["", "difference", "outcome", "expected", "mean", "95 % interval", "unit", "%", "d_z"]
    page.paragraph("The numbers behind each verdict:", "note")
    page.table([*head, "n", "says"], lines)


def _source(judged: Judged) -> Html:
    finding = judged.finding
    text = escape(finding.source)
    if finding.doi:
        doi = escape(finding.doi, quote=True)
        text += f' <a href="https://doi.org/{doi}">{doi}</a>'
    return Html(text)


def _interval(found: Estimate) -> str:
    if not math.isfinite(found.low):
        return "–"
    return f"{number(found.low, 3)} to {number(found.high, 3)}".replace("-", "−")


def _numbers(results: Results, line: Line) -> list[object]:
    expected = line.expect
    if line.bound and math.isfinite(line.bound):
        sign = "±" if line.expect == "none" else "at least "
        expected += f" ({sign}{number(line.bound, 3)})"
    e, unit = line.estimate, _pretty(results.units[line.outcome])
    if line.expect == "lower optimum":
        unit = "dose"
    elif line.expect in ("rises", "falls"):
        unit = f"{unit} per dose"
    relative = number(line.relative_percent, 3)
    return [
        expected,
        number(e.mean, 3),
        _interval(e),
        unit,
        relative,
        number(e.effect, 3),
        str(e.n),
    ]


def _pretty(unit: str) -> str:
    return unit.replace("^3", "³").replace("^2", "²").replace("um", "µm")


def _outcomes(page: Page, results: Results, folder: Path) -> None:
    page.section("Outcomes")
    names = [o.name for o in results.trial.outcomes]
    done = any(c.difference is not None and c.difference.n for c in results.comparisons)
    if done:
        figure = figures.figure_forest(results, names)
        caption = (
            "Each arm against its reference, replicate by replicate, in per cent of the "
            "reference's mean. Blue: the interval lies above 0, orange: below, grey: it holds 0."
        )
        page.picture(save_png(figure, folder / "forest.png"), caption)
    for name in names:
        rows = []
        for arm in results.trial.arms:
            c = results.compared(arm.name, name)
            d, blank = c.difference, number(None)
            compared: Sequence[object] = [blank] * 6
            if d is not None:
                percent = number(c.percent(d.mean), 3)
                compared = [number(d.mean, 3), _interval(d), percent]
                compared = [*compared, number(d.effect, 3), number(c.cohen_d, 3), str(d.n)]
            own = [number(c.own.mean), number(c.own.sd, 3), str(c.own.n)]
            rows.append([arm.name, *own, c.reference or "–", *compared])
        head = ["arm", "mean", "sd", "runs", "reference", "difference", "95 % interval", "%"]
        unit = _pretty(results.units[name]) or "unit unknown"
        page.table([*head, "d_z", "Cohen's d", "pairs"], rows, fold=f"{name} ({unit})")


def _doses(page: Page, results: Results, folder: Path) -> None:
    curves = dict.fromkeys(a.curve for a in results.trial.arms if a.curve and a.reference)
    if not curves:
        return
    page.section("Dose and response")
    names = [o.name for o in results.trial.outcomes]
    for index, curve in enumerate(curves):
        assert curve is not None
        caption = f"{curve}: differences to the reference in per cent of its mean; dose 0 is it."
        figure = figures.figure_doses(results, curve, names)
        page.picture(save_png(figure, folder / f"dose_{index}.png"), caption)


def _courses(page: Page, results: Results, folder: Path) -> None:
    drawn = [patterns for patterns, by_arm in results.courses.items() if by_arm]
    if not drawn:
        return
    page.section("Time courses")
    for index, patterns in enumerate(drawn):
        figure = figures.figure_course(results, patterns)
        caption = (
            f"{' + '.join(patterns)} in each arm: mean over the finished replicates, and its 95 % "
            "interval. Black: the arm that the others of the panel are compared with."
        )
        page.picture(save_png(figure, folder / f"course_{index}.png"), caption)


def _slices(page: Page, results: Results, folder: Path) -> None:
    figure = figures.figure_slices(results)
    if figure is None:
        return
    page.section("Pictures")
    caption = (
        "One voxel with a cell has the colour of its state; grey is mineralised bone, tan osteoid. "
        "All arms began with the same bone. The run.h5 of each run opens in ParaView."
    )
    page.picture(save_png(figure, folder / "slices.png"), caption)


def _arms(page: Page, results: Results) -> None:
    page.section("Arms")
    rows = []
    first = results.trial.arms[0].model.values
    for arm in results.trial.arms:
        values = arm.model.values
        changed = [f"{n} = {v:.6g}" for n, v in values.items() if first.get(n) != v]
        gone = [f"without {n}" for n in first if n not in values]
        said = "; ".join([*changed, *gone][:12]) or "–"
        dose = number(arm.dose)
        rows.append([arm.name, arm.model.name, arm.reference or "–", arm.curve or "–", dose, said])
    head = ["arm", "model", "reference", "curve", "dose", "numbers that differ from the first arm"]
    page.table(head, rows)


def _provenance(page: Page, results: Results) -> None:
    page.section("Provenance")
    rows = [["trial file", results.trial.file], ["command", "osteolattice trial"]]
    done = [r for r in results.records if r.status == "done"]
    kinds = Counter(
        (
            str(r.provenance.get("commit")),
            " ".join(f"{k} {v}" for k, v in r.provenance.get("versions", {}).items()),
            str(r.provenance.get("machine")),
            str(r.provenance.get("device_kind")),
        )
        for r in done
    )
    for (commit, versions, machine, device), count in kinds.items():
        rows.append([f"{count} runs", f"commit {commit}; {versions}; {machine}; {device}"])
    if len(kinds) > 1:
        page.paragraph("The runs were not all made by one version on one machine.", "summary")
    rows.append(["hours of computing", f"{sum(r.seconds for r in done) / 3600:.3g}"])
    page.table(["what", "value"], rows)
    digests = [[r.arm, str(r.replicate), str(r.seed), r.digest] for r in done]
    head = ["arm", "replicate", "seed", "SHA-256 of the last state"]
    page.table(head, digests, fold="The last state of every run")
