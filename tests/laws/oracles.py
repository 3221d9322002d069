"""The differential equations of Lemaire 2004 and Trejo 2019, and readings of their model files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from lattice.engine import mean_field
from lattice.engine.devices import region_of
from lattice.engine.interventions import due_steps
from lattice.engine.numbers import numbers_of
from lattice.engine.plan import Plan, plan_of
from lattice.engine.simulation import Simulation
from lattice.kernels.random_bits import seed_words
from lattice.model import load
from lattice.model.structure import Model
from tests.docs.blocks import ROOT

PM_PER_VOXEL = 1e12 / 6.02214076e23 / (30e-5) ** 3
"""pM of cells in voxels of 30 um that hold one cell each: voxels in litres are (3e-4 dm)^3."""

PER_ML = 1 / (70e-4) ** 3
"""Cells per mL in voxels of 70 um that hold one cell each."""

LEMAIRE_STEADY = (7.7344e-4, 7.2834e-4, 9.1275e-4, 250 / 86)
TREJO_START = (5e7, 4000.0, 0.0, 0.0, 1.0, 0.0, 1000.0, 0.0)
TREJO_NAMES = ("debris", "M0", "M1", "M2", "TNF", "IL10", "stromal", "osteoblast")


def lemaire(day: float, y: Sequence[float], infused: Callable[[float], float]) -> list[float]:
    """Right-hand side of Lemaire 2004: R, B, C and PTH in pM, days; `infused` is PTH in pM/day."""
    pth = y[3]
    return [*_lemaire_cells(y[:3], pth, 86 * pth - 250), 250 + infused(day) - 86 * pth]


def lemaire_reduced(day: float, y: Sequence[float], infused: Callable) -> list[float]:
    """The same of R, B, C, with PTH at the level that it reaches within an hour."""
    injected = infused(day)
    return _lemaire_cells(y, (250 + injected) / 86, injected)


def _lemaire_cells(y: Sequence[float], pth: float, injected: float) -> list[float]:
    r, b, c = y
    f0, cs = 0.05, 5e-3
    pi_c = (c + f0 * cs) / (c + cs)
    pi_p = pth / (injected / 86 + 3 / 0.02)
    opg = 2e5 * r / pi_p / 0.35
    ratio = 5.8e-4 / 0.017
    pi_l = ratio * 3e6 * pi_p * b / (1 + ratio * 10 + 0.01 / 10 * opg)
    return [
        7e-4 * pi_c - 0.7 * f0 / pi_c * r,
        0.7 * f0 / pi_c * r - 0.189 * b,
        2.1e-3 * pi_l - 0.7 * pi_c * c,
    ]


def trejo(day: float, y: Sequence[float]) -> list[float]:
    """Right-hand side of Trejo 2019 in the order of TREJO_NAMES: per mL, ng/mL, days."""
    d, m0, m1, m2, c1, c2, cs, cb = y
    rd = d / (4.71e6 + d)
    g1, g2 = 0.611 * c1 / (0.01 + c1), 0.0836 * c2 / (0.005 + c2)
    a_s = 0.5 * (3.162**2 + 20 * c1) / (3.162**2 + c1**2)
    f1, a_b = 0.1 / (0.1 + c1), 0.2202 * 10 / (10 + c1)
    return [
        -rd * (12 * m1 + 24 * m2),
        0.015 * (1 - (m0 + m1 + m2) / 1e6) * d - (g1 + g2 + 0.156) * m0,
        g1 * m0 + 0.05 * m2 - 0.075 * m1 - 0.121 * m1,
        g2 * m0 + 0.075 * m1 - 0.05 * m2 - 0.163 * m2,
        0.025 / (0.025 + c2) * (5e-7 * d + 8.3e-6 * m1) - 12.79 * c1,
        0.1 / (0.1 + c2) * (3.72e-6 * m2 + 8e-6 * cs) - 4.632 * c2,
        a_s * cs * (1 - cs / 1e6) - f1 * cs,
        a_b * cb * (1 - cb / 1e6) + f1 * cs - 0.15 * cb,
    ]


def solve(right: Callable, start: Sequence[float], days: np.ndarray) -> np.ndarray:
    """The solution [day, variable] on increasing days that begin with the start's; LSODA with
    steps of at most half a day, so that no change of an input is stepped over."""
    found = solve_ivp(
        right,
        (days[0], days[-1]),
        start,
        t_eval=days,
        method="LSODA",
        rtol=1e-9,
        atol=1e-12,
        max_step=0.5,
    )
    assert found.success
    return found.y.T


def oracle(name: str, shape: tuple[int, int, int], overrides: Sequence[str] = ()) -> Model:
    """A model file of configs/oracles on a lattice of another size."""
    size = f"lattice.shape={list(shape)}"
    return load(ROOT / "configs" / "oracles" / f"{name}.toml", overrides=[size, *overrides])


@lru_cache(maxsize=8)
def _compiled(plan: Plan):
    """Compiled once for all coefficients."""
    return jax.jit(lambda numbers, state, due: mean_field.advance(plan, numbers, state, due))


def mean_course(model: Model, names: Sequence[str], days: np.ndarray) -> np.ndarray:
    """Densities (cells per voxel) and systemic levels (canonical) on some days, by name, in the
    mean-field reading. The days are evenly spaced and begin with 0."""
    region, numbers = region_of(model), numbers_of(model)
    plan = plan_of(model, region, region.size)
    state = mean_field.initial_mean(model, region, numbers, jnp.asarray(seed_words(0)), None)
    steps = round(float(days[1]) * 24 / model.time.step)
    go_on = _compiled(plan)
    rows = [_levels(model, names, state, mean_field.counts(state))]
    for chunk in range(len(days) - 1):
        due = due_steps(model, chunk * steps, steps)
        state = go_on(numbers, state, jnp.asarray(due))
        rows.append(_levels(model, names, state, mean_field.counts(state)))
    return np.array(rows)


def sampled_course(model: Model, names: Sequence[str], days: np.ndarray, seed: int) -> np.ndarray:
    """The same of one run of the sampled reading, on any increasing days."""
    simulation = Simulation(model, seed)
    rows = []
    for day in days:
        simulation.advance(round(day * 24 / model.time.step) - simulation.step)
        state = simulation.host_state()
        counts = np.bincount(state["cells"].ravel(), minlength=len(model.states))
        rows.append(_levels(model, names, state, counts))
    return np.array(rows)


def _levels(model: Model, names: Sequence[str], state, counts) -> list[float]:
    codes, systemic = model.state_codes(), [c.name for c in model.cytokines if c.systemic]
    voxels = int(np.prod(model.lattice.shape))
    levels = np.asarray(state["systemic"], np.float64)
    return [
        float(counts[codes[n]]) / voxels if n in codes else float(levels[systemic.index(n)])
        for n in names
    ]
