"""A simulation in memory: a model, a seed, the state, and how to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Traced
from jaxtyping import Array

from lattice.engine import guard, observe, processes
from lattice.engine.declare import FieldSpec, declare, has_bone, shape_of
from lattice.engine.devices import mesh_of, on_blocks, partition, place, region_of
from lattice.engine.initial import initial_block
from lattice.engine.interventions import due_steps
from lattice.engine.layout import Devices, layout_for
from lattice.engine.numbers import Numbers, numbers_of
from lattice.engine.plan import Plan, plan_of
from lattice.engine.region import Region, over_devices
from lattice.engine.residual import Left
from lattice.engine.step import advance
from lattice.engine.table import lower
from lattice.kernels.counting import count_values
from lattice.kernels.random_bits import seed_words
from lattice.model.planes import Planes
from lattice.model.structure import Model

LONGEST_CHUNK = 256
SMALLEST_CAPACITY = 256

_longest_lists: dict[tuple[Model, Region], int] = {}
"""Room for lists that simulations of a structure have needed in this process: the next one begins
with it, and so with the program that is compiled already."""

Row = dict[str, tuple[float, str]]
"""A moment of the series: name -> (value, unit)."""

HostArrays = dict[str, np.ndarray]

Bone = np.ndarray | Callable[[], np.ndarray | Planes]


class Simulation:
    """The sampled reading of a model.

    `bone` is the geometry as uint8 [z, y, x], or what makes it (an array, or `Planes`), which of
    several processes the first one alone will call (None: no bone anywhere); `state` goes on from
    host arrays, as a checkpoint holds them, instead of seeding afresh. `devices` is how many share
    the lattice, or how many blocks lie along z, y and x, as "2x2x1" or (2, 2, 1). Raises
    InputError when the lattice cannot be shared so, ValueError when `bone` has another shape.
    """

    def __init__(
        self,
        model: Model,
        seed: int = 0,
        bone: Bone | None = None,
        *,
        devices: Devices = 1,
        state: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.model, self.seed = model, seed
        self.mesh = mesh_of(layout_for(model.lattice, devices))
        self.region = region_of(model, self.mesh)
        self._numbers = processes.spread(numbers_of(model), self.mesh)
        if state is None:
            self.state = _seeded(model, self.region, self.mesh, self.numbers, seed, bone)
        else:
            self.state = place(state, model, self.mesh)
        self._capacity = _longest_lists.get((model.structure, self.region), 0)
        self._left: Left | None = None

    @property
    def longest_list(self) -> int:
        """Length of the longest list of voxels that the next step makes on any device."""
        structure = self.model.structure
        counts = np.asarray(_counted(structure, self.region, self.mesh)(self.state))
        return longest_list(structure, counts)

    @property
    def numbers(self) -> Numbers:
        """The model's numbers; another set of them needs no compilation."""
        return self._numbers

    @numbers.setter
    def numbers(self, numbers: Numbers) -> None:
        self._numbers = processes.spread(numbers, self.mesh)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.state["step"])

    @property
    def time_h(self) -> float:
        """Simulated hours."""
        return self.step * self.model.time.step

    def advance(self, steps: int, every: int | None = None) -> list[Row]:
        """Go on by some steps; how they are cut into chunks changes no bit.

        Returns a row (as `row` does) for each step on the way whose number is a multiple of
        `every`. They are measured on the device and fetched once a chunk."""
        rows: list[Row] = []
        while steps > 0:
            count = min(steps, LONGEST_CHUNK)
            self._grow_capacity()
            plan = plan_of(self.model, self.region, self._capacity)
            first = self.step
            due = np.zeros((LONGEST_CHUNK, len(self.model.interventions)), bool)
            due[:count] = due_steps(self.model, first, count)
            told = [due, np.int32(count)] + ([] if every is None else [np.int32(every)])
            arguments = [self.numbers, self.state, *processes.spread(told, self.mesh)]
            compiled = _compiled(plan, self.mesh, every is not None)
            self.state, measured, self._left = compiled(*arguments)
            if every is not None and (found := (first + count) // every - first // every):
                kept = {name: values[:found] for name, values in jax.device_get(measured).items()}
                for k in range(found):
                    one = {name: values[k] for name, values in kept.items()}
                    rows.append(observe.series_row(self.model, one))
            steps -= count
        return rows

    def _grow_capacity(self) -> None:
        """Lists with room for all active voxels of a block; recompiles when they outgrow it."""
        longest = self.longest_list
        if self._capacity and longest <= 1.25 * self._capacity:
            return
        self._capacity = room_for(longest, self.region)
        _longest_lists[self.model.structure, self.region] = self._capacity

    def row(self) -> Row:
        """The present row of the series: name -> (value, unit)."""
        measured = _measured(self.model.structure, self.region, self.mesh)(self.state)
        return observe.series_row(self.model, jax.device_get(measured))

    def fault(self) -> guard.Fault | None:
        """A value of the state that cannot be right, looked for on the device and named from host
        copies; or a field whose last solve has not reached its error; or None."""
        if not bool(_sound(self.model.structure, self.region, self.mesh)(self.state)):
            return guard.first_fault(self.model, self.host_state())
        if self._left is None:
            return None
        return guard.first_unsolved(self.model, Left(*jax.device_get(self._left)))

    def host_state(self) -> dict[str, np.ndarray]:
        """Host copies of everything that the next step reads."""
        names = [spec.name for spec in declare(self.model) if spec.restart]
        return processes.on_host({name: self.state[name] for name in names})

    def host_ledger(self) -> dict[str, np.ndarray]:
        """Host copies of the running totals."""
        names = [spec.name for spec in declare(self.model) if not spec.restart]
        return processes.on_host({name: self.state[name] for name in names})

    def own_part(self) -> tuple[tuple[int, ...], HostArrays, HostArrays]:
        """Where the block of this process begins (z, y, x), and host copies of its part of the
        state and of the ledger."""
        specs = declare(self.model)
        state, ledger = (
            processes.own_part({s.name: self.state[s.name] for s in specs if s.restart == kind})
            for kind in (True, False)
        )
        return processes.first_own(self.state["cells"]), state, ledger


def _seeded(
    model: Model,
    region: Region,
    mesh: Mesh | None,
    numbers: Numbers,
    seed: int,
    bone: Bone | None,
):
    """The state at step 0, made block by block."""
    words = processes.spread(np.asarray(seed_words(seed)), mesh)
    placed = _placed_bone(model, region, mesh, bone) if has_bone(model) else None
    return _seeding(model.structure, region, mesh)(numbers, words, placed)


def _placed_bone(model: Model, region: Region, mesh: Mesh | None, bone: Bone | None):
    def make() -> np.ndarray | Planes:
        given = bone() if callable(bone) else bone
        if not isinstance(given, Planes):
            given = np.zeros(region.shape, np.uint8) if given is None else np.asarray(given)
            given = (given != 0).astype(np.uint8)
        if given.shape != region.shape:
            raise ValueError(f"bone has the shape {given.shape}, the lattice {region.shape}")
        return given

    layout = partition(model)["bone"]
    if mesh is not None and processes.several() and callable(bone):
        return processes.hand_out(make, region.shape, mesh, layout)
    made = make()
    whole = made.whole() if isinstance(made, Planes) else made
    return processes.spread(whole, mesh, layout)


@lru_cache(maxsize=32)
def _seeding(structure: Model, region: Region, mesh: Mesh | None):
    """The jitted seeding of a structure, for any numbers, seed and bone."""

    def make(numbers, words, bone):
        return initial_block(structure, region, numbers, words, bone)

    inputs = (PartitionSpec(), PartitionSpec(), partition(structure).get("bone", PartitionSpec()))
    return jax.jit(on_blocks(make, mesh, inputs, partition(structure)))


@lru_cache(maxsize=32)
def _compiled(plan: Plan, mesh: Mesh | None, rows: bool = False):
    """The jitted chunk of a plan, with or without rows of the series; the state is donated."""

    def run(numbers: Numbers, state: dict[str, Array], due, count, every=None):
        return advance(plan, numbers, state, due, count, every, watched=True)

    layout, whole = partition(plan.model), PartitionSpec()
    inputs = (whole, layout, whole, whole) + ((whole,) if rows else ())
    return jax.jit(on_blocks(run, mesh, inputs, (layout, whole, whole)), donate_argnums=1)


def program_of(model: Model, capacity: int, mesh: Mesh | None = None) -> Traced:
    """The chunk of a model, traced from the shapes of the state alone: tells memory, traffic and
    cost of lattices that nobody has filled.

    Takes the values of the numbers, the state, due steps, the number of steps and the cadence of
    the series. `capacity` is the length of the lists of active voxels on each device."""
    plan, numbers = plan_of(model, region_of(model, mesh), capacity), numbers_of(model)
    layout, whole = partition(model), PartitionSpec()

    def run(values, state, due, count, every):
        given = replace(numbers, values=values)
        return advance(plan, given, state, due, count, every, watched=True)

    def shaped(spec: FieldSpec) -> jax.ShapeDtypeStruct:
        where = None if mesh is None else NamedSharding(mesh, layout[spec.name])
        return jax.ShapeDtypeStruct(shape_of(spec, model), spec.dtype, sharding=where)

    state = {spec.name: shaped(spec) for spec in declare(model)}
    due = jax.ShapeDtypeStruct((LONGEST_CHUNK, len(model.interventions)), bool)
    one = jax.ShapeDtypeStruct((), jnp.int32)
    inputs, outputs = (whole, layout, whole, whole, whole), (layout, whole, whole)
    program = jax.jit(on_blocks(run, mesh, inputs, outputs), donate_argnums=1)
    return program.trace(numbers.values, state, due, one, one)


@lru_cache(maxsize=32)
def _counted(structure: Model, region: Region, mesh: Mesh | None):
    """Cells of each state on the block that has most of them."""

    def count(state):
        counts = count_values(state["cells"], range(len(structure.states)))
        return over_devices(jax.lax.pmax, counts, region)

    inputs = (partition(structure),)
    return jax.jit(on_blocks(count, mesh, inputs, PartitionSpec()))


def room_for(longest: int, region: Region) -> int:
    """The capacity of lists for a longest list of that length."""
    capacity = max(SMALLEST_CAPACITY, int(1.5 * longest))
    return region.size if 2 * capacity > region.size else capacity


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

    inputs = (partition(structure),)
    return jax.jit(on_blocks(measure, mesh, inputs, PartitionSpec()))


@lru_cache(maxsize=32)
def _sound(structure: Model, region: Region, mesh: Mesh | None):
    def look(state):
        return guard.is_sound(structure, region, state)

    inputs = (partition(structure),)
    return jax.jit(on_blocks(look, mesh, inputs, PartitionSpec()))
