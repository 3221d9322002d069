"""What one device needs for a lattice that nobody has filled: memory and halo traffic.

The step is traced and compiled from shapes alone. XLA's own account then tells the memory of a
device, and the traced program all that travels between devices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import Mesh

from lattice.engine.devices import region_of, region_on
from lattice.engine.layout import Layout, layout_for, sharings
from lattice.engine.simulation import program_of, room_for
from lattice.model.setting import Lattice
from lattice.model.structure import Model


@dataclass(frozen=True)
class Footprint:
    """Bytes on each device of a layout: `state` lives on, `work` is the compiler's work space,
    `received` arrives from other devices in a step with a field solve. `voxels` are those of a
    block and its halo."""

    layout: Layout
    voxels: int
    state: int
    work: int
    received: int

    @property
    def devices(self) -> int:
        """How many devices share the lattice."""
        return math.prod(self.layout)

    @property
    def memory(self) -> int:
        """State and work space together."""
        return self.state + self.work


def footprint(model: Model, active: float, mesh: Mesh | None = None) -> Footprint:
    """The footprint of a model on a mesh; `active` is the share of voxels in the longest list of
    active ones. Takes as long as compiling the step does."""
    region = region_of(model, mesh)
    traced = program_of(model, room_for(round(active * math.prod(region.block)), region), mesh)
    account = traced.lower().compile().memory_analysis()
    assert account is not None
    state = account.argument_size_in_bytes
    work = account.temp_size_in_bytes + account.output_size_in_bytes - account.alias_size_in_bytes
    return Footprint(region.blocks.counts, region.size, state, work, received(traced.jaxpr.jaxpr))


def memory_on(lattice: Lattice, count: int, known: tuple[Footprint, Footprint]) -> float:
    """Bytes on each of `count` devices, from the footprints of a lattice on two other numbers of
    them: a part goes with the voxels of a block and its halo, another (what is gathered) does
    not."""
    few, many = known
    voxels = region_on(lattice, layout_for(lattice, count)).size
    if few.voxels == many.voxels:
        return max(few.memory, many.memory)
    slope = (few.memory - many.memory) / (few.voxels - many.voxels)
    return many.memory + slope * (voxels - many.voxels)


def fewest_devices(
    lattice: Lattice, known: tuple[Footprint, Footprint], limit: float
) -> int | None:
    """How many devices of `limit` bytes a lattice needs, from its footprints on two numbers of
    several devices; None if the smallest blocks do not fit."""
    fits = (n for n in sharings(lattice) if memory_on(lattice, n, known) <= limit)
    return next(fits, None)


def received(program: Jaxpr) -> int:
    """Bytes that one device receives while a program runs once. A loop whose length is not known
    counts once: the loop over the steps of a chunk, and those that do not communicate."""
    total = 0
    for equation in program.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "ppermute":
            total += sum(_bytes(v) for v in equation.outvars)
        elif name == "all_to_all":
            # Of as many parts as there are devices, its own one stays.
            axis, after = parameters["concat_axis"], equation.outvars[0]
            parts = _extents(after)[axis] // _extents(equation.invars[0])[axis]
            total += _bytes(after) - _bytes(after) // parts
        elif name == "all_gather":
            # Its own part is there already.
            total += sum(map(_bytes, equation.outvars)) - sum(map(_bytes, equation.invars))
        parts = [received(inner) for inner in _inner(parameters)]
        if name == "cond":
            total += max(parts, default=0)
        else:
            total += parameters.get("length", 1) * sum(parts) if name == "scan" else sum(parts)
    return total


def _extents(variable) -> tuple[int, ...]:
    return variable.aval.shape


def _bytes(variable) -> int:
    itemsize = np.dtype(variable.aval.dtype).itemsize
    return int(np.prod(_extents(variable), dtype=np.int64)) * itemsize


def _inner(parameters: dict) -> Iterator[Jaxpr]:
    for leaf in jax.tree.leaves(list(parameters.values()), is_leaf=_is_program):
        if isinstance(leaf, ClosedJaxpr):
            yield leaf.jaxpr
        elif isinstance(leaf, Jaxpr):
            yield leaf


def _is_program(value) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)
