"""Fluxes of the rule table between probabilities, and what becomes of them.

The flux of a rule is f = q x[a] (in a voxel) or q x[a] y[b] (of a pair that meets). The state moves
by fixed stoichiometry along the *realised* flux z. A `Realise` is the map from f to z, and all that
differs between the mean field (z = f), samples on one-hot x, and what is made of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
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

Rows = Sequence[Float[Array, "Z Y X"]]
"""Of each rule, in every voxel that its first reactant may be in. The voxels of a pair share one
draw: on one-hot x at most one of the two has fluxes above 0."""


@runtime_checkable
class Realise(Protocol):
    """From fluxes to realised fluxes. `uniform` gives the uniform number of each voxel's draw;
    `effect` gives the change [C, V] of the state that fluxes make."""

    def __call__(
        self,
        fluxes: Rows,
        uniform: Callable[[], Float[Array, "Z Y X"]],
        effect: Callable[[Rows], Float[Array, "C Z Y X"]],
        tally: Any,
    ) -> tuple[Rows, Any]:
        """Realised fluxes and the tally after them."""
        ...


def mean(fluxes: Rows, uniform, effect, tally) -> tuple[Rows, Any]:
    """The mean field: what happens is the mean of what may happen."""
    return fluxes, tally


def apply(state: State, fluxes: Rows, uniform, effect, realise: Realise) -> State:
    """The state after some fluxes have been realised."""
    realised, tally = realise(fluxes, uniform, effect, state.get("tally"))
    state = {**state, "x": state["x"] + effect(realised)}
    return state if tally is None else {**state, "tally": tally}


def stoichiometry(changes: list[tuple[int, int]], states: int) -> np.ndarray:
    """[R, C]: -1 where each (before, after) leaves and +1 where it goes to."""
    matrix = np.zeros((len(changes), states))
    for row, (before, after) in enumerate(changes):
        matrix[row, before] -= 1
        matrix[row, after] += 1
    return matrix


def along(fluxes: Rows, matrix: np.ndarray) -> Float[Array, "C Z Y X"]:
    """The change of every state by fluxes of a given stoichiometry."""
    # Sums of a few terms: a product of matrices would be rounded to fewer bits on some devices.
    rows = []
    for column in matrix.T:
        terms = [
            flux if sign > 0 else -flux for flux, sign in zip(fluxes, column, strict=True) if sign
        ]
        rows.append(sum(terms[1:], terms[0]) if terms else jnp.zeros_like(fluxes[0]))
    return jnp.stack(rows)


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
    x = rows_of(state["x"])
    view = MeanView(plan.model, plan.region, x, around)
    fluxes, changes = [], []
    for group in plan.table.site:
        source = group.reactants[0]
        quotas = site_quotas(group, view, plan.table, numbers, plan.model.time.step)
        for entry, q in zip(group.entries, quotas, strict=True):
            fluxes.append(q * x[source])
            changes.append((source, entry.products[0]))
    matrix = stoichiometry(changes, len(x))

    def effect(z: Rows) -> Float[Array, "C Z Y X"]:
        return along(z, matrix)

    return apply(state, fluxes, draws(plan, state, "site", 0), effect, realise)


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
    of a rule may meet the second one in the partner."""
    code, substep = where
    x, matching = rows_of(state["x"]), Matching(plan.region, code)
    own = MeanView(plan.model, plan.region, x, around)
    views = own, PartnerView(own, matching)
    met = rows_of(matching.partner(state["x"]))
    fluxes, changes = [], ([], [])
    for group in plan.table.pair:
        a, b = group.reactants
        both = x[a] * met[b]
        if a == b:
            both = jnp.where(matching.lower, both, 0)
        for entry, q in zip(group.entries, _pair_quotas(group, views, plan, numbers), strict=True):
            fluxes.append(q * both)
            for place in (0, 1):
                changes[place].append((group.reactants[place], entry.products[place]))
    here, there = (stoichiometry(c, len(x)) for c in changes)

    def effect(z: Rows) -> Float[Array, "C Z Y X"]:
        return along(z, here) + matching.partner(along(z, there))

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
