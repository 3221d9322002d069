"""One run in several processes: what each must hand over, gather and agree upon.

Every process executes the same program on its own devices; only the first one writes files. What
depends on a clock or a signal (how long a chunk is, whether to stop) is decided by the first
process and told to the others, or their collective operations would no longer meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from lattice.model.errors import InputError, OsteolatticeError
from lattice.model.planes import Planes

Result = TypeVar("Result")


def several() -> bool:
    """Whether this run has more processes than one."""
    return jax.process_count() > 1


def place() -> tuple[int, int]:
    """Which process this is, and how many there are."""
    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this is the process that writes files and talks."""
    return jax.process_index() == 0


def spread(tree: Any, mesh: Mesh | None, layout: PartitionSpec | None = None) -> Any:
    """Arrays of the host, equal in all processes, as arguments of a program on the whole mesh.

    Each process puts only the part on its devices that belongs there: of an array that can be
    indexed but is none of JAX's, nothing else is read."""
    if mesh is None or not several():
        return tree
    sharding = NamedSharding(mesh, PartitionSpec() if layout is None else layout)

    def put(leaf: Any) -> Array:
        whole = leaf if hasattr(leaf, "shape") and not isinstance(leaf, Array) else np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])

    return jax.tree.map(put, tree)


def hand_out(
    make: Callable[[], np.ndarray | Planes],
    shape: tuple[int, ...],
    mesh: Mesh,
    layout: PartitionSpec,
) -> Array:
    """The array that `make` gives (uint8), on the devices of a mesh. The first process alone makes
    it and sends block after block. None ever holds more in memory than its own and the one that
    travels, nor does the first if it makes planes.

    Raises in every process what `make` raises in the first, as `first_does` does."""
    whole = first_does(make)
    sharding = NamedSharding(mesh, layout)
    kept = []
    for device, part in sharding.devices_indices_map(shape).items():
        extents = [len(range(*axis.indices(n))) for axis, n in zip(part, shape, strict=True)]
        block = np.zeros(extents, np.uint8) if whole is None else whole[part]
        block = multihost_utils.broadcast_one_to_all(np.ascontiguousarray(block))
        if device.process_index == jax.process_index():
            kept.append(jax.device_put(np.asarray(block), device))
    return jax.make_array_from_single_device_arrays(shape, sharding, kept)


def on_host(arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Host copies of whole arrays, in every process."""
    if not several():
        return jax.device_get(dict(arrays))
    return {
        name: np.asarray(array)
        if array.is_fully_replicated
        else np.asarray(multihost_utils.process_allgather(array, tiled=True))
        for name, array in arrays.items()
    }


def own_part(arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Host copies of what this process holds of arrays: its block, or all of one that is the same
    everywhere. Nothing travels."""
    return {name: _own(array) for name, array in arrays.items()}


def _own(array: Array) -> np.ndarray:
    if array.is_fully_replicated:
        return np.array(array)
    first = first_own(array)
    held = [_begins(shard) for shard in array.addressable_shards]
    size = np.max(np.array(held) + array.addressable_shards[0].data.shape, axis=0) - first
    whole = np.empty(size, array.dtype)
    for begin, shard in zip(held, array.addressable_shards, strict=True):
        place = np.array(begin) - first
        ends = place + shard.data.shape
        whole[tuple(map(slice, place, ends))] = np.asarray(shard.data)
    return whole


def _begins(shard) -> tuple[int, ...]:
    return tuple(part.start or 0 for part in shard.index)


def first_own(array: Array) -> tuple[int, ...]:
    """Where the block of this process begins along each axis of an array. (`devices.mesh_of` sees
    to it that the devices of a process hold a block.)"""
    return tuple(map(min, zip(*map(_begins, array.addressable_shards), strict=True)))


def agreed(*values: int) -> tuple[int, ...]:
    """The first process's values, in every process."""
    if not several():
        return values
    told = multihost_utils.broadcast_one_to_all(np.array(values, np.int32))
    return tuple(int(v) for v in np.asarray(told))


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if not several():
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array([flag]))))


def first_does(action: Callable[[], Result]) -> Result | None:
    """Let the first process alone do something that can be refused; None in the others.

    Raises in every process what it raises in the first, or InputError in the others."""
    if not several():
        return action()
    result, problem = None, None
    if is_first():
        try:
            result = action()
        except OsteolatticeError as error:
            problem = error
    if agreed(int(problem is not None)) != (0,):
        raise problem or InputError("the first process has refused to go on; it says why")
    return result
