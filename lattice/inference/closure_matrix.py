"""Matrix in the pair closure: the surface moves on as smoothly as matrix is laid down and removed.

Where surface voxels are filled uniformly, the chance that a voxel becomes full in a step is what
its cell lays in it. Each voxel that turns to bone takes one of the marrow into the surface, and
each that is emptied gives one back; the surface keeps its size.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from lattice.engine.flux import responses
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan
from lattice.inference.closure_view import Places, PlaceView

State = dict[str, Array]


def turn(
    plan: Plan, places: Places, numbers: Numbers, state: State
) -> tuple[Float[Array, "K C C"], State]:
    """The kernel of what becomes of the cells, and the state with its new matrix and sizes."""
    x = state["x"]
    states = x.shape[1]
    every = jnp.broadcast_to(jnp.eye(states, dtype=x.dtype), (len(places.names), states, states))
    if places.names != ("marrow", "surface", "bone"):
        return every, state
    marrow, surface, bone = range(3)
    lays = _rates(plan, places, numbers, state, "lays")
    resorbs = _rates(plan, places, numbers, state, "resorbs")
    size = state["size"]
    laid = size[surface] * (x[surface] @ lays)
    removed = size[surface] * (x[surface] @ resorbs)
    matrix = _aged(plan, numbers, state, laid, removed)
    after = size + jnp.stack([removed - laid, jnp.zeros_like(laid), laid - removed])
    buried, onward, gone = _fates(plan, numbers)
    # Of the surface: full voxels are replaced by marrow or by the cell that has moved on; as many
    # are left behind in the marrow as voxels of bone are emptied, with what was inside.
    freed = x[bone] @ _freed(plan, x.dtype)
    lost = removed / size[surface]
    renewed = onward + gone[:, None] * x[marrow]
    stay = jnp.eye(states, dtype=x.dtype)
    kernel_surface = (1 - lost) * (
        (1 - lays)[:, None] * stay + lays[:, None] * renewed
    ) + lost * freed
    filled = size[surface] * ((x[surface] * lays) @ buried)
    new = filled / jnp.where(laid > 0, laid, 1)
    new = jnp.where(laid > 0, new, stay[0])
    share = laid / after[bone]
    kernel_bone = (1 - share) * stay + share * new
    back = removed / after[marrow]
    kernel_marrow = (1 - back) * stay + back * x[surface]
    return jnp.stack([kernel_marrow, kernel_surface, kernel_bone]), {
        **state,
        **matrix,
        "size": after,
    }


def _rates(plan: Plan, places: Places, numbers: Numbers, state: State, kind: str):
    """[C] the part of a voxel that a cell on the surface lays or removes in a step."""
    model, surface = plan.model, places.names.index("surface")
    found = []
    for code, cell in enumerate(model.states):
        spec = getattr(cell, kind)
        if spec is None:
            found.append(jnp.zeros((), state["x"].dtype))
            continue
        signals = (r.signal for r in spec.responses if r.signal.kind == "neighbours")
        counted = next(signals, None)
        view = PlaceView(model, places, state, code, (len(places.names),), counted)
        factor = jnp.asarray(responses(spec.responses, view, numbers))
        if counted is not None:
            factor = jnp.sum(jnp.broadcast_to(factor, (7, len(places.names))) * view.odds(), axis=0)
        factor = jnp.broadcast_to(factor, (len(places.names),))[surface]
        found.append(jnp.clip(numbers[spec.rate] * model.time.step * factor, 0, 1))
    return jnp.stack(found).astype(state["x"].dtype)


def _aged(plan: Plan, numbers: Numbers, state: State, laid, removed) -> State:
    """Osteoid that moves on through its stages, and mineral; removal takes of all alike."""
    model = plan.model
    assert model.matrix is not None
    leaves = -jnp.expm1(-model.matrix.stages * model.time.step / numbers[model.matrix.lag])
    moved = state["osteoid"] * leaves
    osteoid = state["osteoid"] - moved + jnp.concatenate([laid[None], moved[:-1]])
    mineral = state["mineral"] + moved[-1]
    total = mineral + jnp.sum(osteoid)
    kept = jnp.where(total > 0, jnp.maximum(total - removed, 0) / jnp.where(total > 0, total, 1), 0)
    return {"osteoid": osteoid * kept, "mineral": mineral * kept}


def _fates(plan: Plan, numbers: Numbers):
    """For each state in a voxel that fills: [C, C] what is buried, [C, C] what moves on along the
    surface, and [C] the chance that nothing does."""
    table = plan.table
    states = len(table.states)
    real = numbers.values.dtype
    buried, onward = jnp.zeros((states, states), real), jnp.zeros((states, states), real)
    gone = jnp.ones(states, real)
    for code, cell in enumerate(table.states):
        fates = table.fates[code]
        if not fates:
            stays = code != 0 and "bone" in cell.lives
            buried = buried.at[code, code if stays else 0].set(1)
            continue
        weights = [numbers[f.weight] for f in fates]
        total = sum(weights[1:], weights[0])
        for fate, weight in zip(fates, weights, strict=True):
            share = weight / jnp.where(total > 0, total, 1)
            if fate.stays:
                buried = buried.at[code, fate.into].add(share)
                continue
            buried = buried.at[code, 0].add(share)
            onward = onward.at[code, fate.into].add(share)
            gone = gone.at[code].add(-share)
    return buried, onward, gone


def _freed(plan: Plan, real) -> Float[Array, "C C"]:
    """What a cell inside bone becomes when its voxel is emptied."""
    codes = plan.model.state_codes()
    targets = [
        codes[s.when_resorbed] if k and "bone" in s.lives else k
        for k, s in enumerate(plan.model.states)
    ]
    return jnp.eye(len(targets), dtype=real)[jnp.array(targets)]
