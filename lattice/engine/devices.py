"""Devices: one slab of planes along z for each, on the same program.

A function of slabs runs unchanged on one device or, through `jax.shard_map`, on many; all that
crosses between slabs are halo planes and sums in a fixed order, so results have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from lattice.engine import processes
from lattice.engine.declare import declare
from lattice.engine.region import Region
from lattice.kernels.halo import Slabs
from lattice.model.errors import InputError
from lattice.model.structure import Model

AXIS = "slabs"


def mesh_of(count: int, among: Sequence[Any] | None = None) -> Mesh | None:
    """A line of `count` devices, of JAX's own ones or of those given; None for one device. Raises
    InputError if there are fewer."""
    chosen = jax.devices() if among is None else among
    available = len(chosen)
    if not 1 <= count <= available:
        raise InputError(
            f"--devices {count}: this machine has {available} device(s); ask for 1 to {available}"
        )
    if count == 1:
        return None
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen[:count])


def region_of(model: Model, mesh: Mesh | None = None) -> Region:
    """The lattice of a model as the engine sees it (axes z, y, x), divided over a mesh.

    Raises InputError if the planes cannot be divided evenly, at least two to a device."""
    (nx, ny, nz), (px, py, pz) = model.lattice.shape, model.lattice.periodic
    shape, periodic = (nz, ny, nx), (pz, py, px)
    if mesh is None:
        return Region(shape, periodic)
    count = mesh.devices.size
    if shape[0] % count or shape[0] // count < 2:
        raise InputError(
            f"lattice.shape: {shape[0]} planes along z cannot be shared evenly by {count} devices "
            f"(at least 2 planes each); choose a multiple of {count} or another --devices"
        )
    return Region(shape, periodic, Slabs(AXIS, count))


def partition(model: Model) -> dict[str, PartitionSpec]:
    """How each declared array lies on the mesh."""
    return {
        spec.name: PartitionSpec(AXIS) if spec.dims[:1] == ("z",) else PartitionSpec()
        for spec in declare(model)
    }


def on_slabs(function: Callable, mesh: Mesh | None, inputs: tuple, outputs) -> Callable:
    """The function itself on one device; on a mesh, the function of each device's slab."""
    if mesh is None:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)


def place(state: Mapping[str, np.ndarray], model: Model, mesh: Mesh | None) -> dict[str, Array]:
    """Host arrays put where they belong; on one device the default one."""
    if mesh is None:
        return {name: jax.numpy.asarray(value) for name, value in state.items()}
    layout = partition(model)
    if processes.several():
        return {name: processes.spread(v, mesh, layout[name]) for name, v in state.items()}
    return {
        name: jax.device_put(value, NamedSharding(mesh, layout[name]))
        for name, value in state.items()
    }
