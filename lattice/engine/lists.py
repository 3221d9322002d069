"""Lists of voxels: which ones are in some states, and work on their entries, part by part.

Lists have a fixed capacity; a longer list is worked off in batches, so the capacity has an
influence on speed only.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt8

from lattice.kernels.compaction import compact

PARTS = 8
"""Parts of a list that are worked off one by one."""


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

    `work` sees a part of a list at once, and no part beyond the last entry: a list takes the time
    of the entries that it has, not of those for which it has room."""
    size = mask.shape[0]
    if capacity >= size:
        every = jnp.arange(size, dtype=jnp.int32)
        return work(jnp.where(mask, every, size), carry)
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


def room_after_thinning(length: int) -> int:
    """Room for the entries of a part of a list that remain after thinning."""
    return max(64, length // 2)


def taking(work, *columns):
    """`work` on some rows of a table: takes positions, passes the rows' entries."""

    def rows(position, carry):
        size = columns[0].shape[0]
        at = jnp.minimum(position, size - 1)
        first, *rest = (column[at] for column in columns)
        # Padding of the list of positions becomes padding of the list of voxels.
        first = jnp.where(position < size, first, np.iinfo(np.int32).max)
        return work((first, *rest), carry)

    return rows
