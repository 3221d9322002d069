"""The pair closure: cells well mixed in each place, with the probabilities of touching pairs.

A place (marrow, surface, bone) has a probability for each state, x[c, a], and for each two places
that touch one for each two states on a face, P[c, d, a, b]. A matching visits one of the m bonds of
a voxel; what the matched partner does to a pair that is *not* visited is closed by
P(a, b, e) = P(a, b) P(a, e) / x(a) (Kirkwood; Matsuda et al., Prog. Theor. Phys. 88 (1992) 1035).

Turning to bone is smooth here: with surfaces filled uniformly, a voxel fills at the rate at which
its cell lays matrix, and the surface moves on. Cytokines are well mixed in each place.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from lattice.engine import interventions
from lattice.engine.declare import MATRIX_ONE, local_cytokines, systemic_cytokines
from lattice.engine.flux import pair_hazard, shares, site_hazard
from lattice.engine.mean_field import require_no_ages, stage_shares
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan, matching_orders
from lattice.engine.signals import CERTAIN
from lattice.engine.table import Entry, Group
from lattice.inference import closure_matrix
from lattice.inference.closure_fields import field_part
from lattice.inference.closure_view import FAINT, Places, PlaceView, degrees
from lattice.model.errors import InputError
from lattice.model.structure import Model

State = dict[str, Array]


def require_closure(model: Model) -> None:
    """Raise InputError for a model whose rules see the matrix of a single voxel, or ages."""
    require_no_ages(model)
    for rule in model.rules:
        needs = (rule.needs_matrix, rule.forbids_matrix, rule.consumes_matrix)
        senses = any(r.signal.kind == "matrix" for r in rule.responses)
        if senses or any(n is not None for n in needs):
            raise InputError(
                f"rule.{rule.name}: the pair closure has no matrix of single voxels; "
                'write reading "mean_field"'
            )


@dataclass(frozen=True)
class PairFluxes:
    """Entries of the pair rules as columns: (a, b) -> (c, d), first reactant in the first place.

    `alike`: both are the same state, so that either end has been counted."""

    before: np.ndarray  # [R, 2]
    after: np.ndarray  # [R, 2]
    alike: np.ndarray  # [R]


def initial(model: Model, places: Places, numbers: Numbers) -> State:
    """The state at step 0: places seeded at random, so that pairs are products."""
    require_closure(model)
    real = numbers.values.dtype
    count = len(places.names)
    x = [jnp.zeros(count, real) for _ in model.states]
    for code, cell in enumerate(model.states):
        for seeding in cell.seeding:
            inside = np.array([_covers(seeding.where, name) for name in places.names], float)
            for stage, share in stage_shares(model, code, numbers[seeding.age], numbers):
                x[stage] = x[stage] + numbers[seeding.fraction] * share * inside
    x[0] = 1 - sum(x[1:], x[0])
    table = jnp.stack(x, axis=1)
    state = {
        "step": jnp.int32(0),
        "size": jnp.asarray(places.size, real),
        "x": table,
        "pairs": jnp.einsum("ca,db->cdab", table, table),
    }
    if local_cytokines(model):
        levels = jnp.stack([numbers[c.initial] for c in local_cytokines(model)])
        state["cytokines"] = jnp.broadcast_to(levels, (count, len(levels)))
    if systemic_cytokines(model):
        state["systemic"] = jnp.stack([numbers[c.initial] for c in systemic_cytokines(model)])
    if model.matrix is not None:
        bone = sum(s for s, n in zip(places.size, places.names, strict=True) if n == "bone")
        state["mineral"] = jnp.asarray(bone, real)
        state["osteoid"] = jnp.zeros(model.matrix.stages, real)
    return state


def whole(places: Places, state: State) -> State:
    """The arrays that observables are read from, as means over the lattice."""
    share = state["size"] / places.voxels
    found = {}
    if "cytokines" in state:
        found["cytokines"] = share @ state["cytokines"]
    if "systemic" in state:
        found["systemic"] = state["systemic"]
    if "mineral" in state:
        found |= {k: state[k] * MATRIX_ONE for k in ("osteoid", "mineral")}
    elif "bone" in places.names:
        found["bone"] = share[places.names.index("bone")]
    return found


def _covers(where: str, place: str) -> bool:
    """Whether seeding in `where` reaches a place: surface voxels are marrow too."""
    return where in ("everywhere", place) or (where == "marrow" and place == "surface")


def one_step(
    plan: Plan, places: Places, numbers: Numbers, state: State, due: Bool[Array, "I"]
) -> State:
    """The state after one step, in the order of `lattice.engine.step`."""
    model = plan.model
    scaled = interventions.scaled_numbers(model, numbers, due)
    state = _through(state, _kill(plan, numbers, state, due))
    if local_cytokines(model) or systemic_cytokines(model):
        state = field_part(plan, places, scaled, state, due)
    matchings = matching_orders(plan.region.shape).shape[1]
    if plan.table.pair and matchings:
        state = _contacts(plan, places, scaled, state, matchings)
    if plan.table.site:
        state = _through(state, _site(plan, places, scaled, state))
    if "mineral" in state:
        kernel, state = closure_matrix.turn(plan, places, scaled, state)
        state = _through(state, kernel)
    return {**state, "step": state["step"] + 1}


def _through(state: State, kernel: Float[Array, "K C C"]) -> State:
    """The state after every voxel has changed by itself: `kernel[c]` has rows that sum to 1."""
    x = jnp.einsum("ca,cab->cb", state["x"], kernel)
    pairs = jnp.einsum("cax,cdab,dby->cdxy", kernel, state["pairs"], kernel)
    return {**state, "x": x, "pairs": pairs}


def _stochastic(offdiagonal: Float[Array, "... C C"]) -> Float[Array, "... C C"]:
    """The kernel of which the probabilities of changing are given."""
    states = offdiagonal.shape[-1]
    stay = 1 - jnp.sum(offdiagonal, axis=-1)
    return offdiagonal + stay[..., None] * jnp.eye(states, dtype=offdiagonal.dtype)


def _kill(plan: Plan, numbers: Numbers, state: State, due) -> Float[Array, "K C C"]:
    codes = plan.model.state_codes()
    count, states = state["x"].shape
    total = jnp.broadcast_to(jnp.eye(states, dtype=state["x"].dtype), (count, states, states))
    for column, intervention in enumerate(plan.model.interventions):
        if intervention.kind == "kill" and intervention.fraction is not None:
            share = jnp.where(due[column], numbers[intervention.fraction], 0)
            kernel = jnp.zeros((states, states), total.dtype)
            for name in intervention.states:
                kernel = kernel.at[codes[name], codes[intervention.into]].set(share)
            total = total @ _stochastic(kernel)
    return total


def _hazard(view: PlaceView, hazard) -> Float[Array, "..."]:
    """The hazard, or its mean over the number of counted neighbours."""
    if view.counted is None:
        return hazard
    return jnp.sum(jnp.broadcast_to(hazard, (7, *hazard.shape[1:])) * view.odds(), axis=0)


def _counted(entry: Entry):
    """The first signal of neighbours that a rule responds to."""
    if entry.rule is None:
        return None
    found = (r.signal for r in entry.rule.responses if r.signal.kind == "neighbours")
    return next(found, None)


def _site(plan: Plan, places: Places, numbers: Numbers, state: State) -> Float[Array, "K C C"]:
    model, table = plan.model, plan.table
    count, states = state["x"].shape
    kernel = jnp.zeros((count, states, states), state["x"].dtype)
    for group in table.site:
        source = group.reactants[0]
        hazards = []
        for entry in group.entries:
            if entry.stranded:
                lost = ~places.may_live(table.lives(source))
                hazards.append(jnp.asarray(np.where(lost, CERTAIN, 0.0), kernel.dtype))
                continue
            view = PlaceView(model, places, state, source, (count,), _counted(entry))
            found = site_hazard(entry, source, view, table, numbers, model.time.step)
            hazards.append(jnp.broadcast_to(_hazard(view, found), (count,)).astype(kernel.dtype))
        for entry, q in zip(group.entries, shares(hazards), strict=True):
            kernel = kernel.at[:, source, entry.products[0]].add(q)
    return _stochastic(kernel)


def _pair_rules(plan: Plan, places: Places, numbers: Numbers, state: State):
    """q [R, K, K] of every entry, and the entries as columns; fates of full voxels are smooth in
    this reading (`closure_matrix`)."""
    table, count = plan.table, len(places.names)
    quotas, before, after, alike = [], [], [], []
    for group in table.pair:
        entries = [e for e in group.entries if e.fate is None]
        hazards = [_pair_hazard(plan, places, numbers, state, group, e) for e in entries]
        if not hazards:
            continue
        for entry, q in zip(entries, shares(hazards), strict=True):
            quotas.append(q)
            before.append(group.reactants)
            after.append(entry.products)
            alike.append(group.reactants[0] == group.reactants[1])
    if not quotas:
        return jnp.zeros((0, count, count)), None
    return jnp.stack(quotas), PairFluxes(np.array(before), np.array(after), np.array(alike))


def _pair_hazard(plan, places, numbers, state, group: Group, entry: Entry) -> Float[Array, "K K"]:
    model, count = plan.model, len(places.names)
    shapes = ((count, 1), (1, count))
    first, second = (
        PlaceView(
            model, places, state, code, shape, _counted(entry) if entry.actor == k else None
        )
        for k, (code, shape) in enumerate(zip(group.reactants, shapes, strict=True))
    )  # fmt: skip
    views, (a, b) = (first, second), group.reactants
    dt, voxel = model.time.contact_step, model.lattice.voxel
    found = pair_hazard(entry, (a, b), views, plan.table, numbers, dt, voxel)
    found = _hazard(views[entry.actor], found)
    return jnp.broadcast_to(found, (count, count)).astype(state["x"].dtype)


def _contacts(plan: Plan, places: Places, numbers: Numbers, state: State, matchings: int) -> State:
    """All matchings of a step, with the hazards that hold at its beginning."""
    quotas, rules = _pair_rules(plan, places, numbers, state)
    if rules is None:
        return state
    degree = degrees(places, state["size"])

    @jax.checkpoint
    def visit(carry, _):
        return _matching(carry, quotas, rules, degree, matchings), None

    start = (state["x"], state["pairs"])
    x, pairs = jax.lax.scan(visit, start, length=plan.contacts * matchings)[0]
    return {**state, "x": x, "pairs": _consistent(pairs, x)}


def _matching(carry, quotas, rules: PairFluxes, degree, matchings: int):
    """One matching: one bond in `matchings` is visited; the others change by their ends."""
    x, pairs = carry
    (a, b), (c, d) = rules.before.T, rules.after.T
    flux = jnp.moveaxis(quotas, 0, -1) * pairs[:, :, a, b]
    change = jnp.zeros_like(pairs).at[:, :, a, b].add(-flux).at[:, :, c, d].add(flux)
    # Seen from the other end; two alike have been counted from both.
    mirrored = jnp.where(jnp.asarray(rules.alike), 0, flux)
    change = change + jnp.swapaxes(
        jnp.zeros_like(pairs)
        .at[:, :, a, b].add(-mirrored)
        .at[:, :, c, d].add(mirrored)
        .swapaxes(0, 1), 2, 3,
    )  # fmt: skip
    # Flow of the own state, [own place, place of the partner, before, after].
    own = jnp.zeros_like(pairs).at[:, :, a, c].add(flux)
    own = own + jnp.zeros_like(pairs).at[:, :, b, d].add(mirrored).swapaxes(0, 1)
    states = x.shape[1]
    own = own * (1 - jnp.eye(states, dtype=x.dtype))
    gain = jnp.einsum("cd,cdab->cb", degree, own) - jnp.einsum("cd,cdab->ca", degree, own)
    there = x > FAINT
    rate = own / jnp.where(there, x, 1)[:, None, :, None] * there[:, None, :, None]
    count = x.shape[0]
    others = jnp.maximum(degree[:, None, :] - jnp.eye(count, dtype=x.dtype)[None], 0)
    bystander = jnp.einsum("cde,ceab->cdab", others, rate) / max(matchings - 1, 1)
    kernel = _stochastic(bystander)
    unvisited = jnp.einsum("cdax,cdab,dcby->cdxy", kernel, pairs, kernel)
    share = 1 / matchings
    pairs = share * (pairs + change) + (1 - share) * unvisited
    return x + share * gain, pairs


def _consistent(pairs: Float[Array, "K K C C"], x: Float[Array, "K C"]) -> Float[Array, "K K C C"]:
    """Pairs whose margins are the probabilities of their ends, by one round of proportional fitting
    on either side; they drift apart only where a voxel touches less than one of another place."""

    def fitted(pairs):
        found = jnp.sum(pairs, axis=3)
        there = found > FAINT
        factor = jnp.where(there, x[:, None, :] / jnp.where(there, found, 1), 0)
        return pairs * factor[..., None]

    def mirror(pairs):
        return pairs.transpose(1, 0, 3, 2)

    return mirror(fitted(mirror(fitted(pairs))))
