"""One step of the sampled simulation, and chunks of steps, on one block of the lattice.

Order within a step: interventions that are due; fields; pair sub-steps over the six matchings in
a random order; site sub-step; matrix. ARCHITECTURE.md tells the life of a step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32

from lattice.engine import fields, interventions, matrix, observe, sampled
from lattice.engine.declare import MATRIX_ONE, local_cytokines, systemic_cytokines
from lattice.engine.initial import count_bone_faces, places_of
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan, matching_orders
from lattice.engine.region import Region
from lattice.engine.residual import Left, left_by
from lattice.engine.signals import Surroundings
from lattice.kernels.conjugate_gradient import no_residual
from lattice.kernels.counting import count_values
from lattice.kernels.fusion import always, boundary
from lattice.kernels.random_bits import stream_key, voxel_bits
from lattice.model.structure import Model

State = dict[str, Any]
"""Name -> array, and within a chunk `residual`."""


def advance(
    plan: Plan,
    numbers: Numbers,
    state: State,
    due: Bool[Array, "L I"],
    count: Int32[Array, ""],
    every: Int32[Array, ""] | None = None,
    watched: bool = False,
) -> tuple[State, dict[str, Array], Left | None]:
    """`count` (at most L) steps; `due[i]` tells which interventions act in the i-th.

    Where the steps done are a multiple of `every`, the state is measured (`observe.measure`): the
    second result holds these rows in order, along a first axis of length L. The third, if
    `watched`, is what the last field solve has left of its residual."""
    watched = watched and bool(local_cytokines(plan.model)) and not plan.method.exact
    prepared = None
    if "osteoid" not in state:
        prepared = fields.prepare(plan.model, plan.region, plan.method, numbers, state.get("bone"))

    def body(i, carry):
        state, rows = carry
        # One of the last `field_every` steps solves.
        look = i >= count - plan.field_every if watched else None
        state = one_step(plan, numbers, state, prepared, due[i], look)
        return state, rows if every is None else _with_row(plan, state, rows, first, every)

    first, rows = state["step"], {}
    if every is not None:
        row = jax.eval_shape(lambda s: observe.measure(plan.model, plan.region, s), state)
        rows = {k: jnp.zeros((due.shape[0], *r.shape), r.dtype) for k, r in row.items()}
    if watched:
        state = {**state, "residual": no_residual(len(local_cytokines(plan.model)))}
    state, rows = jax.lax.fori_loop(0, count, body, (state, rows))
    if not watched:
        return state, rows, None
    residual = state.pop("residual")
    return state, rows, left_by(residual, state["cytokines"], plan.region)


def _with_row(plan: Plan, state: State, rows, first, every):
    """The rows of a chunk that began at the step `first`, with that of the present step if due."""

    def measured(rows):
        row = observe.measure(plan.model, plan.region, state)
        position = state["step"] // every - first // every - 1
        return {name: kept.at[position].set(row[name]) for name, kept in rows.items()}

    return jax.lax.cond(state["step"] % every == 0, measured, lambda rows: rows, rows)


def one_step(
    plan: Plan,
    numbers: Numbers,
    state: State,
    prepared,
    due: Bool[Array, "I"],
    look: Bool[Array, ""] | None = None,
) -> State:
    """The state after one step; `prepared` is what the field solver knows of the lattice (None if
    bone may change: somewhere it does in almost every step, so nothing is kept for the next).

    With `look`, `residual` in the state is that of the last solve where it was true."""
    state = dict(state)
    scaled = interventions.scaled_numbers(plan.model, numbers, due)
    shape = state["cells"].shape
    cells, since = interventions.kill(
        plan.model,
        plan.region,
        numbers,
        due,
        state["seed"],
        state["step"],
        state["cells"].reshape(-1),
        state["since"].reshape(-1),
    )
    state["cells"], state["since"] = cells.reshape(shape), since.reshape(shape)
    faces = None
    if "bone" in state:
        faces = count_bone_faces(plan.region, _solid(state))
    if local_cytokines(plan.model) or systemic_cytokines(plan.model):
        state = _field_part(plan, scaled, state, prepared, due, faces, look)
    around = _surroundings(plan, state, faces)
    around, consumed, state = _cell_part(plan, scaled, state, around)
    if "osteoid" in state:
        state = _matrix_part(plan, scaled, state, around, consumed)
    else:
        state["cells"], state["since"] = _stripped(plan.region, around.cells, around.since)
    state["step"] = state["step"] + 1
    return state


def _solid(state: State) -> Array:
    """Bone, and voxels that turn to bone in this step: a cell that moves out of one finds surface
    on the far side."""
    if "osteoid" not in state:
        return state["bone"]
    full = matrix.matrix_total(state["osteoid"], state["mineral"]) >= MATRIX_ONE
    return jnp.where(full, jnp.uint8(1), state["bone"])


def _stripped(region: Region, *arrays: Array) -> tuple[Array, ...]:
    return tuple(region.strip(a.reshape(region.padded)) for a in arrays)


def _now(state: State) -> Bool[Array, ""]:
    """True, known only once the fields of this step are done: what is computed under it (see
    `fusion.boundary`) takes no memory beside the field solver, which needs most."""
    return always(state["molecules"]) if "molecules" in state else state["step"] >= 0


def _surroundings(plan: Plan, state: State, faces) -> Surroundings:
    region, model = plan.region, plan.model

    def flat(array):
        return region.pad(array).reshape(-1)

    def flat_if_any(array):
        return None if array is None else flat(array)

    total = None
    if "osteoid" in state:
        # A unit of its own: computed anew for later readers, it would keep the old matrix alive.
        total = boundary(_now(state), matrix.matrix_total, state["osteoid"], state["mineral"])
    fluid = state.get("cytokines")
    if fluid is not None:
        fluid = region.pad(fluid).reshape(region.size, -1)
    return Surroundings(
        model,
        region,
        flat(state["cells"]),
        flat(state["since"]),
        flat_if_any(state.get("bone")),
        flat_if_any(faces),
        flat_if_any(total),
        fluid,
        state.get("systemic"),
        _densities(plan, state["cells"]),
        state["step"],
    )


def _densities(plan: Plan, cells):
    """Cells of each state per voxel of the lattice, from integer counts; only where sensed."""
    model = plan.model
    sensed = {n for s in _signals(model) if s.kind == "density" for n in s.members}
    codes = [code for code, state in enumerate(model.states) if state.name in sensed]
    total = jnp.zeros(len(model.states), jnp.int32)
    if codes:
        counts = fields.region_sum(count_values(cells, codes), plan.region)
        total = total.at[jnp.asarray(codes)].set(counts)
    voxels = float(np.prod(model.lattice.shape, dtype=np.float64))
    return total.astype(jnp.float32) / voxels


def _signals(model: Model):
    responders = [
        *model.rules,
        *(e for s in model.states for e in (*s.secretes, *s.takes_up)),
        *(r for s in model.states for r in (s.lays, s.resorbs) if r is not None),
    ]
    yield from (r.signal for holder in responders for r in holder.responses)
    yield from (r.signal for c in model.cytokines for r in c.production_when)
    yield from (rule.toward.signal for rule in model.rules if rule.toward is not None)


def _field_part(plan: Plan, numbers: Numbers, state: State, prepared, due, faces, look) -> State:
    """The solves of this step, if it is one that solves."""

    def solved(state: State) -> State:
        known = prepared
        if known is None:
            known = fields.prepare(plan.model, plan.region, plan.method, numbers, state["bone"])
        for _ in range(plan.field_repeats):
            state = _one_solve(plan, numbers, state, known, due, faces, look)
        return state

    if plan.field_every == 1:
        return solved(state)
    return jax.lax.cond(state["step"] % plan.field_every == 0, solved, lambda s: s, state)


def _one_solve(plan: Plan, numbers: Numbers, state: State, prepared, due, faces, look) -> State:
    model, region = plan.model, plan.region
    around = _surroundings(plan, state, faces)
    exchange = fields.exchanges(around, numbers, plan.capacity)
    exchange = _with_external(plan, numbers, state, exchange, due)
    state = dict(state)
    budgets = []
    if local_cytokines(model):
        state["cytokines"], budget, residual = fields.solve(
            model,
            region,
            plan.method,
            prepared,
            numbers,
            state["cytokines"],
            exchange,
            state.get("bone"),
            look,
        )
        if residual is not None:
            state["residual"] = residual
        budgets.append(budget)
    if systemic_cytokines(model):
        state["systemic"], budget = fields.solve_systemic(
            model, numbers, state["systemic"], exchange, plan.method.dt
        )
        budgets.append(budget)
    state["molecules"] = _add_exactly(state["molecules"], jnp.concatenate(budgets))
    return state


def _with_external(plan: Plan, numbers, state, exchange, due):
    model, region = plan.model, plan.region
    local = [c.name for c in local_cytokines(model)]
    systemic = [c.name for c in systemic_cytokines(model)]
    if not any(i.kind == "source" for i in model.interventions):
        return exchange
    places = {k: v[..., None] for k, v in places_of(region, state.get("bone")).items()}
    added = interventions.external_sources(model, local, numbers, due, places)
    if added is not None:
        exchange = replace(exchange, source=exchange.source + added)
    whole = {place: jnp.float32(1) for place in places}
    added = interventions.external_sources(model, systemic, numbers, due, whole)
    if added is not None:
        exchange = replace(exchange, systemic_source=exchange.systemic_source + added)
    return exchange


def _add_exactly(total, amount):
    """Compensated sum (Neumaier 1974): limb 0 is the sum, limb 1 what rounding took from it."""
    old, error = total[..., 0], total[..., 1]
    new = old + amount
    larger = jnp.abs(old) >= jnp.abs(amount)
    error = error + jnp.where(larger, (old - new) + amount, (amount - new) + old)
    return jnp.stack([new, error], axis=-1)


def _cell_part(plan: Plan, numbers: Numbers, state: State, around: Surroundings):
    """Pair sub-steps and the site sub-step; returns the surroundings after them."""
    table, seed = plan.table, state["seed"]
    draws = sampled.Draws(*(stream_key(seed, n) for n in ("contact", "site", "fate")))
    consumed = jnp.zeros(around.cells.shape, jnp.int32) if sampled.consumes(table) else None
    fired = jnp.zeros(len(table.rule_names), jnp.int32)
    orders = matching_orders(plan.region.shape)
    if table.pair and orders.shape[1]:
        around, consumed, fired = _contacts(
            plan, numbers, around, consumed, fired, draws, jnp.asarray(orders), seed
        )
    if table.site:
        before = around
        cells, since, eaten, more = boundary(
            _now(state),
            lambda: sampled.site_substep(before, consumed, table, numbers, draws, plan.capacity),
        )
        around = sampled.refreshed(around, cells, since, consumed, eaten)
        consumed, fired = eaten, fired + more
    if "events" in state:
        total = fields.region_sum(fired, plan.region)
        state = {**state, "events": sampled.add_events(state["events"], total)}
    return around, consumed, state


def _contacts(plan, numbers, around, consumed, fired, draws, orders, seed):
    table, step = plan.table, around.step
    matchings = orders.shape[1]
    key = stream_key(seed, "order of matchings")
    time, voxel = plan.model.time, plan.model.lattice.voxel
    bounds = sampled.pair_bounds(table, numbers, time.contact_step, voxel)

    def body(k, carry):
        cells, since, matrix_now, consumed, fired = carry
        now = replace(around, cells=cells, since=since, matrix=matrix_now)
        draw = voxel_bits(key, jnp.zeros((), jnp.uint32), step, k // matchings)[0]
        code = orders[draw % orders.shape[0], k % matchings]
        where = (code // 2, code % 2, k)
        cells, since, eaten, more = sampled.contact_substep(
            now, consumed, table, numbers, bounds, draws, *where, plan.capacity
        )
        after = sampled.refreshed(now, cells, since, consumed, eaten)
        return after.cells, after.since, after.matrix, eaten, fired + more

    start = (around.cells, around.since, around.matrix, consumed, fired)
    end = jax.lax.fori_loop(0, plan.contacts * matchings, body, start)
    around = replace(around, cells=end[0], since=end[1], matrix=end[2])
    return around, end[3], end[4]


def _matrix_part(plan: Plan, numbers: Numbers, state: State, around: Surroundings, consumed):
    """Laying down, mineralisation, resorption, and voxels that turn to bone or marrow."""
    region, table = plan.region, plan.table
    draws = sampled.Draws(*(stream_key(state["seed"], n) for n in ("contact", "site", "fate")))
    assert plan.model.matrix is not None
    assert around.matrix is not None
    before = around
    laid, wanted = boundary(
        _now(state),
        lambda: matrix.laid_and_wanted(before, table, numbers, draws, plan.capacity),
    )
    if consumed is not None:
        wanted = wanted + consumed
    laid, wanted = _stripped(region, laid, wanted)
    lag, dt = numbers[plan.model.matrix.lag], plan.model.time.step

    # A unit of its own: fused with what follows, each of its results is computed anew.
    def age(osteoid, mineral, laid, wanted, lag):
        deposit, mineralised = matrix.mineralise(matrix.Deposit(osteoid, mineral), laid, lag, dt)
        deposit, removed = matrix.remove(deposit, wanted)
        return deposit.osteoid, deposit.mineral, mineralised, removed

    osteoid, mineral, mineralised, removed = boundary(
        state["step"] >= 0, age, state["osteoid"], state["mineral"], laid, wanted, lag
    )
    deposit = matrix.Deposit(osteoid, mineral)
    total = matrix.matrix_total(deposit.osteoid, deposit.mineral)
    was_full = around.matrix >= MATRIX_ONE
    around = replace(around, matrix=region.pad(total).reshape(-1))
    cells, since, phase = matrix.turn_to_bone(
        around, was_full, table, numbers, draws, plan.capacity
    )
    cells, since, phase = _stripped(region, cells, since, phase)
    after = {
        "cells": cells,
        "since": since,
        "bone": phase,
        "osteoid": deposit.osteoid,
        "mineral": deposit.mineral,
        "matrix_flux": matrix.add_flux(state["matrix_flux"], [laid, mineralised, removed], region),
    }
    return {**state, **after}
