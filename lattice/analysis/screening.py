"""Which assumed parameters decide an outcome: designs, indices, tables.

At each design point a reference and a treated arm run with the same seeds, and the outcome is
their difference. Elementary effects: Morris, Technometrics 33 (1991) 161; mu* (the mean absolute
effect of the whole range): Campolongo, Environ. Model. Softw. 22 (2007) 1509. Variance shares:
Sobol, Math. Comput. Simul. 55 (2001) 271; Saltelli, Comput. Phys. Commun. 181 (2010) 259. Design
and indices are those of SALib (Herman & Usher, J. Open Source Softw. 2 (2017) 97).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from lattice.analysis.screen_file import Screen
from lattice.io.optional import require

CONFIDENCE = 0.95
MORRIS_COLUMNS = ("mu_star", "mu_star_conf", "sigma")
SOBOL_COLUMNS = ("total", "total_conf", "first", "first_conf")
SIGN_COLUMNS = ("sign", "positive_low", "positive_high")


def _salib(module: str):
    return require(f"SALib.{module}", "osteolattice screen", "screen")


def _problem(screen: Screen) -> dict:
    names = [r.name for r in screen.ranges]
    return {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}


def design(screen: Screen) -> Float[np.ndarray, "N P"]:
    """Design points as shares of the ranges. Raises InputError without SALib."""
    problem = _problem(screen)
    if screen.method == "morris":
        sample = _salib("sample.morris").sample
        return sample(problem, screen.trajectories, num_levels=screen.levels, seed=screen.seed)
    sample = _salib("sample.sobol").sample
    return sample(problem, screen.samples, calc_second_order=False, seed=screen.seed)


def columns(screen: Screen) -> tuple[str, ...]:
    """Names of the columns of screen.csv."""
    numbers = MORRIS_COLUMNS if screen.method == "morris" else SOBOL_COLUMNS
    return ("parameter", "outcome", *numbers, *SIGN_COLUMNS)


def indices(
    screen: Screen, points: Float[np.ndarray, "N P"], differences: Float[np.ndarray, "N O"]
) -> list[dict[str, object]]:
    """One row for each parameter and outcome; the most important parameter of each outcome first.

    `sign`: "+" or "-" where the direction is certain at 95 % (of the mean elementary effect; for
    sobol, of the rank correlation), "mixed" where it is not, "none" without any effect.
    `positive_low`, `positive_high`: share of the design points with a positive difference in the
    lower and the upper half of the range: a parameter that turns the effect has unlike shares."""
    rows: list[dict[str, object]] = []
    for column, outcome in enumerate(screen.outcomes):
        y = differences[:, column]
        effects = _morris if screen.method == "morris" else _sobol
        found = []
        for k, (numbers, sign) in enumerate(effects(screen, points, y)):
            upper = points[:, k] > 0.5
            shares = [_share(y[~upper] > 0), _share(y[upper] > 0)]
            row = dict(
                zip((*numbers, *SIGN_COLUMNS), (*numbers.values(), sign, *shares), strict=True)
            )
            found.append({"parameter": screen.ranges[k].name, "outcome": outcome, **row})
        leading = "mu_star" if screen.method == "morris" else "total"
        rows += sorted(found, key=lambda row: (-float(row[leading]), row["parameter"]))
    return rows


def _share(positive: np.ndarray) -> float:
    return float(positive.mean()) if positive.size else float("nan")


def _morris(screen: Screen, points, y):
    analyze = _salib("analyze.morris").analyze
    found = analyze(
        _problem(screen),
        points,
        y,
        num_levels=screen.levels,
        conf_level=CONFIDENCE,
        seed=screen.seed,
    )
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, screen.trajectories - 1)
    for k in range(len(screen.ranges)):
        mu, sigma = float(found["mu"][k]), float(found["sigma"][k])
        numbers = {name: float(found[name][k]) for name in MORRIS_COLUMNS}
        certain = abs(mu) > quantile * sigma / np.sqrt(screen.trajectories)
        yield numbers, _sign(mu, bool(certain), numbers["mu_star"] > 0)


def _sobol(screen: Screen, points, y):
    analyze = _salib("analyze.sobol").analyze
    constant = np.ptp(y) == 0
    found = None
    if not constant:
        found = analyze(
            _problem(screen), y, calc_second_order=False, conf_level=CONFIDENCE, seed=screen.seed
        )
    for k in range(len(screen.ranges)):
        names = dict(zip(SOBOL_COLUMNS, ("ST", "ST_conf", "S1", "S1_conf"), strict=True))
        numbers = {c: 0.0 if found is None else float(found[n][k]) for c, n in names.items()}
        if constant:
            yield numbers, "none"
            continue
        correlation, chance = map(float, stats.spearmanr(points[:, k], y))
        certain = chance < 1 - CONFIDENCE
        yield numbers, _sign(correlation, certain, numbers["total"] > 0)


def _sign(value: float, certain: bool, any_effect: bool) -> str:
    if not any_effect:
        return "none"
    if not certain:
        return "mixed"
    return "+" if value > 0 else "-"


def csv_text(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def points_table(screen: Screen, points, differences) -> str:
    """The design in canonical units and the mean difference of each outcome, as CSV."""
    units = {p.name: p.unit for p in screen.reference.parameters}
    head = ["point", *(f"{r.name} [{units[r.name]}]" for r in screen.ranges)]
    head += [f"difference {outcome}" for outcome in screen.outcomes]
    rows = [
        [k, *screen.values(points[k]).values(), *map(float, differences[k])]
        for k in range(len(points))
    ]
    return csv_text(head, rows)
