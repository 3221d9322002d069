"""Matrix in the mean-field reading: real numbers, and voxels that turn when their mean is full."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from lattice.engine.declare import MATRIX_ONE
from lattice.engine.flux import responses
from lattice.engine.mean_fluxes import FULL
from lattice.engine.mean_view import MeanView
from lattice.engine.numbers import Numbers
from lattice.engine.plan import Plan
from lattice.engine.region import touching

State = dict[str, Array]


def matrix_part(plan: Plan, numbers: Numbers, state: State, around: dict[str, Array]) -> State:
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
    assert model.matrix is not None
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
