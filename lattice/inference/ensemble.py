"""Ensembles of the sampled simulator: the same seeds at any numbers of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from lattice.engine.devices import region_of
from lattice.engine.initial import initial_block
from lattice.engine.interventions import due_steps
from lattice.engine.numbers import Numbers, numbers_of
from lattice.engine.plan import Plan, plan_of
from lattice.engine.simulation import Simulation
from lattice.engine.step import advance
from lattice.inference.observables import read_state
from lattice.inference.sharing import each_on_a_device, local_devices
from lattice.kernels.counting import count_values
from lattice.kernels.random_bits import seed_words
from lattice.model.structure import Model

FEW_VOXELS = 1000
"""Lattices up to this size run many seeds in one program; others one after the other."""

TOGETHER = 1 << 18
"""Voxels of all the seeds that run together."""


def sampled_course(
    model: Model,
    changes: Mapping[str, float],
    observables: Sequence[str],
    steps: Sequence[int],
    seeds: Sequence[int],
    bone: np.ndarray | None,
) -> Float[np.ndarray, "B T O"]:
    """The observables of the sampled simulator at some steps, for each of the seeds, with some
    numbers of the model changed. One seed draws the same numbers whatever the changes. The devices
    of this process share the seeds."""
    changed, devices = model.with_values(**changes), local_devices()

    def courses(some: Sequence[int]) -> Float[np.ndarray, "B T O"]:
        return courses_here(changed, observables, steps, some, bone)

    parts = batches(seeds, seeds_together(changed), len(devices))
    return np.concatenate(each_on_a_device(courses, parts, devices))


def seeds_together(model: Model) -> int:
    """How many seeds of a model one program runs."""
    voxels = int(np.prod(model.lattice.shape))
    return max(1, TOGETHER // voxels) if voxels <= FEW_VOXELS else 1


def batches(seeds: Sequence[int], most: int, devices: int) -> list[Sequence[int]]:
    """The seeds in parts of at most so many, and one for each device at least."""
    size = max(1, min(most, -(-len(seeds) // devices)))
    return [seeds[k : k + size] for k in range(0, len(seeds), size)]


def courses_here(
    model: Model,
    observables: Sequence[str],
    steps: Sequence[int],
    seeds: Sequence[int],
    bone: np.ndarray | None,
) -> Float[np.ndarray, "B T O"]:
    """As `sampled_course`, on JAX's default device alone."""
    if seeds_together(model) == 1:
        return np.stack([_one_run(model, observables, steps, seed, bone) for seed in seeds])
    words = np.stack([seed_words(s) for s in seeds])
    return _together(model, tuple(observables), steps, numbers_of(model), words, bone)


def _one_run(model: Model, observables, steps, seed: int, bone) -> Float[np.ndarray, "T O"]:
    simulation = Simulation(model, seed, bone)
    rows = {}
    for step in sorted(set(steps)):
        simulation.advance(int(step) - simulation.step)
        row = simulation.row()
        rows[step] = [row[name][0] for name in observables]
    return np.array([rows[step] for step in steps])


def _together(model: Model, observables, steps, numbers: Numbers, words, bone):
    region = region_of(model)
    plan = plan_of(model, region, region.size)
    begin, go_on, measure = _programs(plan, observables)
    state, now, rows = begin(numbers, jnp.asarray(words), bone), 0, {}
    for step in sorted({int(s) for s in steps}):
        if step > now:
            due = jnp.asarray(due_steps(model, now, step - now))
            state, now = go_on(numbers, state, due), step
        rows[step] = np.asarray(measure(state), np.float64)
    return np.stack([rows[int(s)] for s in steps], axis=1)


@lru_cache(maxsize=16)
def _programs(plan: Plan, observables: tuple[str, ...]):
    """Compiled: seeding, some steps, and measuring, of many seeds."""
    structure, region = plan.model, plan.region

    def begin(numbers, words, bone):
        return initial_block(structure, region, numbers, words, bone)

    def go_on(numbers, state, due):
        return advance(plan, numbers, state, due, jnp.int32(due.shape[0]))[0]

    def measure(state):
        counts = count_values(state["cells"], range(len(structure.states)))
        return read_state(structure, observables, state, counts.astype(jnp.float32))

    return (
        jax.jit(jax.vmap(begin, in_axes=(None, 0, None))),
        jax.jit(jax.vmap(go_on, in_axes=(None, 0, None))),
        jax.jit(jax.vmap(measure)),
    )
