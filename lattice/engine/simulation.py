"""A simulation in memory: a model, a seed, the state, and how to go on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from lattice.engine import devices, observe
from lattice.engine.declare import declare, has_bone
from lattice.engine.initial import initial_slab
from lattice.engine.interventions import due_steps
from lattice.engine.numbers import Numbers, numbers_of
from lattice.engine.region import Region
from lattice.engine.step import Plan, advance, plan_of
from lattice.engine.table import lower
from lattice.kernels.counting import count_values
from lattice.kernels.random_bits import seed_words
from lattice.model.structure import Model

LONGEST_CHUNK = 256
SMALLEST_CAPACITY = 256


class Simulation:
    """The sampled reading of a model.

    `bone` is the geometry as uint8 [z, y, x] (None: no bone anywhere); `state` goes on from host
    arrays, as a checkpoint holds them, instead of seeding afresh; `capacity` is the least room in
    the lists of active voxels: with the `capacity` that an earlier simulation of this structure has
    reached, nothing is compiled anew. Raises InputError when the
    lattice cannot be shared by `device_count` devices, ValueError when `bone` has not the
    lattice's shape.
    """

    def __init__(
        self,
        model: Model,
        seed: int = 0,
        bone: np.ndarray | None = None,
        *,
        device_count: int = 1,
        state: Mapping[str, np.ndarray] | None = None,
        capacity: int = 0,
    ) -> None:
        self.model, self.seed = model, seed
        self.mesh = devices.mesh_of(device_count)
        self.region = devices.region_of(model, self.mesh)
        self.numbers = numbers_of(model)
        if state is None:
            self.state = _seeded(model, self.region, self.mesh, self.numbers, seed, bone)
        else:
            self.state = devices.place(state, model, self.mesh)
        self._capacity = min(capacity, self.region.size)

    @property
    def capacity(self) -> int:
        """Room in the lists of active voxels; it changes speed alone."""
        return self._capacity

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.state["step"])

    @property
    def time_h(self) -> float:
        """Simulated hours."""
        return self.step * self.model.time.step

    def advance(self, steps: int) -> None:
        """Go on by some steps; how they are cut into chunks changes no bit."""
        while steps > 0:
            count = min(steps, LONGEST_CHUNK)
            self._grow_capacity()
            plan = plan_of(self.model, self.region, self._capacity)
            due = np.zeros((LONGEST_CHUNK, len(self.model.interventions)), bool)
            due[:count] = due_steps(self.model, self.step, count)
            chunk = _compiled(plan, self.mesh)
            self.state = chunk(self.numbers, self.state, jnp.asarray(due), jnp.int32(count))
            steps -= count

    def _grow_capacity(self) -> None:
        """Lists with room for all active voxels of a slab; recompiles when they outgrow it."""
        structure = self.model.structure
        counts = np.asarray(_counted(structure, self.region, self.mesh)(self.state))
        longest = longest_list(structure, counts)
        if self._capacity and longest <= 1.25 * self._capacity:
            return
        capacity = max(SMALLEST_CAPACITY, int(1.5 * longest))
        whole = self.region.size
        self._capacity = whole if 2 * capacity > whole else capacity

    def row(self) -> dict[str, tuple[float, str]]:
        """The present row of the series: name -> (value, unit)."""
        measured = _measured(self.model.structure, self.region, self.mesh)(self.state)
        return observe.series_row(self.model, jax.device_get(measured))

    def host_state(self) -> dict[str, np.ndarray]:
        """Host copies of everything that the next step reads."""
        names = [spec.name for spec in declare(self.model) if spec.restart]
        return jax.device_get({name: self.state[name] for name in names})

    def host_ledger(self) -> dict[str, np.ndarray]:
        """Host copies of the running totals."""
        names = [spec.name for spec in declare(self.model) if not spec.restart]
        return jax.device_get({name: self.state[name] for name in names})


def _seeded(model: Model, region: Region, mesh: Mesh | None, numbers: Numbers, seed: int, bone):
    """The state at step 0, made slab by slab."""
    if has_bone(model):
        bone = np.zeros(region.shape, np.uint8) if bone is None else np.asarray(bone)
        if bone.shape != region.shape:
            raise ValueError(f"bone has the shape {bone.shape}, the lattice {region.shape}")
        bone = (bone != 0).astype(np.uint8)
    else:
        bone = None
    make = _initial(model.structure, region, mesh)
    return make(numbers, jnp.asarray(seed_words(seed)), bone)


@lru_cache(maxsize=32)
def _initial(structure: Model, region: Region, mesh: Mesh | None):
    """The jitted start: numbers, words of the seed and bone give the state at step 0."""

    def make(numbers, words, bone):
        return initial_slab(structure, region, numbers, words, bone)

    inputs = (PartitionSpec(), PartitionSpec(), PartitionSpec(devices.AXIS))
    return jax.jit(devices.on_slabs(make, mesh, inputs, devices.partition(structure)))


@lru_cache(maxsize=32)
def _compiled(plan: Plan, mesh: Mesh | None):
    """The jitted chunk of a plan; the state is donated."""

    def run(numbers: Numbers, state: dict[str, Array], due, count):
        return advance(plan, numbers, state, due, count)

    layout = devices.partition(plan.model)
    inputs = (PartitionSpec(), layout, PartitionSpec(), PartitionSpec())
    return jax.jit(devices.on_slabs(run, mesh, inputs, layout), donate_argnums=1)


@lru_cache(maxsize=32)
def _counted(structure: Model, region: Region, mesh: Mesh | None):
    """Cells of each state on the slab that has most of them."""

    def count(state):
        counts = count_values(state["cells"], range(len(structure.states)))
        if region.slabs.axis_name is None:
            return counts
        return jax.lax.pmax(counts, region.slabs.axis_name)

    inputs = (devices.partition(structure),)
    return jax.jit(devices.on_slabs(count, mesh, inputs, PartitionSpec()))


def longest_list(structure: Model, counts: np.ndarray) -> int:
    """Length of the longest list of voxels that a step makes, arrivals apart."""
    table, states = lower(structure), structure.states
    lists = [
        table.pair_codes,
        table.site_codes,
        tuple(i for i, s in enumerate(states) if s.secretes or s.takes_up),
        tuple(i for i, s in enumerate(states) if s.lays or s.resorbs),
    ]
    return max(int(counts[list(codes)].sum()) for codes in lists)


@lru_cache(maxsize=32)
def _measured(structure: Model, region: Region, mesh: Mesh | None):
    def measure(state):
        return observe.measure(structure, region, state)

    inputs = (devices.partition(structure),)
    return jax.jit(devices.on_slabs(measure, mesh, inputs, PartitionSpec()))
