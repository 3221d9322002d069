"""Devices: one block of the lattice for each, on the same program.

A function of blocks runs unchanged on one device or, through `jax.shard_map`, on many; all that
crosses between blocks are halos and sums in a fixed order, so results have the same bits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from lattice.engine import processes
from lattice.engine.declare import declare
from lattice.engine.layout import AXES, Layout, spelt
from lattice.engine.region import Region
from lattice.kernels.halo import WHOLE, Blocks
from lattice.model.errors import InputError
from lattice.model.setting import Lattice
from lattice.model.structure import Model


def mesh_of(layout: Layout, among: Sequence[Any] | None = None) -> Mesh | None:
    """A mesh of devices, of JAX's own ones or of those given, one for each block along z, y and x;
    None for one block. Raises InputError if there are fewer devices."""
    chosen = jax.devices() if among is None else among
    count, available = math.prod(layout), len(chosen)
    if count > available:
        raise InputError(
            f"--devices {spelt(layout)}: this machine has {available} device(s); ask for 1 to "
            f"{available}"
        )
    if count == 1:
        return None
    return Mesh(_placed(chosen[:count], layout), AXES, axis_types=(AxisType.Auto,) * 3)


def _placed(chosen: Sequence[Any], layout: Layout) -> np.ndarray:
    """The devices at the places of their blocks. What one process holds is a block too, as its part
    of a checkpoint is: its devices lie beside each other along x first, then along y, then z."""
    ordered = sorted(chosen, key=lambda device: device.process_index)
    held = set(Counter(device.process_index for device in ordered).values())
    each = held.pop() if len(held) == 1 else 0
    if not each:
        if layout[1:] != (1, 1):
            raise InputError(
                f"--devices {spelt(layout)}: the processes have different numbers of devices and "
                f"can share slabs along z alone; write --devices {math.prod(layout)}x1x1"
            )
        each = 1
    x = math.gcd(each, layout[2])
    y = math.gcd(each // x, layout[1])
    inner = (each // x // y, y, x)
    outer = tuple(n // k for n, k in zip(layout, inner, strict=True))
    places = np.array(ordered, dtype=object).reshape(*outer, *inner)
    return places.transpose(0, 3, 1, 4, 2, 5).reshape(layout)


def region_of(model: Model, mesh: Mesh | None = None) -> Region:
    """The lattice of a model as the engine sees it, divided over a mesh whose layout fits it (see
    `layout.layout_for`)."""
    if mesh is None:
        return region_on(model.lattice, (1, 1, 1))
    z, y, x = mesh.devices.shape
    return region_on(model.lattice, (z, y, x))


def region_on(lattice: Lattice, layout: Layout) -> Region:
    """A lattice as the engine sees it (axes z, y, x), in the blocks of a layout that fits it."""
    (nx, ny, nz), (px, py, pz) = lattice.shape, lattice.periodic
    blocks = Blocks(AXES, layout) if math.prod(layout) > 1 else WHOLE
    return Region((nz, ny, nx), (pz, py, px), blocks)


def partition(model: Model) -> dict[str, PartitionSpec]:
    """How each declared array lies on the mesh."""
    return {
        spec.name: PartitionSpec(*(dim if dim in AXES else None for dim in spec.dims))
        for spec in declare(model)
    }


def on_blocks(function: Callable, mesh: Mesh | None, inputs: tuple, outputs) -> Callable:
    """The function itself on one device; on a mesh, the function of each device's block."""
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
