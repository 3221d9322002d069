"""Fluxes of the rule table between probabilities, and what becomes of them.

The flux of a rule is f = q x[a] (in a voxel) or q x[a] y[b] (of a pair that meets). The state moves
by fixed stoichiometry along the *realised* flux z. A `Realise` is the map from f to z, and all that
differs between the mean field (z = f), samples on one-hot x, and what is made of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.flux import CERTAIN, View, pair_hazard, shares, site_hazard
from lattice.engine.matching import Matching, rows_of
from lattice.engine.mean_view import MeanView, PartnerView
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan
from lattice.engine.table import Entry, Group, Table
from lattice.kernels.random_bits import stream_key, voxel_uniform

FULL = MATRIX_ONE * (1 - 1e-6)
"""A voxel is full of matrix from here on: sums of real numbers seldom end on the very unit."""

State = dict[str, Any]
"""Arrays by name; "tally", if there, is what a `Realise` keeps from call to call."""

Changes = dict[int, Float[Array, "Z Y X"]]
"""By the code of each state that changes."""

Rows = Sequence[Float[Array, "Z Y X"]]
"""Of each rule, in every voxel that its first reactant may be in. The voxels of a pair share one
draw: on one-hot x at most one of the two has fluxes above 0."""


@runtime_checkable
class Realise(Protocol):
    """From fluxes to realised fluxes. `uniform` gives the uniform number of each voxel's draw;
    `effect` gives the changes of states that fluxes make."""

    def __call__(
        self,
        fluxes: Rows,
        uniform: Callable[[], Float[Array, "Z Y X"]],
        effect: Callable[[Rows], Changes],
        tally: Any,
    ) -> tuple[Rows, Any]:
        """Realised fluxes and the tally after them."""
        ...


def mean(fluxes: Rows, uniform, effect, tally) -> tuple[Rows, Any]:
    """The mean field: what happens is the mean of what may happen."""
    return fluxes, tally


def apply(state: State, fluxes: Rows, uniform, effect, realise: Realise) -> State:
    """The state after some fluxes have been realised; "x" is a list of the rows of all states."""
    realised, tally = realise(fluxes, uniform, effect, state.get("tally"))
    x = list(state["x"])
    for code, change in effect(realised).items():
        x[code] = x[code] + change
    state = {**state, "x": x}
    return state if tally is None else {**state, "tally": tally}


def along(fluxes: Rows, moves: Sequence[tuple[int, int]]) -> Changes:
    """The changes by fluxes, each of which leaves a state for another."""
    # Sums of a few terms: a product of matrices would be rounded to fewer bits on some devices.
    found: Changes = {}
    for flux, (before, after) in zip(fluxes, moves, strict=True):
        if before != after:
            found[before] = found[before] - flux if before in found else -flux
            found[after] = found[after] + flux if after in found else flux
    return found


def in_rows(state: State) -> State:
    """The state with a list of rows in the place of the array of all."""
    return {**state, "x": rows_of(state["x"])}


def in_array(state: State) -> State:
    """The state with an array of all in the place of the list of rows."""
    return {**state, "x": jnp.stack(state["x"])}


def draws(plan: Plan, state: State, stream: str, substep) -> Callable[[], Float[Array, "Z Y X"]]:
    """The uniform numbers that the sampled reading draws in the same place."""
    every = jnp.arange(plan.region.size, dtype=jnp.int32)

    def uniform():
        key = stream_key(state["seed"], stream)
        found = voxel_uniform(key, plan.region.global_index(every), state["step"], substep)
        return found.reshape(plan.region.shape)

    return uniform


def site_substep(plan: Plan, numbers: Numbers, state: State, around, realise: Realise) -> State:
    """The rules of single cells, all states at once."""
    state = in_rows(state)
    x = state["x"]
    view = MeanView(plan.model, plan.region, x, around)
    fluxes, moves = [], []
    for group in plan.table.site:
        source = group.reactants[0]
        quotas = site_quotas(group, view, plan.table, numbers, plan.model.time.step)
        for entry, q in zip(group.entries, quotas, strict=True):
            fluxes.append(q * x[source])
            moves.append((source, entry.products[0]))
    effect = partial(along, moves=moves)
    return in_array(apply(state, fluxes, draws(plan, state, "site", 0), effect, realise))


def site_quotas(
    group: Group, view: MeanView, table: Table, numbers: Numbers, dt: float
) -> list[Float[Array, "..."]]:
    """q of the rules of one state; a scalar where it is the same everywhere."""
    code = group.reactants[0]
    hazards = []
    for entry in group.entries:
        if entry.stranded:
            lost = ~jnp.asarray(view.may_live(table.lives(code)))
            hazards.append(jnp.where(lost, CERTAIN, 0.0))
        else:
            hazards.append(site_hazard(entry, code, view, table, numbers, dt))
    return shares([jnp.asarray(h, view.x[0].dtype) for h in hazards])


def contact_substep(
    plan: Plan, numbers: Numbers, state: State, around, where, realise: Realise
) -> State:
    """One matching, `where` = (its code, number of the sub-step): in every voxel the first reactant
    of a rule may meet the second one in the partner. "x" is a list of rows."""
    code, substep = where
    x, matching = state["x"], Matching(plan.region, code)
    own = MeanView(plan.model, plan.region, x, around)
    views = own, PartnerView(own, matching)
    met = matching.partner({group.reactants[1]: x[group.reactants[1]] for group in plan.table.pair})
    fluxes, moves = [], ([], [])
    for group in plan.table.pair:
        a, b = group.reactants
        both = x[a] * met[b]
        if a == b:
            both = jnp.where(matching.lower, both, 0)
        for entry, q in zip(group.entries, _pair_quotas(group, views, plan, numbers), strict=True):
            fluxes.append(q * both)
            for place in (0, 1):
                moves[place].append((group.reactants[place], entry.products[place]))

    def effect(z: Rows) -> Changes:
        found = along(z, moves[0])
        for code, change in matching.partner(along(z, moves[1])).items():
            found[code] = found[code] + change if code in found else change
        return found

    alone = draws(plan, state, "contact", substep)

    def uniform() -> Float[Array, "Z Y X"]:
        found = alone()
        return jnp.where(matching.lower, found, matching.partner(found))

    return apply(state, fluxes, uniform, effect, realise)


def _pair_quotas(
    group: Group, views: tuple[MeanView, PartnerView], plan: Plan, numbers: Numbers
) -> list[Float[Array, "..."]]:
    model, table = plan.model, plan.table
    dt, voxel = model.time.contact_step, model.lattice.voxel
    first, second = group.reactants
    hazards = [
        _fate_hazard(entry, views[entry.actor], views[1 - entry.actor], table)
        if entry.fate is not None
        else pair_hazard(entry, (first, second), views, table, numbers, dt, voxel)
        for entry in group.entries
    ]
    quotas = shares([jnp.asarray(h, views[0].x[0].dtype) for h in hazards])
    return [
        q if entry.fate is None else q * _fate_share(entry, table, numbers)
        for entry, q in zip(group.entries, quotas, strict=True)
    ]


def _fate_hazard(entry: Entry, here: View, there: View, table: Table):
    assert entry.fate is not None
    full = (here.matrix >= FULL) & jnp.asarray(here.may_live(frozenset({"marrow"})))
    fits = jnp.asarray(there.may_live(table.lives(entry.fate.into))) & (there.matrix < FULL)
    return jnp.where(full & fits, CERTAIN, 0.0)


def _fate_share(entry: Entry, table: Table, numbers: Numbers):
    """Probability of a fate among those of its state; competing ways out share the hazard too."""
    assert entry.fate is not None
    fates = table.fates[entry.fate.state]
    leaving = sum(not f.stays for f in fates)
    weights = [numbers[f.weight] for f in fates]
    total = sum(weights[1:], weights[0])
    return leaving * numbers[entry.fate.weight] / jnp.where(total > 0, total, 1)


def states_that_meet(table: Table) -> tuple[int, ...]:
    """Codes of the states that are read or changed by rules of pairs."""
    found = set()
    for group in table.pair:
        found.update(group.reactants, *(entry.products for entry in group.entries))
    return tuple(sorted(found))
