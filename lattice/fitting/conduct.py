"""A fit from its beginning to its end, in a folder that the same command goes on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lattice.fitting import identify, likelihood, posterior
from lattice.fitting.sampled import sample
from lattice.fitting.search import Fitted, Iteration, offset_at, search
from lattice.fitting.structure import Problem
from lattice.fitting.surrogate import Surrogate
from lattice.io.files import explain_os_error, replacing
from lattice.io.identity import claim_folder
from lattice.io.lock import RunLock

IDENTITY = "problem.json"
SEEDS_APART = 10_000_000
"""Seeds of sampled runs begin here, so that data simulated with small seeds are not met again."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What a fit found. `sampled` [N, M]: runs of the simulator at the estimate, of seeds that no
    part of the search has seen; `chi2` is their distance from the data, of `len(data)` terms."""

    problem: Problem
    fitted: Fitted
    iterations: tuple[Iteration, ...]
    objectives: tuple[float, ...]
    information: identify.Information
    sampled: Float[np.ndarray, "N M"]
    chi2: float
    runs: int
    check: identify.GradientCheck | None
    profiles: tuple[identify.Profile, ...]
    draws: Float[np.ndarray, "C D P"] | None
    statistics: dict[str, np.ndarray]
    notes: tuple[str, ...]


def conduct(
    problem: Problem,
    folder: Path,
    tell: Tell = lambda line: None,
    surrogate: Surrogate | None = None,
) -> Result:
    """Carry a fit out, or go on with it: sampled runs that are in the folder are not repeated.

    A compiled `surrogate` of a problem of the same layout saves its compilation. Raises InputError
    if the folder holds another problem.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(folder, error) from error
    with RunLock(folder):
        claim_folder(folder, IDENTITY, _said(problem), "a fit of other data, model or seed")
        return _carried_out(problem, folder, tell, surrogate)


def _carried_out(problem: Problem, folder: Path, tell: Tell, surrogate: Surrogate | None) -> Result:
    settings = problem.settings
    store = _Store(problem, folder / "samples", tell)
    if surrogate is None:
        tell("compiling the relaxation")
        surrogate = Surrogate(problem)
    surrogate = surrogate.on(problem)
    surrogate.with_jacobian(problem.start)

    def runs_at(k: int, u: Float[np.ndarray, "P"]) -> Float[np.ndarray, "N M"]:
        return store.get(f"iteration-{k:03d}", u, store.seeds(k * settings.runs, settings.runs))

    fitted, iterations, objectives = search(problem, surrogate, runs_at, tell)
    used = settings.iterations * settings.runs
    for k in range(settings.polish):
        fitted = _polished(problem, surrogate, fitted, store, k, used, tell)
        used += settings.polish_seeds
    known = identify.information(problem, surrogate, fitted)
    final = store.get("estimate", fitted.u, store.seeds(used, settings.final_runs))
    total = likelihood.covariance(problem, fitted.run) + fitted.run / len(final)
    chi2 = float(np.sum(likelihood.Whitening(total)(final.mean(axis=0) - problem.measured) ** 2))
    tell(f"sampled model at the estimate: chi2 {chi2:.4g} of {len(problem.data)} data")
    used += settings.final_runs
    check = None
    if settings.gradient_check:
        seeds = store.seeds(used, settings.gradient_check)

        def checked(name: str, u: np.ndarray) -> np.ndarray:
            return store.get(f"check-{name}", u, seeds)

        check = identify.check_gradient(problem, surrogate, fitted, checked)
    found = ()
    if settings.profiles:
        found = tuple(identify.profiles(problem, surrogate, fitted, known, tell))
    draws, statistics = _posterior(problem, surrogate, fitted, known, tell)
    return Result(
        problem, fitted, tuple(iterations), tuple(objectives), known, final, chi2, store.runs,
        check, found, draws, statistics, tuple(surrogate.notes),
    )  # fmt: skip


def _posterior(problem: Problem, surrogate: Surrogate, fitted: Fitted, known, tell: Tell):
    kind = problem.settings.posterior
    if kind == "none":
        return None, {}
    if kind == "laplace":
        return posterior.laplace(problem, fitted, known), {}
    tell("compiling the sampler of the posterior")
    return posterior.nuts(problem, surrogate, fitted, known, tell)


def _polished(
    problem: Problem, surrogate: Surrogate, fitted: Fitted, store: _Store, k: int, used: int,
    tell: Tell,
) -> Fitted:  # fmt: skip
    """One Gauss-Newton step on the sampled model itself, taken if it comes nearer to the data."""
    seeds = store.seeds(used, problem.settings.polish_seeds)
    here = store.get(f"polish-{k}-before", fitted.u, seeds)

    def coupled(name: str, u: np.ndarray) -> np.ndarray:
        return store.get(f"polish-{k}-{name}", u, seeds)

    slopes, _ = identify.coupled_jacobian(problem, fitted.u, coupled)
    total = likelihood.covariance(problem, fitted.run) + fitted.run / len(here)
    whiten = likelihood.Whitening(total)
    prior, prior_slopes = likelihood.prior_residuals(problem, fitted.u)
    residual = np.concatenate([whiten(here.mean(axis=0) - problem.measured), prior])
    slope = np.concatenate([whiten(slopes), prior_slopes])
    step = -np.linalg.lstsq(slope, residual, rcond=1e-6)[0]
    step *= min(1.0, problem.settings.region / max(np.max(np.abs(step)), 1e-12))
    u = np.clip(fitted.u + step, *problem.bounds)
    there = store.get(f"polish-{k}-after", u, seeds)

    def distance(runs: np.ndarray, at: np.ndarray) -> float:
        misfit = whiten(runs.mean(axis=0) - problem.measured)
        return float(misfit @ misfit + np.sum(likelihood.prior_residuals(problem, at)[0] ** 2))

    before, after = distance(here, fitted.u), distance(there, u)
    tell(f"Gauss-Newton step {k + 1}: chi2 of sampled runs from {before:.4g} to {after:.4g}")
    if after >= before:
        return fitted
    offset = offset_at(problem, [Iteration(u, there, surrogate(u))], fitted.run)
    return replace(fitted, u=u, offset=offset, total=total, objective=after)


class _Store:
    """Sampled runs on disk, each set with the point that it belongs to."""

    def __init__(self, problem: Problem, folder: Path, tell: Tell) -> None:
        self.problem, self.folder, self.tell, self.runs = problem, folder, tell, 0
        folder.mkdir(exist_ok=True)

    def seeds(self, first: int, count: int) -> Sequence[int]:
        begin = SEEDS_APART * (1 + self.problem.settings.seed % 10**6) + first
        return range(begin, begin + count)

    def get(self, name: str, u: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """The runs of this name if they were made at u, else new ones."""
        self.runs += len(seeds) * len({d.condition for d in self.problem.data})
        path = self.folder / f"{name}.npz"
        made_of = np.array([*u, seeds[0], len(seeds)], float)
        found = _read(path, made_of)
        if found is not None:
            return found
        self.tell(f"{name}: {len(seeds)} sampled runs of each condition")
        sampled = sample(self.problem, u, seeds)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, made_of=made_of, sampled=sampled)
        return sampled


def _read(path: Path, made_of: np.ndarray) -> np.ndarray | None:
    """Runs that were made of this point and these seeds; None if none that can be read were."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["sampled"] if np.array_equal(file["made_of"], made_of) else None
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _said(problem: Problem) -> dict[str, Any]:
    """What decides which sampled runs are made: a fit of anything else needs its own folder."""
    return {
        "conditions": [[c.name, c.model.text] for c in problem.conditions],
        "parameters": [asdict(p) for p in problem.parameters],
        "observables": [
            [o.name, o.formula.text, o.surrogate.text, o.log] for o in problem.observables
        ],
        "data": [asdict(d) for d in problem.data],
        "seed": problem.settings.seed,
        "runs": problem.settings.runs,
        "reading": problem.settings.reading,
    }
