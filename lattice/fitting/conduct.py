"""A fit from its beginning to its end, in a folder that the same command goes on with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lattice.fitting import identify, likelihood, posterior
from lattice.fitting.cross_check import CrossCheck, cross_check
from lattice.fitting.search import Fitted, Iteration, offset_at, search
from lattice.fitting.store import SampleStore, Tell
from lattice.fitting.structure import Problem
from lattice.fitting.surrogate import Surrogate
from lattice.io.identity import claimed_folder

IDENTITY = "problem.json"


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
    crossed: CrossCheck | None
    draws: Float[np.ndarray, "C D P"] | None
    statistics: dict[str, np.ndarray]
    notes: tuple[str, ...]


def conduct(
    problem: Problem,
    folder: Path,
    tell: Tell = lambda line: None,
    surrogate: Surrogate | None = None,
    jobs: int | None = None,
) -> Result:
    """Carry a fit out, or go on with it: sampled runs that are in the folder are not repeated.

    A compiled `surrogate` of a problem of the same layout saves its compilation. At most `jobs`
    sampled runs at a time, one on each of JAX's devices (None: as many as there are). Raises
    InputError if the folder holds another problem.
    """
    with claimed_folder(folder, IDENTITY, _said(problem), "a fit of other data, model or seed"):
        return _carried_out(problem, folder, tell, surrogate, jobs)


def _carried_out(
    problem: Problem, folder: Path, tell: Tell, surrogate: Surrogate | None, jobs: int | None
) -> Result:
    settings = problem.settings
    store = SampleStore(folder / "samples", problem.settings.seed, tell, jobs)
    if surrogate is None:
        tell("compiling the relaxation")
        surrogate = Surrogate(problem)
    surrogate = surrogate.on(problem)
    surrogate.with_jacobian(problem.start)

    def runs_at(k: int, u: Float[np.ndarray, "P"]) -> Float[np.ndarray, "N M"]:
        return store.get(
            f"iteration-{k:03d}", problem, u, store.seeds(k * settings.runs, settings.runs)
        )

    fitted, iterations, objectives = search(problem, surrogate, runs_at, tell)
    used = settings.iterations * settings.runs
    for k in range(settings.polish):
        fitted = _polished(problem, surrogate, fitted, store, k, used, tell)
        used += settings.polish_seeds
    known = identify.information(problem, surrogate, fitted)
    final_seeds = store.seeds(used, settings.final_runs)
    final = store.get("estimate", problem, fitted.u, final_seeds)
    total = likelihood.covariance(problem, fitted.run) + fitted.run / len(final)
    chi2 = _chi2(problem, total, final)
    tell(f"sampled model at the estimate: chi2 {chi2:.4g} of {len(problem.data)} data")
    used += settings.final_runs
    check = None
    if settings.gradient_check:
        seeds = store.seeds(used, settings.gradient_check)

        def checked(name: str, u: np.ndarray) -> np.ndarray:
            return store.get(f"check-{name}", problem, u, seeds)

        check = identify.check_gradient(problem, surrogate, fitted, checked)
    found = ()
    if settings.profiles:
        found = tuple(identify.profiles(problem, surrogate, fitted, known, tell))
    crossed = None
    if settings.cross_check == "cma":
        crossed = _crossed(problem, fitted, store, final_seeds, total, tell)
    draws, statistics = _posterior(problem, surrogate, fitted, known, tell)
    return Result(
        problem, fitted, tuple(iterations), tuple(objectives), known, final, chi2, store.runs,
        check, found, crossed, draws, statistics, tuple(surrogate.notes),
    )  # fmt: skip


def _chi2(problem: Problem, total: Float[np.ndarray, "M M"], sampled: np.ndarray) -> float:
    misfit = likelihood.Whitening(total)(sampled.mean(axis=0) - problem.measured)
    return float(misfit @ misfit)


def _crossed(
    problem: Problem, fitted: Fitted, store: SampleStore, seeds: range,
    total: Float[np.ndarray, "M M"], tell: Tell,
) -> CrossCheck:  # fmt: skip
    """CMA-ES beside the fit, its end judged by runs of the seeds that judged the estimate."""
    u, points = cross_check(problem, fitted.total, fitted.run, store, tell)
    sampled = store.get("cma-estimate", problem, u, seeds)
    chi2 = _chi2(problem, total, sampled)
    return CrossCheck(u, points, chi2)


def _posterior(problem: Problem, surrogate: Surrogate, fitted: Fitted, known, tell: Tell):
    kind = problem.settings.posterior
    if kind == "none":
        return None, {}
    if kind == "laplace":
        return posterior.laplace(problem, fitted, known), {}
    tell("compiling the sampler of the posterior")
    return posterior.nuts(problem, surrogate, fitted, known, tell)


def _polished(
    problem: Problem, surrogate: Surrogate, fitted: Fitted, store: SampleStore, k: int, used: int,
    tell: Tell,
) -> Fitted:  # fmt: skip
    """One Gauss-Newton step on the sampled model itself, taken if it comes nearer to the data."""
    seeds = store.seeds(used, problem.settings.polish_seeds)
    here = store.get(f"polish-{k}-before", problem, fitted.u, seeds)

    def coupled(name: str, u: np.ndarray) -> np.ndarray:
        return store.get(f"polish-{k}-{name}", problem, u, seeds)

    slopes, _ = identify.coupled_jacobian(problem, fitted.u, coupled)
    total = likelihood.covariance(problem, fitted.run) + fitted.run / len(here)
    whiten = likelihood.Whitening(total)
    prior, prior_slopes = likelihood.prior_residuals(problem, fitted.u)
    residual = np.concatenate([whiten(here.mean(axis=0) - problem.measured), prior])
    slope = np.concatenate([whiten(slopes), prior_slopes])
    step = -np.linalg.lstsq(slope, residual, rcond=1e-6)[0]
    step *= min(1.0, problem.settings.region / max(np.max(np.abs(step)), 1e-12))
    u = np.clip(fitted.u + step, *problem.bounds)
    there = store.get(f"polish-{k}-after", problem, u, seeds)

    def distance(runs: np.ndarray, at: np.ndarray) -> float:
        misfit = whiten(runs.mean(axis=0) - problem.measured)
        return float(misfit @ misfit + np.sum(likelihood.prior_residuals(problem, at)[0] ** 2))

    before, after = distance(here, fitted.u), distance(there, u)
    tell(f"Gauss-Newton step {k + 1}: chi2 of sampled runs from {before:.4g} to {after:.4g}")
    if after >= before:
        return fitted
    offset = offset_at(problem, [Iteration(u, there, surrogate(u))], fitted.run)
    return replace(fitted, u=u, offset=offset, total=total, objective=after)


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
