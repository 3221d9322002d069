"""Voxel systems with a known exact solution, for work against precision.

Sources in 1 % of the voxels, 3 % of which move from one window to the next. With a seed,
diffusivities and half-lives are drawn as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.fft import dctn, idctn

from benchmarks import reference
from benchmarks.field_cases import DECAY, DIFFUSION, VOXEL, random_bone
from benchmarks.measure import Setting, Timing, measured
from benchmarks.record import Record
from benchmarks.reference_case import SMALL, switching_sources
from lattice.model.errors import InputError


@dataclass(frozen=True)
class Problem:
    """A voxel system, its sources in consecutive windows, and its exact solution.

    `diffusion` [S] in um^2/hour outside bone, `decay` [S] in 1/hour; `bone` uint8 [z, y, x].
    `windows`: (hours, source [z, y, x] in concentration/hour); `truth`: the fields [z, y, x, S] at
    the end of each, from `start`.
    """

    case: str
    bone: np.ndarray
    in_bone: float
    diffusion: np.ndarray
    decay: np.ndarray
    start: np.ndarray
    windows: list[tuple[float, np.ndarray]]
    truth: list[np.ndarray]
    parameters: dict[str, Any]


def coefficients(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Diffusion (um^2/hour) and decay (1/hour): those of the yardstick or, with a seed, drawn from
    10 to 100 um^2/s and 10 minutes to 6 hours, evenly in the logarithm. Raises InputError."""
    species = setting.species
    if setting.seed is None:
        if species > len(DIFFUSION):
            raise InputError(
                f"--species {species}: the yardstick has {len(DIFFUSION)}; write --seed N as well, "
                "which draws as many as are asked for"
            )
        return DIFFUSION[:species], DECAY[:species]
    rng = np.random.default_rng(setting.seed)
    diffusion = 10 ** rng.uniform(1, 2, species) * 3600
    half_life = 10 ** rng.uniform(np.log10(1 / 6), np.log10(6), species)
    return diffusion, np.log(2) / half_life


def without_bone(setting: Setting) -> Problem:
    """Two hours from an empty domain, sources that change every 15 minutes, and the first output
    after 6 minutes (for steps that are as short). The truth is exact, mode by mode in float64."""
    diffusion, decay = coefficients(setting)
    bone = np.zeros(setting.shape, np.uint8)
    sources = switching_sources(bone, "everywhere", 8, setting.drawn_from)
    windows = [(0.1, sources[0]), (0.15, sources[0]), *((0.25, s) for s in sources[1:])]
    start = np.zeros((*setting.shape, setting.species), np.float32)
    told = {**_told(setting), "sources_change_minutes": 15, "hours": 2.0}
    truth = exact_course(diffusion, decay, windows)
    return Problem("field-accuracy", bone, 1.0, diffusion, decay, start, windows, truth, told)


def exact_course(diffusion, decay, windows) -> list[np.ndarray]:
    """The voxel system without bone at the end of each window, as float32 [z, y, x, S]."""
    shape = windows[0][1].shape
    along = [4 * np.sin(np.pi * np.arange(n) / (2 * n)) ** 2 for n in shape]
    laplace = along[0][:, None, None] + along[1][:, None] + along[2]
    modes = np.zeros((len(decay), *shape))
    found = []
    for hours, source in windows:
        push = dctn(source.astype(np.float64), norm="ortho")
        for s, (d, k) in enumerate(zip(diffusion, decay, strict=True)):
            rate = d / VOXEL**2 * laplace + k
            modes[s] = modes[s] * np.exp(-rate * hours) - np.expm1(-rate * hours) / rate * push
        fields = [np.asarray(idctn(m, norm="ortho"), np.float32) for m in modes]
        found.append(np.stack(fields, axis=-1))
    return found


def with_bone(setting: Setting, contrast: float = 100.0) -> Problem:
    """Three windows of half an hour after four hours of constant sources in the marrow, diffusion
    a hundred times slower in bone. The truth is a Chebyshev expansion in float64, whose cost is
    why the lattice is never larger than in `field-reference`."""
    setting = replace(setting, grid=min(setting.grid, SMALL))
    diffusion, decay = coefficients(setting)
    bone = random_bone(setting.grid, setting.drawn_from)
    sources = switching_sources(bone, "marrow", 4, setting.drawn_from)
    hours = [4.0, 0.5, 0.5, 0.5]
    truth, bound = reference.solution(bone, 1 / contrast, VOXEL, diffusion, decay, sources, hours)
    told = {**_told(setting), "contrast": contrast, "sources_change_minutes": 30, "hours": 1.5}
    assert bound < 1e-8
    return Problem(
        "field-accuracy-bone", bone, 1 / contrast, diffusion, decay, truth[0].astype(np.float32),
        list(zip(hours[1:], sources[1:], strict=True)), list(truth[1:]), told,
    )  # fmt: skip


def _told(setting: Setting) -> dict[str, Any]:
    """With `seed` None the coefficients are those of the yardstick."""
    return {"species": setting.species, "seed": setting.seed}


def result(
    problem: Problem,
    method: str,
    step_hours: float,
    timing: Timing,
    found: list[tuple[float, float]],
    skipped: int = 0,
    **told: Any,
) -> Record:
    """A record of a method; `found`: its errors (L2, Linf) at the ends of windows, the first
    `skipped` of which do not count in the largest."""
    parameters = {**problem.parameters, "step_minutes": round(step_hours * 60, 6)}
    return measured(
        problem.case,
        method,
        problem.bone.shape,
        timing,
        updates=problem.bone.size,
        error_l2=max((l2 for l2, _ in found[skipped:]), default=None),
        error_linf=max((linf for _, linf in found[skipped:]), default=None),
        seconds_per_simulated_day=timing.median * 24 / step_hours,
        parameters=parameters,
        more={"error_l2_by_output": [l2 for l2, _ in found]},
        **told,
    )
