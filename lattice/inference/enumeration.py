"""The exact reading: the distribution over all configurations of at most four voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from lattice.engine import mean_field
from lattice.engine.declare import has_bone
from lattice.engine.devices import region_of
from lattice.engine.initial import places_of
from lattice.engine.matching import Matching, rows_of
from lattice.engine.mean_fluxes import Realise, contact_substep, in_rows, site_substep
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan, matching_orders, plan_of
from lattice.model.errors import InputError
from lattice.model.structure import EMPTY, Model

MOST_VOXELS = 4
MOST_OUTCOMES = 20_000_000


def require_enumerable(model: Model, observables: Sequence[str]) -> None:
    """Raise InputError unless cells are all there is, on a lattice of at most four voxels."""
    mean_field.require_no_clocks(model, "exact")
    voxels = int(np.prod(model.lattice.shape))
    if voxels > MOST_VOXELS:
        raise InputError(
            f'lattice.shape: estimator "exact" counts all configurations of {voxels} voxels; '
            f'write a shape of at most {MOST_VOXELS} voxels, or "score" or "coupled"'
        )
    for key, there in (
        ("cytokine", model.cytokines),
        ("matrix", model.matrix is not None or has_bone(model)),
        ("intervention", model.interventions),
    ):
        if there:
            raise InputError(f'{key}: estimator "exact" knows cells alone; write "coupled"')
    for rule in model.rules:
        if any(r.signal.kind == "time" for r in rule.responses):
            raise InputError(f'rule.{rule.name}: "exact" knows no time; write "coupled"')
    for name in observables:
        if name == EMPTY or name not in model.state_codes():
            raise InputError(f'observable "{name}": "exact" counts cells; write a state')


def enumerated(
    model: Model, observables: Sequence[str], steps: Sequence[int]
) -> Callable[[Numbers], Float[Array, "T O"]]:
    """The means of some counts at some steps as a function of the numbers, exactly."""
    require_enumerable(model, observables)
    region = region_of(model)
    plan = plan_of(model, region, region.size)
    states = len(model.states)
    configurations = np.array(list(product(range(states), repeat=region.size)), np.int32)
    codes = [model.state_codes()[name] for name in observables]
    counts = np.stack([(configurations == code).sum(axis=1) for code in codes], axis=1)

    def means(numbers: Numbers) -> Float[Array, "T O"]:
        start = _start(plan, numbers, configurations)
        step = _step_matrix(plan, numbers, configurations)
        rows = jax.lax.scan(lambda p, _: (p @ step, p), start, length=max(steps) + 1)[1]
        return rows[np.asarray(steps)] @ jnp.asarray(counts, rows.dtype)

    return means


def _start(plan: Plan, numbers: Numbers, configurations) -> Float[Array, "N"]:
    """Probability of each configuration after seeding: voxels are independent."""
    model = plan.model
    places = places_of(plan.region, None)
    rows = [jnp.zeros(plan.region.size, numbers.values.dtype) for _ in model.states]
    for code, cell in enumerate(model.states):
        for seeding in cell.seeding:
            inside = places[seeding.where].reshape(-1)
            rows[code] = rows[code] + jnp.where(inside, numbers[seeding.fraction], 0)
    rows[0] = 1 - sum(rows[1:], rows[0])
    each = jnp.stack(rows, axis=1)[np.arange(plan.region.size), configurations]
    return jnp.prod(each, axis=1)


def _step_matrix(plan: Plan, numbers: Numbers, configurations) -> Float[Array, "N N"]:
    """Probabilities of going from one configuration (row) to another in a step."""
    size, table = plan.region.size, plan.table
    one = jnp.eye(len(configurations), dtype=numbers.values.dtype)
    total = one
    orders = matching_orders(plan.region.shape)
    if table.pair and orders.shape[1]:
        found = {}
        for code in sorted(set(orders.ravel().tolist())):
            axis, parity = divmod(code, 2)
            coordinate = np.stack(np.unravel_index(np.arange(size), plan.region.shape))[axis]
            lower = np.flatnonzero((coordinate - parity) % 2 == 0)
            with jax.ensure_compile_time_eval():
                number = 1 + jnp.arange(size).reshape(plan.region.shape)
                partner = Matching(plan.region, jnp.int32(code)).partner(number)
            upper = np.asarray(partner).reshape(-1) - 1
            pairs = [[v, upper[v]] if upper[v] >= 0 else [v] for v in lower]

            def meet(state, around, realise, code=code):
                where = (jnp.int32(code), 0)
                return contact_substep(plan, numbers, in_rows(state), around, where, realise)

            found[code] = _transitions(plan, numbers, configurations, meet, pairs)
        contact = jnp.zeros_like(one)
        for order in orders.tolist():
            path = one
            for code in order:
                path = path @ found[code]
            contact = contact + path / len(orders)
        for _ in range(plan.contacts):
            total = total @ contact
    if table.site:

        def change(state, around, realise):
            return site_substep(plan, numbers, state, around, realise)

        alone = [[v] for v in range(size)]
        total = total @ _transitions(plan, numbers, configurations, change, alone)
    return total


def _transitions(plan: Plan, numbers: Numbers, configurations, substep, draws):
    """[N, N] of one sub-step of independent draws, each of which the listed voxels share."""
    states, size = len(plan.model.states), plan.region.size
    weights = states ** np.arange(size - 1, -1, -1)
    real = numbers.values.dtype

    def listing(fluxes, uniform, effect, tally):
        """The fluxes, and by how much each moves the number of the configuration."""
        table = jnp.stack(fluxes)

        def shift(unit: Float[Array, "R Z Y X"]) -> Int32[Array, ""]:
            codes = sum(code * row.reshape(-1) for code, row in effect(rows_of(unit)).items())
            return jnp.rint(jnp.sum(codes * jnp.asarray(weights, real))).astype(jnp.int32)

        units = jnp.eye(table.size, dtype=real).reshape(-1, *table.shape)
        shifts = jax.vmap(shift)(units).reshape(table.shape)
        return [jnp.zeros_like(flux) for flux in fluxes], (table, shifts)

    def row(number, codes):
        x = jax.nn.one_hot(codes, states, axis=0, dtype=real).reshape(states, *plan.region.shape)
        state = {"x": x, "step": jnp.int32(0), "seed": jnp.zeros(2, jnp.uint32)}
        around = mean_field.surroundings(plan, state)
        realise: Realise = listing
        found = substep(state, around, realise)["tally"]
        fluxes, shifts = (part.reshape(part.shape[0], -1) for part in found)
        chances, targets = jnp.ones(1, real), number[None]
        for voxels in draws:
            chosen = np.asarray(voxels)
            own = jnp.append(fluxes[:, chosen], 1 - jnp.sum(fluxes[:, chosen]))
            moves = jnp.append(shifts[:, chosen], 0)
            chances = (chances[:, None] * own).reshape(-1)
            targets = (targets[:, None] + moves).reshape(-1)
        if chances.size * len(configurations) > MOST_OUTCOMES:
            raise InputError('estimator "exact": too many states and rules to enumerate')
        return jnp.zeros(len(configurations), real).at[targets].add(chances)

    every = jnp.arange(len(configurations), dtype=jnp.int32)
    return jax.vmap(row)(every, jnp.asarray(configurations))
