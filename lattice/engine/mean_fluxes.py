"""Fluxes of the rule table between probabilities, and what becomes of them.

The flux of a rule is f = q x[a] (in a voxel) or q x[a] y[b] (of a pair that meets). The state moves
by fixed stoichiometry along the *realised* flux z. A `Realise` is the map from f to z, and all that
differs between the mean field (z = f), samples on one-hot x, and what is made of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.flux import CERTAIN, pair_hazard, shares, site_hazard
from lattice.engine.mean_view import MeanView
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan
from lattice.engine.table import Entry, Group, Table
from lattice.kernels.random_bits import stream_key, voxel_uniform

FULL = MATRIX_ONE * (1 - 1e-6)
"""A voxel is full of matrix from here on: sums of real numbers seldom end on the very unit."""

State = dict[str, Any]
"""Arrays by name; "tally", if there, is what a `Realise` keeps from call to call."""

Rows = Float[Array, "R V"]
"""One row for each competing rule, one column for each place where a draw is made."""


@runtime_checkable
class Realise(Protocol):
    """From fluxes to realised fluxes. `uniform` gives the uniform number of each draw; `effect`
    gives the change [V, C] of the state that fluxes make."""

    def __call__(
        self,
        fluxes: Rows,
        uniform: Callable[[], Float[Array, "V"]],
        effect: Callable[[Rows], Float[Array, "V C"]],
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


def along(fluxes: Rows, matrix: np.ndarray) -> Float[Array, "V C"]:
    """The change of every state by fluxes of a given stoichiometry."""
    # Sums of a few terms: a product of matrices would be rounded to fewer bits on some devices.
    columns = []
    for column in matrix.T:
        terms = [
            flux if sign > 0 else -flux for flux, sign in zip(fluxes, column, strict=True) if sign
        ]
        columns.append(sum(terms[1:], terms[0]) if terms else jnp.zeros_like(fluxes[0]))
    return jnp.stack(columns, axis=1)


def draws(plan: Plan, state: State, stream: str, substep) -> Callable[[], Float[Array, "V"]]:
    """The uniform numbers that the sampled reading draws in the same place."""
    every = jnp.arange(plan.region.size, dtype=jnp.int32)

    def uniform():
        key = stream_key(state["seed"], stream)
        return voxel_uniform(key, plan.region.global_index(every), state["step"], substep)

    return uniform


def site_substep(plan: Plan, numbers: Numbers, state: State, around, realise: Realise) -> State:
    """The rules of single cells, all states at once."""
    x = state["x"]
    every = jnp.arange(x.shape[0], dtype=jnp.int32)
    view = MeanView(plan.model, plan.region, x, around, every)
    fluxes, changes = [], []
    for group in plan.table.site:
        source = group.reactants[0]
        quotas = site_quotas(group, view, plan.table, numbers, plan.model.time.step)
        for entry, q in zip(group.entries, quotas, strict=True):
            fluxes.append(q * x[:, source])
            changes.append((source, entry.products[0]))
    matrix = stoichiometry(changes, x.shape[1])

    def effect(z: Rows) -> Float[Array, "V C"]:
        return along(z, matrix)

    return apply(state, jnp.stack(fluxes), draws(plan, state, "site", 0), effect, realise)


def site_quotas(
    group: Group, view: MeanView, table: Table, numbers: Numbers, dt: float
) -> list[Float[Array, "V"]]:
    """q of the rules of one state."""
    code = group.reactants[0]
    hazards = []
    for entry in group.entries:
        if entry.stranded:
            lost = ~jnp.asarray(view.may_live(table.lives(code)))
            hazards.append(jnp.where(jnp.broadcast_to(lost, view.index.shape), CERTAIN, 0.0))
        else:
            hazards.append(site_hazard(entry, code, view, table, numbers, dt))
    return shares([jnp.broadcast_to(h, view.index.shape).astype(view.x.dtype) for h in hazards])


def contact_substep(
    plan: Plan, numbers: Numbers, state: State, around, where, realise: Realise
) -> State:
    """One matching, `where` = (axis, parity, number of the sub-step): every pair at its lower
    voxel, with either reactant there."""
    region, x = plan.region, state["x"]
    axis, parity, substep = where
    every = jnp.arange(x.shape[0], dtype=jnp.int32)
    coordinate = jnp.stack(region.coordinates(every))[axis]
    lower = jnp.mod(coordinate - parity, 2) == 0
    partner, exists = region.neighbour(
        every, coordinate, axis, jnp.where(lower, jnp.int32(1), jnp.int32(-1))
    )
    own = MeanView(plan.model, region, x, around, every)
    other = MeanView(plan.model, region, x, around, partner)
    met = x[partner]
    fluxes, changes = [], ([], [])
    for group in plan.table.pair:
        a, b = group.reactants
        for turned in (False,) if a == b else (False, True):
            views = (other, own) if turned else (own, other)
            both = met[:, a] * x[:, b] if turned else x[:, a] * met[:, b]
            for entry, q in zip(
                group.entries, _pair_quotas(group, views, plan, numbers), strict=True
            ):
                fluxes.append(jnp.where(lower & exists, q * both, 0))
                for place in (0, 1):
                    reactant = 1 - place if turned else place
                    changes[place].append((group.reactants[reactant], entry.products[reactant]))
    here, there = (stoichiometry(c, x.shape[1]) for c in changes)

    def effect(z: Rows) -> Float[Array, "V C"]:
        beyond = along(z, there)[partner]
        return along(z, here) + jnp.where((exists & ~lower)[:, None], beyond, 0)

    return apply(state, jnp.stack(fluxes), draws(plan, state, "contact", substep), effect, realise)


def _pair_quotas(group: Group, views, plan: Plan, numbers: Numbers) -> list[Float[Array, "V"]]:
    model, table = plan.model, plan.table
    dt, voxel = model.time.contact_step, model.lattice.voxel
    first, second = group.reactants
    shape, real = views[0].index.shape, views[0].x.dtype
    hazards = [
        _fate_hazard(entry, views[entry.actor], views[1 - entry.actor], table)
        if entry.fate is not None
        else pair_hazard(entry, (first, second), views, table, numbers, dt, voxel)
        for entry in group.entries
    ]
    quotas = shares([jnp.broadcast_to(h, shape).astype(real) for h in hazards])
    return [
        q if entry.fate is None else q * _fate_share(entry, table, numbers)
        for entry, q in zip(group.entries, quotas, strict=True)
    ]


def _fate_hazard(entry: Entry, here: MeanView, there: MeanView, table: Table):
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
