"""The mean-field reading: the same rule table, with realised fluxes replaced by their means.

The state of a voxel is a probability for each cell state; a pair's joint probability is taken as
the product. That closure is exact for models without pair rules and neighbour signals in a
constant field (law 6), and an approximation otherwise: its gradient is the exact gradient of this
relaxation, never that of the sampled simulator. Matrix is a real number here, and a voxel turns to
bone when its mean matrix is full.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lattice.engine import fields, interventions
from lattice.engine.declare import has_bone, local_cytokines, systemic_cytokines
from lattice.engine.flux import responses
from lattice.engine.initial import count_bone_faces, initial_block, places_of
from lattice.engine.matching import rows_of
from lattice.engine.mean_fluxes import (
    FULL,
    Realise,
    State,
    along,
    apply,
    contact_substep,
    in_array,
    in_rows,
    mean,
    site_substep,
    states_that_meet,
)
from lattice.engine.mean_matrix import matrix_part
from lattice.engine.mean_view import MeanView
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan, matching_orders
from lattice.engine.region import Region
from lattice.kernels.diffusion_implicit import SOLUTION
from lattice.kernels.fusion import fused
from lattice.kernels.random_bits import stream_key, voxel_bits, voxel_uniform
from lattice.model.errors import InputError
from lattice.model.stages import clock_of, stage_codes
from lattice.model.structure import Model

SOLUTIONS = jax.checkpoint_policies.save_only_these_names(SOLUTION)
"""The way back makes anew all that a field solve needs and gives, but the solution itself."""


def require_no_ages(model: Model) -> None:
    """Raise InputError if a rule responds to age: probabilities carry none. Clocks are stages, or
    one rate where `stages.staged` has not been applied."""
    for rule in model.rules:
        if any(r.signal.kind == "age" for r in rule.responses):
            raise InputError(
                f"rule.{rule.name}: the mean-field reading has no ages; "
                "write a rate or `after` instead of a response to age"
            )


def require_no_clocks(model: Model, reading: str) -> None:
    """Raise InputError if a rule reads an age in any way."""
    require_no_ages(model)
    for rule in model.rules:
        if rule.after is not None:
            raise InputError(
                f'rule.{rule.name}.after: a clock is no draw, and "{reading}" has no ages; '
                'write "coupled", "mean_field", or a rate instead of `after`'
            )


def advance(
    plan: Plan, numbers: Numbers, state: State, due: Bool[Array, "L I"], realise: Realise = mean
) -> State:
    """As many steps as `due` has rows, in a scan that can be differentiated in reverse."""
    return scan_steps(plan, numbers, state, due, lambda _: (), realise)[0]


def scan_steps(plan: Plan, numbers: Numbers, state: State, due, measure, realise: Realise = mean):
    """The state after some steps, and what `measure` gives after each of them."""
    step = stepping(plan, numbers, state, realise)

    @jax.checkpoint
    def body(state, due):
        after = step(state, due)
        after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, state)
        return after, measure(after)

    return jax.lax.scan(body, state, due)


def stepping(
    plan: Plan, numbers: Numbers, state: State, realise: Realise = mean, *, frugal: bool = False
):
    """``(state, due) -> state``, one step after `state` or any that comes of it. Its parts keep for
    a way back what they read, and what field solves find; `kept_in_step` tells how much. Contacts
    keep what each matching reads or, where `frugal`, each round of matchings."""
    prepared = fields.prepare(plan.model, plan.region, plan.method, numbers, state.get("bone"))

    def step(state: State, due: Bool[Array, "I"]) -> State:
        with fused():
            return one_step(plan, numbers, state, prepared, due, realise, frugal)

    return step


def kept_in_step(plan: Plan, state: State, *, frugal: bool = False) -> int:
    """Bytes that a step keeps for a way back: its state, that of the cells at the beginning of
    every further part, of those that meet at the beginning of every matching (or round of them,
    where `frugal`), and the fields that solves find."""
    size = {name: int(a.size) * a.dtype.itemsize for name, a in state.items()}
    matchings = matching_orders(plan.region.shape).shape[1]
    beginnings = (plan.contacts + matchings) if frugal else plan.contacts * matchings
    fields_kept = size.get("cytokines", 0) * plan.field_repeats * (1 + plan.method.solves)
    meeting = size["x"] * len(states_that_meet(plan.table)) // len(plan.model.states)
    return sum(size.values()) + 2 * size["x"] + beginnings * meeting + fields_kept


def one_step(
    plan: Plan,
    numbers: Numbers,
    state: State,
    prepared,
    due,
    realise: Realise = mean,
    frugal: bool = False,
) -> State:
    """The state after one step, in the order of `lattice.engine.step`."""
    model, region = plan.model, plan.region
    scaled = interventions.scaled_numbers(model, numbers, due)
    state = dict(state)
    if "mineral" in state:
        prepared = fields.prepare(model, region, plan.method, numbers, state["bone"])
    state = _kill(plan, numbers, state, due, realise)
    around = surroundings(plan, state)
    if local_cytokines(model) or systemic_cytokines(model):
        solved = jax.checkpoint(partial(_field_part, plan), policy=SOLUTIONS)
        state = solved(scaled, state, around, prepared, due)
        around = surroundings(plan, state)
    if plan.table.pair and matching_orders(region.shape).shape[1]:
        state = _contacts(plan, scaled, state, around, realise, frugal)
    if plan.table.site:
        changed = jax.checkpoint(partial(site_substep, plan, realise=realise))
        state = changed(scaled, state, around)
    if "mineral" in state:
        state = jax.checkpoint(partial(matrix_part, plan))(scaled, state, around)
    state["step"] = state["step"] + 1
    return state


def _contacts(
    plan: Plan, numbers: Numbers, state: State, around, realise: Realise, frugal: bool
) -> State:
    orders = jnp.asarray(matching_orders(plan.region.shape))
    key = stream_key(state["seed"], "order of matchings")
    matchings = orders.shape[1]
    state = in_rows(state)
    meeting = states_that_meet(plan.table)

    def with_rows(moving) -> list:
        rows = dict(zip(meeting, moving, strict=True))
        return [rows.get(code, still) for code, still in enumerate(state["x"])]

    @jax.checkpoint
    def body(carry, k):
        draw = voxel_bits(key, jnp.zeros((), jnp.uint32), state["step"], k // matchings)[0]
        code = orders[draw % orders.shape[0], k % matchings]
        moving, tally = carry
        now = {"x": with_rows(moving), "step": state["step"], "seed": state["seed"], **tally}
        after = contact_substep(plan, numbers, now, around, (code, k), realise)
        tally = {name: after[name] for name in tally}
        return ([after["x"][code] for code in meeting], tally), None

    tally = {name: state[name] for name in state.keys() & {"tally"}}
    start = [state["x"][code] for code in meeting], tally
    every = jnp.arange(plan.contacts * matchings)
    if frugal:

        @jax.checkpoint
        def matchings_in_order(carry, round_of):
            return jax.lax.scan(body, carry, round_of)

        every = every.reshape(plan.contacts, matchings)
        moving, tally = jax.lax.scan(matchings_in_order, start, every)[0]
    else:
        moving, tally = jax.lax.scan(body, start, every)[0]
    return in_array({**state, "x": with_rows(moving), **tally})


def surroundings(plan: Plan, state: State) -> dict[str, Array]:
    around = {"step": state["step"]}
    if "mineral" in state:
        around["matrix"] = state["mineral"] + jnp.sum(state["osteoid"], axis=1)
    if "bone" in state:
        around["bone"] = solid = state["bone"]
        if "matrix" in around:
            # A voxel that turns to bone in this step is surface to the cell that moves out of it.
            solid = jnp.where(around["matrix"] >= FULL, jnp.uint8(1), solid)
        around["faces"] = count_bone_faces(plan.region, solid)
    for name in ("cytokines", "systemic"):
        if name in state:
            around[name] = state[name]
    return around


def _kill(plan: Plan, numbers: Numbers, state: State, due, realise: Realise) -> State:
    model, region = plan.model, plan.region
    codes, seed, step = model.state_codes(), state["seed"], state["step"]
    for column, intervention in enumerate(model.interventions):
        if intervention.kind != "kill" or intervention.fraction is None:
            continue
        share = jnp.where(due[column], numbers[intervention.fraction], 0)
        killed = [codes[name] for name in intervention.states]
        moves = [(code, codes[intervention.into]) for code in killed]
        index = interventions.draw_index(region, intervention.cluster, model.lattice.voxel)

        def uniform(index=index, name=intervention.name):
            key = stream_key(seed, f"intervention.{name}")
            return voxel_uniform(key, index, step, 0).reshape(region.shape)

        state = in_rows(state)
        fluxes = [state["x"][code] * share for code in killed]
        state = in_array(apply(state, fluxes, uniform, partial(along, moves=moves), realise))
    return state


def _field_part(plan, numbers, state, around, prepared, due):
    solved = partial(_solve, plan, numbers, around=around, prepared=prepared, due=due)
    if plan.field_every == 1:
        for _ in range(plan.field_repeats):
            state = solved(state)
        return state
    return jax.lax.cond(state["step"] % plan.field_every == 0, solved, lambda s: s, state)


def _solve(plan, numbers, state, around, prepared, due):
    model, region = plan.model, plan.region
    state = dict(state)
    view = MeanView(model, region, rows_of(state["x"]), around)
    exchange = _exchanges(plan, view, numbers, state, due)
    if local_cytokines(model):
        state["cytokines"], *_ = fields.solve(
            model,
            region,
            plan.method,
            prepared,
            numbers,
            state["cytokines"],
            exchange,
            state.get("bone"),
        )
    if systemic_cytokines(model):
        state["systemic"], _ = fields.solve_systemic(
            model, numbers, state["systemic"], exchange, plan.method.dt
        )
    return state


def _exchanges(plan, view: MeanView, numbers, state, due) -> fields.Exchanges:
    model, region = plan.model, plan.region
    volume = model.lattice.voxel**3
    local = [c.name for c in local_cytokines(model)]
    systemic = [c.name for c in systemic_cytokines(model)]
    rates = {}
    for kind in ("secretes", "takes_up"):
        none = jnp.zeros(region.shape, view.x[0].dtype)
        columns = dict.fromkeys((*local, *systemic), none)
        for code, cell in enumerate(model.states):
            for e in getattr(cell, kind):
                factor = numbers[e.rate] * responses(e.responses, view, numbers)
                columns[e.cytokine] = columns[e.cytokine] + factor * view.x[code] / volume
        rates[kind] = columns
    places = places_of(region, state.get("bone"))
    source, sink = None, None
    if local:
        basal = [
            numbers[c.production] * responses(c.production_when, view, numbers)
            for c in local_cytokines(model)
        ]
        made = zip(local, basal, strict=True)
        source = jnp.stack([rates["secretes"][n] + places["marrow"] * b for n, b in made], axis=-1)
        masks = {name: where[..., None] for name, where in places.items()}
        added = interventions.external_sources(model, local, numbers, due, masks)
        source = source if added is None else source + added
        if any(e.cytokine in local for s in model.states for e in s.takes_up):
            sink = jnp.stack([rates["takes_up"][n] for n in local], axis=-1)
    totals = []
    for kind in ("secretes", "takes_up"):
        totals.append(jnp.array([jnp.mean(rates[kind][n]) for n in systemic]))
    if systemic:
        # The same everywhere: the mean of a response is its value in any voxel.
        basal = [
            numbers[c.production]
            * jnp.mean(jnp.asarray(responses(c.production_when, view, numbers)))
            for c in systemic_cytokines(model)
        ]
        totals[0] = totals[0] + jnp.stack(basal)
        whole = dict.fromkeys(places, jnp.float32(1))
        added = interventions.external_sources(model, systemic, numbers, due, whole)
        totals[0] = totals[0] if added is None else totals[0] + added
    return fields.Exchanges(source, sink, *totals)


def initial_mean(
    model: Model, region: Region, numbers: Numbers, seed, bone, realise: Realise = mean, tally=None
) -> State:
    """The state at step 0: seeding fractions are fluxes from the empty state.

    Raises InputError for a model whose rules respond to age."""
    require_no_ages(model)
    sampled = initial_block(model, region, numbers, seed, bone)
    real = numbers.values.dtype
    kept = ("step", "seed", "bone", "cytokines", "systemic", "mineral", "osteoid")
    state: State = {name: sampled[name] for name in kept if name in sampled}
    for name in ("cytokines", "systemic", "mineral", "osteoid"):
        if name in state:
            state[name] = state[name].astype(real)
    # Again from the numbers: the sampled reading has rounded them.
    if local_cytokines(model):
        levels = jnp.stack([numbers[c.initial] for c in local_cytokines(model)])
        state["cytokines"] = jnp.broadcast_to(levels, state["cytokines"].shape)
    if systemic_cytokines(model):
        state["systemic"] = jnp.stack([numbers[c.initial] for c in systemic_cytokines(model)])
    if tally is not None:
        state["tally"] = tally
    empty = jnp.zeros((len(model.states), *region.shape), real).at[0].set(1)
    return _seeded(model, region, numbers, {**state, "x": empty}, bone, realise)


def _seeded(model: Model, region: Region, numbers: Numbers, state: State, bone, realise: Realise):
    places = places_of(region, bone if has_bone(model) else None)
    fluxes, moves = [], []
    for code, cell in enumerate(model.states):
        for seeding in cell.seeding:
            inside = places[seeding.where]
            for stage, share in stage_shares(model, code, numbers[seeding.age], numbers):
                fluxes.append(jnp.where(inside, numbers[seeding.fraction] * share, 0))
                moves.append((0, stage))
    if not fluxes:
        return state

    def uniform():
        index = jnp.arange(region.size, dtype=jnp.uint32)
        uniform = voxel_uniform(stream_key(state["seed"], "seeding"), index, 0, 0)
        return uniform.reshape(region.shape)

    effect = partial(along, moves=moves)
    return in_array(apply(in_rows(state), fluxes, uniform, effect, realise))


def stage_shares(model: Model, code: int, oldest, numbers: Numbers):
    """(code, share) of the stages that cells of ages uniform on [0, oldest] are in."""
    clock, stages = clock_of(model, code), stage_codes(model, code)
    if clock is None or len(stages) == 1:
        return [(code, 1.0)]
    length = numbers[clock] / len(stages)
    span = jnp.where(oldest > 0, oldest, 1)
    shares = []
    for k in range(len(stages) - 1):
        share = jnp.clip(oldest - k * length, 0, length) / span
        shares.append(jnp.where(oldest > 0, share, float(k == 0)))
    return list(zip(stages, [*shares, 1 - sum(shares)], strict=True))


def counts(state: State) -> Float[Array, "C"]:
    """Expected number of cells of each state. Summed axis by axis: one long sum in float32 loses a
    digit."""
    return jnp.sum(jnp.sum(jnp.sum(state["x"], axis=3), axis=2), axis=1)
