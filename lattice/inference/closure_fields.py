"""Cytokines in the pair closure: one level in each place, exchanged through the faces between."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from lattice.engine import fields, interventions
from lattice.engine.declare import local_cytokines, systemic_cytokines
from lattice.engine.flux import responses
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan
from lattice.inference.closure_view import Places, PlaceView, degrees
from lattice.kernels import mass_action
from lattice.kernels.time_scheme import mean_decay

State = dict[str, Array]


def field_part(plan: Plan, places: Places, numbers: Numbers, state: State, due) -> State:
    """The field solves of a step, whose length is that of the step: levels are few."""
    dt = plan.model.time.step
    rates = _exchanges(plan, places, numbers, state, due)
    state = dict(state)
    if local_cytokines(plan.model):
        state["cytokines"] = _local(plan, places, numbers, state, rates, dt)
    if systemic_cytokines(plan.model):
        systemic = [c.name for c in systemic_cytokines(plan.model)]
        share = state["size"] / places.voxels
        totals = [jnp.stack([share @ rates[k][n] for n in systemic]) for k in rates]
        exchange = fields.Exchanges(None, None, *totals)
        state["systemic"], _ = fields.solve_systemic(
            plan.model, numbers, state["systemic"], exchange, dt
        )
    return state


def _exchanges(plan: Plan, places: Places, numbers: Numbers, state: State, due):
    """Concentration/hour that is made and 1/hour that is taken up, by cytokine, in each place."""
    model, count = plan.model, len(places.names)
    volume = model.lattice.voxel**3
    zero = jnp.zeros(count, state["x"].dtype)
    rates = {k: {c.name: zero for c in model.cytokines} for k in ("secretes", "takes_up")}
    for code, cell in enumerate(model.states):
        view = PlaceView(model, places, state, code, (count,))
        for kind in rates:
            for e in getattr(cell, kind):
                made = numbers[e.rate] * responses(e.responses, view, numbers) / volume
                rates[kind][e.cytokine] = rates[kind][e.cytokine] + state["x"][:, code] * made
    anywhere = PlaceView(model, places, state, 0, (count,))
    systemic = {c.name for c in systemic_cytokines(model)}
    masks = {
        place: jnp.array([float(_within(n, place)) for n in places.names], zero.dtype)[:, None]
        for place in ("marrow", "surface", "bone", "everywhere")
    }
    for cytokine in model.cytokines:
        name = cytokine.name
        basal = numbers[cytokine.production] * responses(
            cytokine.production_when, anywhere, numbers
        )
        inside = masks["everywhere" if name in systemic else "marrow"][:, 0]
        added = interventions.external_sources(model, [name], numbers, due, masks)
        rates["secretes"][name] = rates["secretes"][name] + basal * inside
        if added is not None:
            rates["secretes"][name] = rates["secretes"][name] + added[:, 0]
    return rates


def _within(place: str, where: str) -> bool:
    return where in ("everywhere", place) or (where == "marrow" and place == "surface")


def _local(plan, places, numbers, state, rates, dt) -> Float[Array, "K S"]:
    """One step of the one-pole scheme (`diffusion_implicit`) between places, and reactions."""
    model = plan.model
    cytokines = local_cytokines(model)
    names = [c.name for c in cytokines]
    system = fields.reactions_of(model, names, numbers)
    levels = state["cytokines"]
    if system is not None:
        reactions, forward, backward, factor = system
        levels = mass_action.step_reactions(levels, reactions, forward, backward, factor, dt / 2)
    source = jnp.stack([rates["secretes"][n] for n in names], axis=1)
    sink = jnp.stack([rates["takes_up"][n] for n in names], axis=1)
    degree = degrees(places, state["size"])
    bone = jnp.array([name == "bone" for name in places.names])
    columns = []
    for k, c in enumerate(cytokines):
        inside = jnp.where(bone, numbers[c.in_bone], 1)
        total = inside[:, None] + inside[None]
        faces = jnp.where(
            total > 0, 2 * inside[:, None] * inside / jnp.where(total > 0, total, 1), 0
        )
        flow = degree * faces * (numbers[c.diffusion] / model.lattice.voxel**2)
        flow = flow * (1 - jnp.eye(len(bone), dtype=flow.dtype))
        lost = jnp.diag(jnp.sum(flow, axis=1) + sink[:, k]) - flow
        decay = numbers[c.decay] * dt
        weight = dt * mean_decay(decay)
        right = jnp.exp(-decay) * levels[:, k] + weight * source[:, k]
        matrix = jnp.eye(len(bone), dtype=flow.dtype) + weight * lost
        columns.append(jnp.linalg.solve(matrix, right))
    levels = jnp.stack(columns, axis=1)
    if system is not None:
        levels = mass_action.step_reactions(levels, reactions, forward, backward, factor, dt / 2)
    return levels
