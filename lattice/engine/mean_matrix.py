"""Matrix in the mean-field reading: real numbers, and voxels that turn when their mean is full."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.flux import responses
from lattice.engine.matching import rows_of, sum_beside
from lattice.engine.mean_fluxes import FULL
from lattice.engine.mean_view import MeanView
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan

State = dict[str, Array]


def matrix_part(plan: Plan, numbers: Numbers, state: State, around: dict[str, Array]) -> State:
    """Matrix as real numbers; resorption is shared by all bone faces of a cell's voxel."""
    model, region = plan.model, plan.region
    dt, x = model.time.step, rows_of(state["x"])
    view = MeanView(model, region, x, around)
    bone, faces, total = around["bone"] != 0, around["faces"], around["matrix"]
    laid, wanted = jnp.zeros(region.shape), jnp.zeros(region.shape)
    for code, cell in enumerate(model.states):
        for spec, lays in ((cell.lays, True), (cell.resorbs, False)):
            if spec is not None:
                rate = numbers[spec.rate] * dt * MATRIX_ONE
                amount = x[code] * rate * responses(spec.responses, view, numbers)
                if lays:
                    laid = laid + jnp.where(~bone & (faces > 0), amount, 0)
                else:
                    wanted = wanted + amount
    laid = jnp.minimum(laid, jnp.maximum(MATRIX_ONE - total, 0))
    per_face = wanted / jnp.maximum(sum_beside(around["bone"], region), 1)
    demand = jnp.where(bone, sum_beside(per_face, region), 0)
    assert model.matrix is not None
    stages = state["osteoid"].shape[1]
    osteoid, mineral = jnp.moveaxis(state["osteoid"], 1, 0), state["mineral"]
    leaves = -jnp.expm1(-stages * dt / numbers[model.matrix.lag])
    moved = osteoid * leaves
    entering = jnp.concatenate([laid[None], moved[:-1]])
    osteoid, mineral = osteoid - moved + entering, mineral + moved[-1]
    matrix = mineral + jnp.sum(osteoid, axis=0)
    kept = jnp.where(matrix > 0, jnp.maximum(matrix - demand, 0) / jnp.maximum(matrix, 1), 0)
    osteoid, mineral = osteoid * kept, mineral * kept
    matrix = matrix * kept
    # As in the sampled reading, a cell has the contacts of a step to move out of a full voxel.
    full = ~bone & (total >= FULL) & (matrix >= FULL)
    emptied = bone & (matrix <= 0)
    after = _turn_to_bone(plan, numbers, x, full, emptied)
    phase = jnp.where(full, 1, jnp.where(emptied, 0, around["bone"])).astype(jnp.uint8)
    osteoid = jnp.moveaxis(osteoid, 0, 1)
    return {**state, "x": after, "bone": phase, "osteoid": osteoid, "mineral": mineral}


def _turn_to_bone(plan, numbers, x, full, emptied):
    table = plan.table
    codes = plan.model.state_codes()
    after = list(x)
    for code, cell in enumerate(table.states):
        if code == 0:
            continue
        fates = table.fates[code]
        default = code if "bone" in cell.lives else 0
        staying = [f.into for f in fates if f.stays] or [default]
        total = sum(numbers[f.weight] for f in fates) if fates else 1.0
        ways = [(f.into if f.stays else staying[0], numbers[f.weight] / total) for f in fates]
        moves = [(full, into, share) for into, share in ways or [(default, 1.0)]]
        if "bone" in cell.lives:
            moves.append((emptied, codes[cell.when_resorbed], 1.0))
        for where, into, share in moves:
            moved = jnp.where(where, x[code] * share, 0)
            after[code], after[into] = after[code] - moved, after[into] + moved
    return jnp.stack(after)
