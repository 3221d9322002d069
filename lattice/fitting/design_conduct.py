"""A design from beginning to end: the search, a grid to compare with, fresh runs at last."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from lattice.fitting.design import Design
from lattice.fitting.design_search import Point, Relaxed, Sampled, better, search
from lattice.fitting.store import SampleStore, Tell
from lattice.io.identity import claimed_folder

IDENTITY = "problem.json"
LEVEL = 0.95


@dataclass(frozen=True)
class DesignResult:
    """What a design found. `untreated`, `treated` and `gridded` have fresh seeds, the same ones;
    `points` and `grid` those of the search."""

    design: Design
    best: int
    points: tuple[Point, ...]
    grid: tuple[Sampled, ...]
    untreated: Sampled
    treated: Sampled
    gridded: Sampled | None
    notes: tuple[str, ...]

    @property
    def search_runs(self) -> int:
        """Sampled runs that the search took."""
        return sum(len(p.sampled) for p in self.points)

    @property
    def grid_runs(self) -> int:
        """Sampled runs that the grid took."""
        return sum(len(p.sampled) for p in self.grid)


def design_treatment(
    design: Design,
    folder: Path,
    tell: Tell = lambda line: None,
    relaxed: Relaxed | None = None,
    jobs: int | None = None,
) -> DesignResult:
    """Design a treatment, or go on with it: sampled runs that are in the folder are not repeated.

    `relaxed`: the compiled relaxation of the same design, if there is one. At most `jobs`
    sampled runs at a time, one on each of JAX's devices (None: as many as there are). Raises
    InputError if the folder holds another design.
    """
    with claimed_folder(folder, IDENTITY, _said(design), "a design of another model, file or seed"):
        return _carried_out(design, folder, tell, relaxed, jobs)


def _carried_out(
    design: Design, folder: Path, tell: Tell, relaxed: Relaxed | None, jobs: int | None
) -> DesignResult:
    problem = design.problem
    store = SampleStore(folder / "samples", problem.settings.seed, tell, jobs)
    if relaxed is None:
        tell("compiling the relaxation")
        relaxed = Relaxed(design)
    relaxed.check_dependence()
    shared = store.seeds(0, design.runs)

    def runs_at(k: int, u: Float[np.ndarray, "P"]) -> Float[np.ndarray, "N M"]:
        return store.get(f"search-{k:03d}", problem, u, shared)

    best, points = search(design, relaxed, runs_at, tell)
    grid = []
    for k, u in enumerate(grid_of(design)):
        grid.append(Sampled(u, store.get(f"grid-{k:05d}", problem, u, shared)))
    fresh = store.seeds(design.runs, design.final_runs)
    nothing = np.zeros(0)
    untreated = Sampled(nothing, store.get("final-untreated", design.untreated, nothing, fresh))
    u = points[best].u
    treated = Sampled(u, store.get("final-treated", problem, u, fresh))
    gridded = None
    if grid:
        u = best_of(design, grid).u
        gridded = Sampled(u, store.get("final-grid", problem, u, fresh))
    return DesignResult(
        design, best, tuple(points), tuple(grid), untreated, treated, gridded,
        tuple(relaxed.surrogate.notes),
    )  # fmt: skip


def grid_of(design: Design) -> list[Float[np.ndarray, "P"]]:
    """The points of the grid, in their order; none where no grid is asked for."""
    if not design.grid:
        return []
    low, high = design.problem.bounds
    levels = [np.linspace(a, b, design.grid) for a, b in zip(low, high, strict=True)]
    return [design.snapped(np.array(u)) for u in product(*levels)]


def best_of(design: Design, points: list[Sampled]) -> Sampled:
    """The best of some points by their sampled runs."""
    best = points[0]
    for point in points[1:]:
        best = point if better(design, point, best) else best
    return best


def difference(new: Sampled, old: Sampled) -> tuple[float, float, float]:
    """Mean difference of the outcome between runs of the same seeds, and its 95 % interval."""
    paired = new.sampled[:, 0] - old.sampled[:, 0]
    return _interval(paired)


def interval(point: Sampled, column: int) -> tuple[float, float, float]:
    """Mean of the outcome (column 0) or of a constraint, and its 95 % interval."""
    return _interval(point.sampled[:, column])


def _interval(values: Float[np.ndarray, "N"]) -> tuple[float, float, float]:
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    width = float(student.ppf(0.5 + LEVEL / 2, len(values) - 1)) * error
    return mean, mean - width, mean + width


def _said(design: Design) -> dict[str, Any]:
    """What decides which sampled runs are made: a design of anything else needs its own folder."""
    problem = design.problem
    return {
        "treated": problem.conditions[0].model.text,
        "untreated": design.untreated.conditions[0].model.text,
        "variables": [asdict(p) for p in problem.parameters],
        "formulas": [[o.name, o.formula.text, o.surrogate.text] for o in problem.observables],
        "goal": design.goal,
        "limits": design.limits.tolist(),
        "seed": problem.settings.seed,
        "runs": design.runs,
        "reading": problem.settings.reading,
    }
