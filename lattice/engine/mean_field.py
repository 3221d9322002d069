"""The mean-field reading: the same rule table, with realised fluxes replaced by their means.

The state of a voxel is a probability for each cell state; a pair's joint probability is taken as
the product. That closure is exact for models without pair rules and neighbour signals in a
constant field (law 6), and an approximation otherwise: its gradient is the exact gradient of this
relaxation, never that of the sampled simulator. Matrix is a real number here, and a voxel turns to
bone when its mean matrix is full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from lattice.engine import fields, interventions
from lattice.engine.declare import (
    MATRIX_ONE,
    has_bone,
    local_cytokines,
    systemic_cytokines,
)
from lattice.engine.flux import CERTAIN, pair_hazard, responses, shares, site_hazard
from lattice.engine.initial import count_bone_faces, initial_slab, places_of
from lattice.engine.numbers import Numbers
from lattice.engine.region import Region, touching
from lattice.engine.signals import hours_of, is_global, sum_of
from lattice.engine.step import Plan, matching_orders
from lattice.engine.table import Group, Table
from lattice.kernels.fusion import fused
from lattice.kernels.random_bits import stream_key, voxel_bits
from lattice.model.errors import InputError
from lattice.model.structure import Model, Signal

State = dict[str, Array]

FULL = MATRIX_ONE * (1 - 1e-6)
"""A voxel is full of matrix from here on: sums of real numbers seldom end on the very unit."""


def require_mean_field(model: Model) -> None:
    """Raise InputError if a rule reads ages, which probabilities do not carry."""
    for rule in model.rules:
        clocked = rule.after is not None or any(r.signal.kind == "age" for r in rule.responses)
        if clocked:
            raise InputError(
                f"rule.{rule.name}: the mean-field reading has no ages; "
                "write a rate instead of `after` or of a response to age"
            )


@dataclass(frozen=True)
class MeanView:
    """Signals at every voxel, or at the partner of every voxel, from probabilities."""

    model: Model
    region: Region
    x: Float[Array, "V C"]
    around: dict[str, Array]
    index: Array  # the voxels seen

    def read(self, signal: Signal) -> Float[Array, "V"]:
        """The mean of a signal."""
        of = signal.of or ""
        if signal.kind == "cytokine":
            return self._cytokine(of)
        if signal.kind == "neighbours":
            return self._neighbours(signal.members)[self.index]
        if signal.kind == "density":
            codes = self.model.state_codes()
            value = sum_of([jnp.mean(self.x[:, codes[name]]) for name in signal.members])
        elif signal.kind == "matrix":
            return self.matrix / MATRIX_ONE
        elif signal.kind == "time":
            value = hours_of(self.around["step"], self.model, self.x.dtype)
        else:
            raise InputError("the mean-field reading has no ages")
        return jnp.broadcast_to(value, self.index.shape)

    def is_global(self, signal: Signal) -> bool:
        """Whether a signal is the same everywhere."""
        return is_global(self.model, signal)

    @property
    def matrix(self) -> Float[Array, "V"]:
        """Matrix in fixed-point units, as a real number."""
        total = self.around.get("matrix")
        if total is None:
            return jnp.zeros(self.index.shape, self.x.dtype)
        return total[self.index]

    def _cytokine(self, name: str) -> Array:
        names = [c.name for c in local_cytokines(self.model)]
        if name in names:
            return self.around["cytokines"][self.index, names.index(name)]
        names = [c.name for c in systemic_cytokines(self.model)]
        return jnp.broadcast_to(self.around["systemic"][names.index(name)], self.index.shape)

    def _neighbours(self, names: tuple[str, ...]) -> Array:
        every = jnp.arange(self.x.shape[0], dtype=jnp.int32)
        index, exists = touching(every, self.region)
        if names == ("bone",):
            if "bone" not in self.around:
                return jnp.zeros(every.shape, self.x.dtype)
            values = self.around["bone"].astype(self.x.dtype)
        else:
            codes = self.model.state_codes()
            values = sum_of([self.x[:, codes[name]] for name in names])
        return jnp.sum(jnp.where(exists, values[index], 0), axis=0)

    def may_live(self, places: frozenset[str]) -> Array | bool:
        """Whether a cell that lives in `places` may be in each voxel seen."""
        if "bone" not in self.around:
            return "marrow" in places
        bone = self.around["bone"][self.index] != 0
        surface = ~bone & (self.around["faces"][self.index] > 0)
        inside = bone if "bone" in places else jnp.zeros_like(bone)
        if "marrow" in places:
            return inside | ~bone
        return inside | surface if "surface" in places else inside


def site_fluxes(
    group: Group, view: MeanView, table: Table, numbers: Numbers, dt: float
) -> list[Float[Array, "V"]]:
    """q_r of the rules of one state."""
    code = group.reactants[0]
    hazards = []
    for entry in group.entries:
        if entry.stranded:
            lost = ~jnp.asarray(view.may_live(table.lives(code)))
            hazards.append(jnp.where(jnp.broadcast_to(lost, view.index.shape), CERTAIN, 0.0))
        else:
            hazards.append(site_hazard(entry, code, view, table, numbers, dt))
    return shares([jnp.broadcast_to(h, view.index.shape).astype(view.x.dtype) for h in hazards])


def site_substep(x, around, plan: Plan, numbers: Numbers):
    """Every state's rules at once: x gains and loses the fluxes."""
    every = jnp.arange(x.shape[0], dtype=jnp.int32)
    view = MeanView(plan.model, plan.region, x, around, every)
    change = jnp.zeros_like(x)
    for group in plan.table.site:
        source = group.reactants[0]
        quotas = site_fluxes(group, view, plan.table, numbers, plan.model.time.step)
        for entry, q in zip(group.entries, quotas, strict=True):
            flux = q * x[:, source]
            change = change.at[:, source].add(-flux).at[:, entry.products[0]].add(flux)
    return x + change


def contact_substep(x, around, plan: Plan, numbers: Numbers, axis, parity):
    """One matching. Each voxel computes its own side of the pair that it belongs to."""
    model, region, table = plan.model, plan.region, plan.table
    every = jnp.arange(x.shape[0], dtype=jnp.int32)
    coordinate = jnp.stack(region.coordinates(every))[axis]
    lower = jnp.mod(coordinate - parity, 2) == 0
    partner, exists = region.neighbour(every, coordinate, axis, jnp.where(lower, 1, -1))
    own = MeanView(model, region, x, around, every)
    other = MeanView(model, region, x, around, partner)
    dt, voxel = model.time.contact_step, model.lattice.voxel
    change = jnp.zeros_like(x)
    for group in table.pair:
        a, b = group.reactants
        alike = a == b
        # Seen from each voxel: it holds the first reactant, or the second one.
        for own_place in (0, 1):
            views = (own, other) if own_place == 0 else (other, own)
            hazards = [
                _fate_hazard(entry, views[entry.actor], views[1 - entry.actor], table)
                if entry.fate is not None
                else pair_hazard(entry, (a, b), views, table, numbers, dt, voxel)
                for entry in group.entries
            ]
            both = x[views[0].index, a] * x[views[1].index, b]
            # Two alike: the pair is seen from its lower voxel as (own, other), else mirrored.
            counts = exists & (lower == (own_place == 0)) if alike else exists
            quotas = shares([jnp.broadcast_to(h, both.shape).astype(x.dtype) for h in hazards])
            for entry, q in zip(group.entries, quotas, strict=True):
                share = 1.0 if entry.fate is None else _fate_share(entry, table, numbers)
                flux = jnp.where(counts, q * both * share, 0)
                before, after = group.reactants[own_place], entry.products[own_place]
                change = change.at[:, before].add(-flux).at[:, after].add(flux)
    return x + change


def _fate_hazard(entry, here: MeanView, there: MeanView, table: Table):
    full = (here.matrix >= FULL) & jnp.asarray(here.may_live(frozenset({"marrow"})))
    fits = jnp.asarray(there.may_live(table.lives(entry.fate.into))) & (there.matrix < FULL)
    return jnp.where(full & fits, CERTAIN, 0.0)


def _fate_share(entry, table: Table, numbers: Numbers):
    """Probability of a fate among those of its state; competing ways out share the hazard too."""
    fates = table.fates[entry.fate.state]
    leaving = sum(not f.stays for f in fates)
    total = sum(numbers[f.weight] for f in fates)
    return leaving * numbers[entry.fate.weight] / jnp.where(total > 0, total, 1)


def advance(plan: Plan, numbers: Numbers, state: State, due: Bool[Array, "L I"]) -> State:
    """As many steps as `due` has rows, in a scan that can be differentiated in reverse."""
    return _scan(plan, numbers, state, due, lambda _: ())[0]


def course(
    plan: Plan,
    numbers: Numbers,
    state: State,
    due: Bool[Array, "L I"],
    measure: Callable[[State], Float[Array, "O"]],
) -> Float[Array, "N O"]:
    """What `measure` gives at the start and after each step (of which there are L or a few more).

    Two nested scans, each checkpointed: a reverse pass keeps the states at the beginnings of some
    sqrt(L) blocks, and those within one block (Griewank 1992, in its two-level form)."""
    steps = due.shape[0]
    length = block_length(steps)
    blocks = -(-steps // length)
    # Steps beyond the end fill the last block; nobody reads their rows.
    due = jnp.pad(due, ((0, blocks * length - steps), (0, 0))).reshape(blocks, length, -1)

    @jax.checkpoint
    def block(state, due):
        return _scan(plan, numbers, state, due, measure)

    rows = jax.lax.scan(block, state, due)[1]
    return jnp.concatenate([measure(state)[None], rows.reshape(blocks * length, -1)])


def block_length(steps: int) -> int:
    """Steps in a block: near the square root of their number, with little left over."""
    near = max(1, round(steps**0.5))
    lengths = range(max(1, (3 * near) // 4), near + near // 3 + 1)
    return min(lengths, key=lambda n: (-steps % n + 2 * abs(n - near), n))


def _scan(plan: Plan, numbers: Numbers, state: State, due, measure):
    with fused():
        return _fused_scan(plan, numbers, state, due, measure)


def _fused_scan(plan: Plan, numbers: Numbers, state: State, due, measure):
    prepared = fields.prepare(plan.model, plan.region, plan.method, numbers, state.get("bone"))

    @jax.checkpoint
    def body(state, due):
        after = one_step(plan, numbers, state, prepared, due)
        after = {name: value.astype(state[name].dtype) for name, value in after.items()}
        return after, measure(after)

    return jax.lax.scan(body, state, due)


def one_step(plan: Plan, numbers: Numbers, state: State, prepared, due) -> State:
    """The mean state after one step, in the order of `lattice.engine.step`."""
    model, region = plan.model, plan.region
    scaled = interventions.scaled_numbers(model, numbers, due)
    state = dict(state)
    if "mineral" in state:
        prepared = fields.prepare(model, region, plan.method, numbers, state["bone"])
    state["x"] = _kill(model, numbers, due, state["x"])
    around = _around(plan, state)
    if local_cytokines(model) or systemic_cytokines(model):
        state = _field_part(plan, scaled, state, around, prepared, due)
        around = _around(plan, state)
    x = state["x"]
    orders = matching_orders(region.shape)
    if plan.table.pair and orders.shape[1]:
        x = _contacts(plan, scaled, x, around, jnp.asarray(orders), state)
    if plan.table.site:
        x = site_substep(x, around, plan, scaled)
    state["x"] = x
    if "mineral" in state:
        state = _matrix_part(plan, scaled, state, around)
    state["step"] = state["step"] + 1
    return state


def _contacts(plan, numbers, x, around, orders, state):
    key = stream_key(state["seed"], "order of matchings")
    matchings = orders.shape[1]

    def body(x, k):
        draw = voxel_bits(key, jnp.zeros((), jnp.uint32), state["step"], k // matchings)[0]
        code = orders[draw % orders.shape[0], k % matchings]
        return contact_substep(x, around, plan, numbers, code // 2, code % 2), None

    return jax.lax.scan(body, x, jnp.arange(plan.contacts * matchings))[0]


def _around(plan: Plan, state: State) -> dict[str, Array]:
    region = plan.region
    around = {"step": state["step"]}
    if "mineral" in state:
        around["matrix"] = (state["mineral"] + jnp.sum(state["osteoid"], axis=1)).reshape(-1)
    if "bone" in state:
        solid = state["bone"]
        around["bone"] = solid.reshape(-1)
        if "matrix" in around:
            # A voxel that turns to bone in this step is surface to the cell that moves out of it.
            solid = jnp.where(around["matrix"].reshape(region.shape) >= FULL, jnp.uint8(1), solid)
        around["faces"] = count_bone_faces(region, solid).reshape(-1)
    if "cytokines" in state:
        around["cytokines"] = state["cytokines"].reshape(region.size, -1)
    if "systemic" in state:
        around["systemic"] = state["systemic"]
    return around


def _kill(model: Model, numbers: Numbers, due, x):
    codes = model.state_codes()
    for column, intervention in enumerate(model.interventions):
        if intervention.kind == "kill" and intervention.fraction is not None:
            share = jnp.where(due[column], numbers[intervention.fraction], 0)
            for name in intervention.states:
                lost = x[:, codes[name]] * share
                x = x.at[:, codes[name]].add(-lost).at[:, codes[intervention.into]].add(lost)
    return x


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
    every = jnp.arange(region.size, dtype=jnp.int32)
    view = MeanView(model, region, state["x"], around, every)
    exchange = _exchanges(plan, view, numbers, state, due)
    if local_cytokines(model):
        state["cytokines"], _ = fields.solve(
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
    voxels, volume = region.size, model.lattice.voxel**3
    local = [c.name for c in local_cytokines(model)]
    systemic = [c.name for c in systemic_cytokines(model)]
    rates = {}
    for kind in ("secretes", "takes_up"):
        columns = {name: jnp.zeros(voxels, view.x.dtype) for name in (*local, *systemic)}
        for code, cell in enumerate(model.states):
            for e in getattr(cell, kind):
                factor = numbers[e.rate] * responses(e.responses, view, numbers)
                columns[e.cytokine] = columns[e.cytokine] + factor * view.x[:, code] / volume
        rates[kind] = columns
    places = places_of(region, state.get("bone"))
    outside_bone = places["marrow"].reshape(-1)
    source, sink = None, None
    if local:
        basal = [
            numbers[c.production] * responses(c.production_when, view, numbers)
            for c in local_cytokines(model)
        ]
        source = jnp.stack(
            [rates["secretes"][n] + outside_bone * b for n, b in zip(local, basal, strict=True)],
            axis=-1,
        )
        masks = {k: v.reshape(-1)[:, None] for k, v in places.items()}
        added = interventions.external_sources(model, local, numbers, due, masks)
        source = source if added is None else source + added
        source = source.reshape(*region.shape, len(local))
        if any(e.cytokine in local for s in model.states for e in s.takes_up):
            sink = jnp.stack([rates["takes_up"][n] for n in local], axis=-1)
            sink = sink.reshape(source.shape)
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


def _matrix_part(plan, numbers, state, around):
    """Matrix as real numbers; resorption is shared by all bone faces of a cell's voxel."""
    model, region = plan.model, plan.region
    every = jnp.arange(region.size, dtype=jnp.int32)
    view = MeanView(model, region, state["x"], around, every)
    dt, x = model.time.step, state["x"]
    bone, faces, total = around["bone"] != 0, around["faces"], around["matrix"]
    laid, wanted = jnp.zeros(region.size), jnp.zeros(region.size)
    for code, cell in enumerate(model.states):
        for spec, lays in ((cell.lays, True), (cell.resorbs, False)):
            if spec is not None:
                rate = numbers[spec.rate] * dt * MATRIX_ONE
                amount = x[:, code] * rate * responses(spec.responses, view, numbers)
                if lays:
                    laid = laid + jnp.where(~bone & (faces > 0), amount, 0)
                else:
                    wanted = wanted + amount
    laid = jnp.minimum(laid, jnp.maximum(MATRIX_ONE - total, 0))
    index, exists = touching(every, region)
    found = exists & bone[index]
    per_face = wanted / jnp.maximum(jnp.sum(found, axis=0), 1)
    demand = jnp.zeros(region.size).at[index].add(jnp.where(found, per_face, 0))
    stages = state["osteoid"].shape[1]
    osteoid = jnp.moveaxis(state["osteoid"], 1, -1).reshape(-1, stages)
    mineral = state["mineral"].reshape(-1)
    leaves = -jnp.expm1(-stages * dt / numbers[model.matrix.lag])
    moved = osteoid * leaves
    entering = jnp.concatenate([laid[:, None], moved[:, :-1]], axis=1)
    osteoid, mineral = osteoid - moved + entering, mineral + moved[:, -1]
    matrix = mineral + jnp.sum(osteoid, axis=1)
    kept = jnp.where(matrix > 0, jnp.maximum(matrix - demand, 0) / jnp.maximum(matrix, 1), 0)
    osteoid, mineral = osteoid * kept[:, None], mineral * kept
    matrix = matrix * kept
    # As in the sampled reading, a cell has the contacts of a step to move out of a full voxel.
    full = ~bone & (total >= FULL) & (matrix >= FULL)
    emptied = bone & (matrix <= 0)
    state["x"] = _turn_to_bone(plan, numbers, x, full, emptied)
    phase = jnp.where(full, 1, jnp.where(emptied, 0, around["bone"])).astype(jnp.uint8)
    shape = region.shape
    return {
        **state,
        "bone": phase.reshape(shape),
        "osteoid": jnp.moveaxis(osteoid.reshape(*shape, stages), -1, 1),
        "mineral": mineral.reshape(shape),
    }


def _turn_to_bone(plan, numbers, x, full, emptied):
    table = plan.table
    codes = plan.model.state_codes()
    after = x
    for code, cell in enumerate(table.states):
        if code == 0:
            continue
        fates = table.fates[code]
        default = code if "bone" in cell.lives else 0
        staying = [f.into for f in fates if f.stays] or [default]
        total = sum(numbers[f.weight] for f in fates) if fates else 1.0
        ways = [(f.into if f.stays else staying[0], numbers[f.weight] / total) for f in fates]
        for into, share in ways or [(default, 1.0)]:
            moved = jnp.where(full, x[:, code] * share, 0)
            after = after.at[:, code].add(-moved).at[:, into].add(moved)
        if "bone" in cell.lives:
            moved = jnp.where(emptied, x[:, code], 0)
            freed = codes[cell.when_resorbed]
            after = after.at[:, code].add(-moved).at[:, freed].add(moved)
    return after


def initial_mean(model: Model, region: Region, numbers: Numbers, seed, bone) -> State:
    """The mean state at step 0: seeding fractions as probabilities.

    Raises InputError for a model whose rules read ages."""
    require_mean_field(model)
    sampled = initial_slab(model, region, numbers, seed, bone)
    places = places_of(region, bone if has_bone(model) else None)
    real = numbers.values.dtype
    x = jnp.zeros((region.size, len(model.states)), real)
    for code, cell in enumerate(model.states):
        for seeding in cell.seeding:
            inside = places[seeding.where].reshape(-1)
            x = x.at[:, code].add(jnp.where(inside, numbers[seeding.fraction], 0))
    x = x.at[:, 0].set(1 - jnp.sum(x, axis=1))
    kept = ("step", "seed", "bone", "cytokines", "systemic")
    state = {name: sampled[name] for name in kept if name in sampled}
    if "mineral" in sampled:
        state["mineral"] = sampled["mineral"].astype(real)
        state["osteoid"] = sampled["osteoid"].astype(real)
    for name in ("cytokines", "systemic"):
        if name in state:
            state[name] = state[name].astype(real)
    return {**state, "x": x}


def counts(state: State) -> Float[np.ndarray, "C"]:
    """Expected number of cells of each state."""
    return np.asarray(jnp.sum(state["x"], axis=0))
