"""Lists of voxels: which ones are in some states, and work on their entries, part by part.

Lists have a fixed capacity; a longer list is worked off in batches, so the capacity has an
influence on speed only.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt8, UInt32

from lattice.kernels.backend import on_cpu
from lattice.kernels.compaction import compact

PARTS = 8
"""Parts of a list that a CPU works off one by one."""

DENSE = 1 << 18
"""Up to so many voxels a GPU looks at all of them: faster than making a list."""


def in_states(cells: UInt8[Array, "*V"], codes: tuple[int, ...]) -> Bool[Array, "*V"]:
    """Whether each cell is in one of some states: a bit per code, tested without a gather."""
    words = np.zeros(8, np.uint32)
    for code in codes:
        words[code // 32] |= np.uint32(1) << np.uint32(code % 32)
    wide = cells.astype(jnp.uint32)
    found = jnp.zeros(cells.shape, bool)
    for k, word in enumerate(words):
        if word:
            bit = (jnp.uint32(word) >> (wide & 31)) & 1
            found = found | ((bit != 0) & (wide >> 5 == k))
    return found


def in_batches(
    mask: Bool[Array, "V"],
    capacity: int,
    work: Callable[[Int32[Array, "N"], tuple], tuple],
    carry: tuple,
) -> tuple:
    """``carry = work(indices, carry)`` over the true entries of a mask, `capacity` at a time.

    `work` passes over indices beyond the last voxel, which fill up what it sees at once."""
    size = mask.shape[0]
    if capacity >= size or (size <= DENSE and not on_cpu()):
        return work(jnp.where(mask, jnp.arange(size, dtype=jnp.int32), size), carry)
    if on_cpu():
        return _in_parts(mask, capacity, work, carry)

    # A GPU does a list at once: rows in vain take less time than a loop over parts. The first batch
    # stands before the loop, since the host has to ask before each round of a loop.
    def batch(last, carry):
        index, count = compact(mask & (jnp.arange(size, dtype=jnp.int32) > last), capacity)
        return index[-1], count > capacity, work(index, carry)

    start = batch(jnp.int32(-1), carry)
    return jax.lax.while_loop(lambda s: s[1], lambda s: batch(s[0], s[2]), start)[2]


def _in_parts(mask, capacity: int, work, carry: tuple) -> tuple:
    """As `in_batches`; `work` sees a part of a list at once, and no part beyond the last entry: a
    list takes the time of the entries that it has, not of those for which it has room."""
    size = mask.shape[0]
    length = -(-capacity // PARTS)
    capacity = PARTS * length

    def batch(state):
        mask, carry, _ = state
        index, count = compact(mask, capacity)
        more = count > capacity
        listed = jnp.minimum(count, capacity)

        def part(state):
            start, carry = state
            taken = jax.lax.dynamic_slice(index, (start,), (length,))
            return start + length, work(taken, carry)

        rest = jax.lax.cond(
            more,
            lambda m: m & (jnp.arange(size, dtype=jnp.int32) > index[-1]),
            lambda m: m,
            mask,
        )
        carry = jax.lax.while_loop(lambda s: s[0] < listed, part, (jnp.int32(0), carry))[1]
        return rest, carry, more

    return jax.lax.while_loop(lambda s: s[2], batch, (mask, carry, jnp.any(mask)))[1]


def thinned(
    may: Bool[Array, "N"],
    work: Callable[[tuple, tuple], tuple],
    columns: tuple[Array, ...],
    carry: tuple,
) -> tuple:
    """``carry = work(rows, carry)`` over the rows of a table in which something may happen. The
    first column is a list of voxels, which is filled up as in `in_batches`."""
    if on_cpu():
        return in_batches(may, max(64, may.shape[0] // 2), _taking(work, *columns), carry)
    # Rows that are passed over read one place, which costs next to nothing.
    first, *rest = (jnp.where(may, column, jnp.zeros((), column.dtype)) for column in columns)
    return work((jnp.where(may, first, np.iinfo(np.int32).max), *rest), carry)


def _taking(work, *columns):
    """`work` on some rows of a table: takes positions, passes the rows' entries."""

    def rows(position, carry):
        size = columns[0].shape[0]
        at = jnp.minimum(position, size - 1)
        first, *rest = (column[at] for column in columns)
        # Padding of the list of positions becomes padding of the list of voxels.
        first = jnp.where(position < size, first, np.iinfo(np.int32).max)
        return work((first, *rest), carry)

    return rows


def places(happens: Bool[Array, "N"], target: Int32[Array, "N"], size: int) -> UInt32[Array, "N"]:
    """Where to write what happens, the rest in places of their own beyond the end: no two writes
    meet, so their order is left to the device (`unique_indices`). Unsigned: twice a lattice of
    2**30 voxels is no negative index."""
    beyond = jnp.uint32(size) + jnp.arange(target.shape[0], dtype=jnp.uint32)
    return jnp.where(happens, target.astype(jnp.uint32), beyond)


def written(array: Array, where: UInt32[Array, "N"], values: Array) -> Array:
    """The array with values written to `places`; an index beyond its end writes nothing."""
    return array.at[where].set(values, mode="drop", unique_indices=True)
