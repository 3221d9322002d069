"""The page of a fit: estimates first, then what the sampled model makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lattice.analysis.page import Page
from lattice.fitting import figures
from lattice.fitting.conduct import Result
from lattice.fitting.result import (
    GRADIENT,
    crossed_sentence,
    crossed_summary,
    gradient_verdict,
    interval,
)
from lattice.io.files import write_text


def write_report(result: Result, folder: Path) -> Path:
    """Draw the figures and write ``index.html``; returns its path. Raises StorageError."""
    problem, known = result.problem, result.information
    page = Page(f"Fit: {problem.name}")
    page.section("Estimates")
    page.paragraph(_headline(result), "summary")
    rows = []
    for i, p in enumerate(problem.parameters):
        low, high = interval(result, i)
        estimate = p.written(result.fitted.u[i])
        rows.append(
            [p.name, f"{estimate:.4g}", f"{low:.4g} to {high:.4g}", p.unit, known.verdicts[i],
             gradient_verdict(result, i)]
        )  # fmt: skip
    page.table(["parameter", "estimate", "95 %", "unit", "identifiability", "gradient"], rows)
    page.section("Data and sampled model")
    page.picture(
        figures.draw_data(result, folder / "data.png"),
        f"Points: data with one standard deviation. Lines and bands: mean and standard deviation "
        f"of {len(result.sampled)} runs of the sampled model at the estimate, whose seeds took no "
        "part in the search.",
    )
    page.section("The search")
    page.picture(
        figures.draw_path(result, folder / "search.png"),
        "Each parameter over the iterations; square: the estimate with its 95 % interval.",
    )
    page.section("What the data tell")
    page.paragraph(
        "Eigenvalues of the Fisher information (1/variance along directions of the parameters, on "
        "the scale of the fit): " + ", ".join(f"{v:.3g}" for v in known.eigenvalues) + "."
    )
    page.paragraph("The direction that is known least: " + _direction(result))
    names = [p.name for p in problem.parameters]
    page.table(
        ["correlation", *names],
        [[n, *(f"{v:.2f}" for v in row)] for n, row in zip(names, known.correlation, strict=True)],
    )
    if result.profiles:
        page.picture(
            figures.draw_profiles(result, folder / "profiles.png"),
            "Profile likelihoods of the relaxation with offset; below the dashed line lies the "
            "95 % interval.",
        )
    if result.draws is not None:
        page.picture(
            figures.draw_posterior(result, folder / "posterior.png"),
            f"Draws of the posterior ({problem.settings.posterior}) in the units of the table.",
        )
    if result.crossed is not None:
        _cross_check(page, result)
    page.section("How it was computed")
    page.paragraph(
        f"Gradient: {GRADIENT.format(reading=problem.settings.reading.replace('_', ' '))}. "
        f"{result.runs} sampled runs in all, {len(problem.data)} data. "
        + " ".join(f"Note: {note}." for note in result.notes)
    )
    path = folder / "index.html"
    write_text(path, page.html())
    return path


def _cross_check(page: Page, result: Result) -> None:
    found = crossed_summary(result)
    assert found is not None
    page.section("Cross-check")
    page.paragraph(crossed_sentence(result) + ".")
    page.table(
        ["parameter", "estimate", "cross-check", "unit", "standard errors away"],
        [
            [p.name, f"{p.written(u):.4g}", f"{row['estimate']:.4g}", p.unit,
             f"{row['errors_away']:+.2f}"]
            for p, u, row in zip(
                result.problem.parameters, result.fitted.u, found["parameters"], strict=True
            )
        ],
    )  # fmt: skip


def _headline(result: Result) -> str:
    data = len(result.problem.data)
    share = result.chi2 / data
    judged = "agrees with" if share < 1.6 else "does not agree with"
    sentence = (
        f"The sampled model at the estimate {judged} the data: chi2 is {result.chi2:.3g} for "
        f"{data} data ({share:.2f} each)."
    )
    unsure = [
        p.name
        for p, v in zip(result.problem.parameters, result.information.verdicts, strict=True)
        if not v.startswith("identified")
    ]
    if unsure:
        sentence += f" Not well identified: {', '.join(unsure)}."
    if result.check is not None:
        bad = [
            p.name
            for p, good in zip(result.problem.parameters, result.check.reliable, strict=True)
            if good is False
        ]
        if bad:
            sentence += f" The relaxation's gradient is unreliable for: {', '.join(bad)}."
    return sentence


def _direction(result: Result) -> str:
    weakest = result.information.weakest
    order = np.argsort(-np.abs(weakest))[:4]
    names = [p.name for p in result.problem.parameters]
    return ", ".join(f"{weakest[i]:+.2f} {names[i]}" for i in order) + "."
