"""The sampled reading: integer states, one uniform number per draw.

A sub-step lists the voxels whose cells may react, draws for each what happens, and writes the
result (`lists`). Everything in a sub-step reads the state as it was at its start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt8, UInt32

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.flux import (
    CERTAIN,
    choose,
    group_offsets,
    pair_bound,
    pair_hazard,
    site_bound,
    site_hazard,
)
from lattice.engine.lists import in_batches, in_states, places, thinned, written
from lattice.engine.numbers import Numbers
from lattice.engine.signals import SiteView, Surroundings
from lattice.engine.table import Entry, Group, Table
from lattice.kernels.fusion import always, boundary
from lattice.kernels.random_bits import Key, voxel_uniform

LOW_LIMB = 1 << 20
"""Events are counted in two uint32: below 2**20, and multiples of it."""


@dataclass(frozen=True)
class Draws:
    """Keys of the random streams of a step."""

    contact: Key
    site: Key
    fate: Key


def add_events(events: UInt32[Array, "R 2"], fired: Int32[Array, "R"]) -> UInt32[Array, "R 2"]:
    """Running totals of events, with the carry from the low to the high limb."""
    low = events[:, 0] + fired.astype(jnp.uint32)
    return jnp.stack([low % LOW_LIMB, events[:, 1] + low // LOW_LIMB], axis=1)


def contact_substep(
    around: Surroundings,
    consumed: Int32[Array, "V"] | None,
    table: Table,
    numbers: Numbers,
    bounds: Float[Array, "C C"],
    draws: Draws,
    axis: Int32[Array, ""],
    parity: Int32[Array, ""],
    substep: Int32[Array, ""],
    capacity: int,
) -> tuple[UInt8[Array, "V"], Int32[Array, "V"], Array | None, Int32[Array, "R"]]:
    """One of the six matchings: every voxel meets one neighbour, and each pair draws once.

    A pair is listed at its lower voxel. `bounds` are the largest probabilities with which each two
    states can react (`pair_bounds`): the exact hazards are needed only where the draw lies below.
    Returns cells, since, consumed matrix and how often each rule fired in pairs whose lower voxel
    belongs to this device.
    """
    region = around.region
    rows = np.array([e.row for g in table.pair for e in g.entries], np.int32)

    def react(listed, carry):
        index, partner, uniform = listed
        cells, since, eaten, fired = carry
        pair = _ordered(around, index, partner)
        # A unit of its own: fused into what writes the result, it is computed anew in each.
        chosen = boundary(
            always(uniform),
            lambda: _draw_pairs(around, pair, table, numbers, draws, uniform),
        )
        happens = chosen >= 0
        for place, target in enumerate((pair.first, pair.second)):
            where = places(happens, target, region.size)
            cells = written(cells, where, _products(table.pair, place, chosen))
            age = _carried(table.pair, place, chosen, pair.ages, around.step)
            since = written(since, where, age)
        if eaten is not None:
            eaten = _eat(eaten, table.pair, chosen, (pair.first, pair.second), numbers)
        return cells, since, eaten, _count(fired, rows, chosen, happens & region.owned(index))

    def work(index, carry):
        lower = jnp.minimum(index, region.size - 1)
        coordinate = jnp.stack(region.coordinates(lower))[axis]
        partner, exists = region.neighbour(lower, coordinate, axis, 1)
        uniform = voxel_uniform(draws.contact, region.global_index(lower), around.step, substep)
        bound = bounds[around.cells[lower], around.cells[partner]]
        # A halo beyond an end that is not periodic holds no voxel of the lattice.
        exists = exists & ((coordinate >= 0) | jnp.asarray(region.periodic)[axis])
        may = (index < region.size) & exists & (uniform < bound)
        return thinned(may, react, (index, partner, uniform), carry)

    start = (around.cells, around.since, consumed, jnp.zeros(len(table.rule_names), jnp.int32))
    return in_batches(_meeting(around, table, axis, parity), capacity, work, start)


def _meeting(around: Surroundings, table: Table, axis, parity) -> Bool[Array, "V"]:
    """Lower voxels of the pairs of a matching in which either cell may react."""
    region = around.region
    active = in_states(around.cells, table.pair_codes)
    stride = jnp.asarray(region.strides, jnp.int32)[axis]
    # The cell at the other end: a shift of the flat array; around a periodic end, by the wrap.
    doubled = jnp.concatenate([active, active])
    beyond = jax.lax.dynamic_slice(doubled, (stride,), (region.size,))
    extent = jnp.asarray(region.shape, jnp.int32)[axis]
    wrapped = jax.lax.dynamic_slice(
        doubled, (jnp.mod(-stride * (extent - 1), region.size),), (region.size,)
    )
    places = [
        jnp.arange(n, dtype=jnp.int32).reshape([-1 if k == d else 1 for k in range(3)])
        + region.first(d)
        for d, n in enumerate(region.padded)
    ]
    along = [jnp.broadcast_to(p, region.padded).reshape(-1) for p in places]
    coordinate = jax.lax.select_n(axis, *along)
    last = coordinate == extent - 1
    if any(region.halo):
        last = last & (jnp.asarray(region.halo)[axis] == 0)
    lower = jnp.mod(coordinate - parity, 2) == 0
    return lower & (active | jnp.where(last, wrapped, beyond))


@dataclass(frozen=True)
class _Pairs:
    """Pairs of voxels: `first` holds the lower state code, or is the lower voxel of two alike."""

    first: Int32[Array, "N"]
    second: Int32[Array, "N"]
    codes: tuple[UInt8[Array, "N"], UInt8[Array, "N"]]
    ages: tuple[Int32[Array, "N"], Int32[Array, "N"]]
    listed: Bool[Array, "N"]


def _ordered(around: Surroundings, index, partner) -> _Pairs:
    listed = index < around.region.size
    index = jnp.minimum(index, around.region.size - 1)
    own, other = around.cells[index], around.cells[partner]
    in_order = own <= other
    first, second = jnp.where(in_order, index, partner), jnp.where(in_order, partner, index)
    return _Pairs(
        first,
        second,
        (jnp.where(in_order, own, other), jnp.where(in_order, other, own)),
        (around.since[first], around.since[second]),
        listed,
    )


def _draw_pairs(around, pair, table, numbers, draws, uniform) -> Int32[Array, "N"]:
    """Position of the entry that fires among all entries of all groups, or -1."""
    views = (around.at(pair.first), around.at(pair.second))
    dt, voxel = around.model.time.contact_step, around.model.lattice.voxel
    rivals = Rivals(table.pair, uniform)
    for group in table.pair:
        hazards = [
            fate_hazard(e, views[e.actor], views[1 - e.actor], table, numbers, draws)
            if e.fate is not None
            else pair_hazard(e, group.reactants, views, table, numbers, dt, voxel)
            for e in group.entries
        ]
        met = (pair.codes[0] == group.reactants[0]) & (pair.codes[1] == group.reactants[1])
        rivals.add(met & pair.listed, hazards)
    return rivals.chosen()


class Rivals:
    """Hazards of the one group of rules that can fire in each draw, gathered from all groups, so
    that the draw itself is done once."""

    def __init__(self, groups: tuple[Group, ...], uniform: Float[Array, "N"]) -> None:
        self.offsets = iter(group_offsets(groups))
        self.uniform = uniform
        self.first = jnp.zeros(uniform.shape, jnp.int32)
        most = max(len(g.entries) for g in groups)
        self.hazards = [jnp.zeros(uniform.shape, uniform.dtype)] * most

    def add(self, met: Bool[Array, "N"], hazards: list) -> None:
        """The hazards of the next group, and the draws that it is met in."""
        self.first = jnp.where(met, next(self.offsets), self.first)
        for k, hazard in enumerate(hazards):
            self.hazards[k] = jnp.where(met, hazard, self.hazards[k])

    def chosen(self) -> Int32[Array, "N"]:
        """Position of the entry that fires among all entries of all groups, or -1."""
        entry = choose(self.hazards, self.uniform)
        return jnp.where(entry < len(self.hazards), self.first + entry, -1)


def pair_bounds(table: Table, numbers: Numbers, dt: float, voxel: float) -> Float[Array, "C C"]:
    """The largest probability with which each two states can react in one contact sub-step."""
    found, place = [jnp.float32(0)], np.zeros((len(table.states),) * 2, np.int32)
    for group in table.pair:
        a, b = group.reactants
        place[a, b] = place[b, a] = len(found)
        found.append(_bound([pair_bound(e, numbers, dt, voxel) for e in group.entries]))
    return jnp.stack(found)[place]


def site_bounds(around: Surroundings, table: Table, numbers: Numbers) -> Float[Array, "C"]:
    """The largest probability with which each state can change in this step."""
    found, place = [jnp.float32(0)], np.zeros(len(table.states), np.int32)
    anywhere, dt = around.at(jnp.zeros(1, jnp.int32)), around.model.time.step
    for group in table.site:
        place[group.reactants[0]] = len(found)
        found.append(_bound([site_bound(e, anywhere, numbers, dt) for e in group.entries]))
    return jnp.stack(found)[place]


def _bound(hazards) -> Float[Array, ""]:
    """Probability from a sum of bounds; rounding of an exact sum must never exceed it."""
    total = sum(hazards[1:], jnp.asarray(hazards[0], jnp.float32))
    bound = -jnp.expm1(-total * (1 + 1e-5)) * (1 + 1e-5)
    # A rate of 0 times an unlimited response is not a number: nothing is known of it.
    return jnp.where(jnp.isnan(bound), 2.0, bound)


def fate_of(
    state: int, view: SiteView, table: Table, numbers: Numbers, draws: Draws
) -> Int32[Array, "N"]:
    """Which fate a cell meets in this step if its voxel is full: drawn once per step."""
    around = view.around
    index = around.region.global_index(view.index)
    uniform = voxel_uniform(draws.fate, index, around.step, 0)
    weights = [numbers[f.weight] for f in table.fates[state]]
    total = sum(weights[1:], weights[0])
    chosen = jnp.zeros(uniform.shape, jnp.int32)
    edge = jnp.float32(0)
    for weight in weights[:-1]:
        edge = edge + weight / jnp.where(total > 0, total, 1)
        chosen = chosen + (uniform >= edge).astype(jnp.int32)
    return chosen


def fate_hazard(
    entry: Entry, here: SiteView, there: SiteView, table: Table, numbers: Numbers, draws: Draws
) -> Float[Array, "N"]:
    """Certain for a cell whose voxel is full, whose fate is to move out and for which there is
    room next door, else 0."""
    fate = entry.fate
    assert fate is not None
    full = (here.matrix >= MATRIX_ONE) & jnp.asarray(here.may_live(frozenset({"marrow"})))
    meant = fate_of(fate.state, here, table, numbers, draws) == table.fates[fate.state].index(fate)
    fits = jnp.asarray(there.may_live(table.lives(fate.into))) & (there.matrix < MATRIX_ONE)
    return jnp.where(full & meant & fits, jnp.float32(CERTAIN), 0)


def site_substep(
    around: Surroundings,
    consumed: Int32[Array, "V"] | None,
    table: Table,
    numbers: Numbers,
    draws: Draws,
    capacity: int,
) -> tuple[UInt8[Array, "V"], Int32[Array, "V"], Array | None, Int32[Array, "R"]]:
    """Transitions of single cells with competing hazards; same returns as `contact_substep`."""
    region = around.region
    rows = np.array([e.row for g in table.site for e in g.entries], np.int32)
    bounds = site_bounds(around, table, numbers)

    def react(listed, carry):
        index, uniform = listed
        cells, since, eaten, fired = carry
        view = around.at(index)
        chosen = boundary(
            always(uniform),
            lambda: _draw_sites(around, index, table, numbers, uniform),
        )
        happens = chosen >= 0
        where = places(happens, view.index, region.size)
        cells = written(cells, where, _products(table.site, 0, chosen))
        age = _carried(table.site, 0, chosen, (around.since[view.index],), around.step)
        since = written(since, where, age)
        if eaten is not None:
            eaten = _eat(eaten, table.site, chosen, (view.index,), numbers)
        return cells, since, eaten, _count(fired, rows, chosen, happens & region.owned(view.index))

    def work(index, carry):
        at = jnp.minimum(index, region.size - 1)
        uniform = voxel_uniform(draws.site, region.global_index(at), around.step, 0)
        may = (index < region.size) & (uniform < bounds[around.cells[at]])
        return thinned(may, react, (index, uniform), carry)

    mask = in_states(around.cells, table.site_codes)
    if table.arrivals is not None:
        # Empty voxels are many: they are thinned before they are listed.
        every = jnp.arange(region.size, dtype=jnp.int32)
        uniform = voxel_uniform(draws.site, region.global_index(every), around.step, 0)
        mask = mask | ((around.cells == 0) & (uniform < bounds[0]))
    start = (around.cells, around.since, consumed, jnp.zeros(len(table.rule_names), jnp.int32))
    return in_batches(mask, capacity, work, start)


def _draw_sites(around, index, table, numbers, uniform):
    view, listed = around.at(index), index < around.region.size
    own = around.cells[view.index]
    dt = around.model.time.step
    rivals = Rivals(table.site, uniform)
    for group in table.site:
        code = group.reactants[0]
        hazards = [
            _stranded(code, view, table)
            if e.stranded
            else site_hazard(e, code, view, table, numbers, dt)
            for e in group.entries
        ]
        rivals.add(listed & (own == code), hazards)
    return rivals.chosen()


def _stranded(code: int, view: SiteView, table: Table):
    lost = ~jnp.asarray(view.may_live(table.lives(code)))
    return jnp.where(jnp.broadcast_to(lost, view.index.shape), jnp.float32(CERTAIN), 0)


def _products(groups: tuple[Group, ...], place: int, chosen: Int32[Array, "N"]):
    table = np.array([e.products[place] for g in groups for e in g.entries], np.uint8)
    return jnp.asarray(table)[jnp.maximum(chosen, 0)]


def _carried(groups, place, chosen, ages, step):
    """The `since` of a product: that of the reactant it continues, or now."""
    table = np.array(
        [-1 if e.carries[place] is None else e.carries[place] for g in groups for e in g.entries],
        np.int32,
    )
    source = jnp.asarray(table)[jnp.maximum(chosen, 0)]
    since = jnp.broadcast_to(step, chosen.shape)
    for reactant, age in enumerate(ages):
        since = jnp.where(source == reactant, age, since)
    return since


def _count(fired, rows, chosen, counted):
    row = jnp.asarray(rows)[jnp.maximum(chosen, 0)]
    where = jnp.where(counted & (row >= 0), row, fired.shape[0])
    return fired.at[where].add(1, mode="drop")


def _eat(eaten, groups, chosen, indices, numbers):
    """Add the matrix that the rules which fired have taken from their actors' voxels."""
    position = 0
    for group in groups:
        for entry in group.entries:
            rule = entry.rule
            if rule is not None and rule.consumes_matrix is not None:
                amount = jnp.round(numbers[rule.consumes_matrix] * MATRIX_ONE).astype(jnp.int32)
                target = indices[entry.actor]
                where = jnp.where(chosen == position, target, eaten.shape[0])
                eaten = eaten.at[where].add(amount, mode="drop")
            position += 1
    return eaten


def consumes(table: Table) -> bool:
    """Whether any rule takes matrix."""
    return any(
        e.rule is not None and e.rule.consumes_matrix is not None
        for g in (*table.site, *table.pair)
        for e in g.entries
    )


def refreshed(around: Surroundings, cells, since, consumed_before, consumed) -> Surroundings:
    """The surroundings for the next sub-step, with its halo brought up to date."""
    region = around.region
    plane = region.padded
    matrix = around.matrix
    if consumed is not None:
        matrix = matrix - (consumed - consumed_before)
        matrix = region.refresh(matrix.reshape(plane)).reshape(-1)
    return replace(
        around,
        cells=region.refresh(cells.reshape(plane)).reshape(-1),
        since=region.refresh(since.reshape(plane)).reshape(-1),
        matrix=matrix,
    )
