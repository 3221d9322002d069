"""What is done to the lattice from outside, and when.

Times are turned into steps on the host; a compiled chunk receives, for each of its steps, which
interventions are due. No state of a schedule needs to be kept.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt8

from lattice.engine.lists import in_states
from lattice.engine.numbers import Numbers
from lattice.engine.region import Region
from lattice.kernels.random_bits import stream_key, voxel_uniform
from lattice.model.structure import Intervention, Model


def due_steps(model: Model, first: int, count: int) -> Bool[np.ndarray, "N I"]:
    """For the steps first..first+count-1: which interventions act (pulses: in that very step)."""
    due = np.zeros((count, len(model.interventions)), bool)
    for column, intervention in enumerate(model.interventions):
        if intervention.kind == "kill":
            steps = np.asarray(pulse_steps(model, intervention, first + count), np.int64)
            steps = steps[steps >= first] - first
            due[steps, column] = True
        else:
            start, stop = window_steps(model, intervention)
            due[max(start - first, 0) : max(min(stop - first, count), 0), column] = True
    return due


def window_steps(model: Model, intervention: Intervention) -> tuple[int, int]:
    """First step inside an intervention's window and the first one after it."""
    schedule, values = intervention.schedule, model.values
    start, stop = values[schedule.start], values[schedule.stop]
    return _step_at(start, model), _step_at(stop, model)


def pulse_steps(model: Model, intervention: Intervention, end: int) -> list[int]:
    """Steps (below `end`) in which a pulse is given."""
    schedule, values = intervention.schedule, model.values
    start, stop = window_steps(model, intervention)
    if schedule.at:
        times = [values[name] for name in schedule.at]
    elif schedule.every is None:
        times = [values[schedule.start]]
    else:
        every, limit = values[schedule.every], min(stop, end)
        count = max(0, math.ceil((limit - start) * model.time.step / every) + 1)
        times = [values[schedule.start] + k * every for k in range(count)]
    steps = sorted({_step_at(t, model) for t in times})
    return [s for s in steps if start <= s < min(stop, end)]


def _step_at(hours: float, model: Model) -> int:
    """The step that begins at or last before a time; a hair below a step counts as that step."""
    if math.isinf(hours):
        return np.iinfo(np.int32).max
    return math.floor(hours / model.time.step + 1e-6)


def scaled_numbers(model: Model, numbers: Numbers, due: Bool[Array, "I"]) -> Numbers:
    """The numbers as the interventions of this step have scaled them."""
    names, factors = [], []
    for column, intervention in enumerate(model.interventions):
        for name, factor in intervention.scales:
            names.append(name)
            factors.append(jnp.where(due[column], numbers[factor], 1))
    return numbers.scaled(names, factors)


def kill(
    model: Model,
    region: Region,
    numbers: Numbers,
    due: Bool[Array, "I"],
    seed: Array,
    step: Int32[Array, ""],
    cells: UInt8[Array, "V"],
    since: Int32[Array, "V"],
) -> tuple[UInt8[Array, "V"], Int32[Array, "V"]]:
    """Pulses that are due, on the unpadded block: each cell, or each block of cells, draws once."""
    pulses = [k for k, one in enumerate(model.interventions) if one.fraction is not None]
    if not pulses:
        return cells, since
    # Asked once: on most steps none is due.
    return jax.lax.cond(
        jnp.any(due[jnp.asarray(pulses)]),
        lambda state: _pulses(model, region, numbers, due, seed, step, *state),
        lambda state: state,
        (cells, since),
    )


def _pulses(model: Model, region: Region, numbers: Numbers, due, seed, step, cells, since):
    codes = model.state_codes()
    for column, intervention in enumerate(model.interventions):
        fraction = intervention.fraction
        if fraction is None:
            continue
        targets = tuple(codes[s] for s in intervention.states)
        into = jnp.uint8(codes[intervention.into])
        key = stream_key(seed, f"intervention.{intervention.name}")
        index = draw_index(region, intervention.cluster, model.lattice.voxel)

        def pulse(state, targets=targets, into=into, key=key, index=index, name=fraction):
            cells, since = state
            uniform = voxel_uniform(key, index, step, 0)
            hit = in_states(cells, targets) & (uniform < numbers[name])
            return jnp.where(hit, into, cells), jnp.where(hit, step, since)

        cells, since = jax.lax.cond(due[column], pulse, lambda s: s, (cells, since))
    return cells, since


def draw_index(region: Region, cluster: float | None, voxel: float):
    """Global index of each voxel of the unpadded block, or of the cluster that it shares a draw
    with."""
    nz, ny, nx = region.block
    first = [region.start(k).astype(jnp.uint32) for k in range(3)]
    z = jnp.arange(nz, dtype=jnp.uint32)[:, None, None] + first[0]
    y = jnp.arange(ny, dtype=jnp.uint32)[None, :, None] + first[1]
    x = jnp.arange(nx, dtype=jnp.uint32)[None, None, :] + first[2]
    if cluster is not None:
        edge = jnp.uint32(max(1, round(cluster / voxel)))
        z, y, x = z // edge, y // edge, x // edge
    return ((z * region.shape[1] + y) * region.shape[2] + x).reshape(-1)


def external_sources(
    model: Model, names: list[str], numbers: Numbers, due: Bool[Array, "I"], places: dict
) -> Float[Array, "..."] | None:
    """Concentration/hour that interventions add to the named cytokines: an array that broadcasts
    against [V, len(names)], or None. `places` maps "marrow", ... to masks [V, 1] or scalars."""
    total = None
    for column, intervention in enumerate(model.interventions):
        if intervention.rate is not None and intervention.cytokine in names:
            rate = jnp.where(due[column], numbers[intervention.rate], 0)
            unit = jnp.zeros(len(names), jnp.float32).at[names.index(intervention.cytokine)].set(1)
            part = places[intervention.where] * (rate * unit)
            total = part if total is None else total + part
    return total
