"""The error of field solves in a run of the bone model, where sources move at every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Setting, measured
from benchmarks.record import Record
from lattice import run
from lattice.engine.declare import local_cytokines
from lattice.engine.plan import plan_of
from lattice.engine.simulation import Simulation, room_for
from lattice.engine.step import advance
from lattice.kernels.time_scheme import scheme_of
from lattice.model import load
from lattice.model.structure import Model

MODEL = Path(__file__).resolve().parents[1] / "configs" / "adult.toml"
SMALLEST = 36
"""Trabeculae of the model need as many voxels."""
MANY = 12
"""Iterations of the solves that are compared with."""
TRIED = (None, 3, 4)
"""Iterations of the run's own solves; None: those of the scheme."""
DAY_H, AFTER_H = 24.0, 2.0
"""The first solves follow the switching on of all sources; they are not typical."""


def model_fields(setting: Setting) -> Iterator[Record]:
    """A day of the adult bone model: its fields beside fields that the same cells feed and many
    more iterations solve for. Time step and scheme are the same: this is the solver's part."""
    edge = max(SMALLEST, setting.grid // 2)
    for tried in TRIED:
        own = [] if tried is None else [f"solver.iterations={tried}"]
        model = load(MODEL, overrides=[f"lattice.shape={[edge] * 3}", *own])
        yield of_model(model, setting.drawn_from)


def of_model(model: Model, seed: int) -> Record:
    """The errors of a run of one model, of the worst cytokine at the worst moment."""
    names = [c.name for c in local_cytokines(model)]
    simulation = Simulation(model, seed, run.bone_of(model, seed))
    region = simulation.region
    plan = plan_of(model, region, room_for(simulation.longest_list, region))
    many = replace(plan, method=replace(plan.method, iterations=MANY), contacts=0)
    never = jnp.zeros((1, len(model.interventions)), bool)

    @jax.jit
    def solved(numbers, state):
        return advance(many, numbers, state, never, jnp.int32(1))[0]["cytokines"]

    reference, errors = None, []
    while simulation.time_h < DAY_H:
        solves = simulation.step % plan.field_every == 0
        if solves:
            own = {} if reference is None else {"cytokines": reference}
            reference = solved(simulation.numbers, {**simulation.state, **own})
        simulation.advance(1)
        if solves and simulation.time_h > AFTER_H:
            errors.append(relative(simulation.state["cytokines"], reference))
    l2, linf = np.max(errors, axis=0)
    x, y, z = model.lattice.shape
    return measured(
        "model-fields",
        plan.method.scheme,
        (z, y, x),
        parameters={
            "model": model.name,
            "seed": seed,
            "iterations": plan.method.iterations or scheme_of(plan.method.scheme).iterations[0],
        },
        error_l2=float(l2.max()),
        error_linf=float(linf.max()),
        more={f"error_l2_of_{name}": value for name, value in zip(names, l2.tolist(), strict=True)},
    )


def relative(found, exact) -> tuple[np.ndarray, np.ndarray]:
    """L2 and Linf of the difference, relative to the exact field, of each cytokine."""
    a, b = (np.asarray(v, np.float64).reshape(-1, v.shape[-1]) for v in (found, exact))
    away = a - b
    l2 = np.sqrt((away**2).sum(axis=0) / (b**2).sum(axis=0))
    return l2, np.abs(away).max(axis=0) / np.abs(b).max(axis=0)
