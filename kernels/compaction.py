"""Compaction: the indices of the true entries of a mask, in ascending order.

Work on sparse cells starts from such a list. Bits are packed into words of 32, counted by
popcount and summed into prefixes; each output slot then finds its own word and its bit within the
word. No two writes meet, so the result does not depend on their order on any backend.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from lattice.kernels.fusion import boundary

__all__ = ["compact", "pack_bits", "select_bit"]


def pack_bits(mask: Bool[Array, "N"]) -> UInt32[Array, "W"]:
    """Pack a mask into ceil(N / 32) words; entry i is bit i % 32 of word i // 32."""
    mask = jnp.pad(mask, (0, -mask.shape[0] % 32))
    quads = lax.bitcast_convert_type(mask.astype(jnp.uint8).reshape(-1, 4), jnp.uint32)
    # The multiplication brings the lowest bits of the four bytes together in bits 24 to 27.
    nibbles = (quads * np.uint32(0x01020408)) >> 24 & np.uint32(15)
    places = jnp.arange(0, 32, 4, dtype=jnp.uint32)
    return jnp.sum(nibbles.reshape(-1, 8) << places, axis=1, dtype=jnp.uint32)


def select_bit(word: UInt32[Array, "..."], rank: Int32[Array, "..."]) -> Int32[Array, "..."]:
    """The place of the set bit of `word` that has `rank` set bits below it.

    Defined for 0 <= rank < popcount(word). By bisection: is it in the lower half?
    """
    place = jnp.zeros_like(rank)
    for half in (16, 8, 4, 2, 1):
        below = lax.population_count(word & np.uint32((1 << half) - 1)).astype(jnp.int32)
        upper = rank >= below
        rank = jnp.where(upper, rank - below, rank)
        word = jnp.where(upper, word >> half, word)
        place = place + jnp.where(upper, half, 0)
    return place


def compact(mask: Bool[Array, "N"], capacity: int) -> tuple[Int32[Array, "C"], Int32[Array, ""]]:
    """The ascending indices of the true entries of `mask`, and how many there are.

    Slots that no true entry claims hold N. When the count exceeds `capacity` (static, at least
    1) the first `capacity` indices are returned: valid, but not all of them. N is below 2**31.
    """
    words = pack_bits(mask)
    counts = lax.population_count(words).astype(jnp.int32)
    through = jnp.cumsum(counts)
    before, total = through - counts, through[-1]
    # Each word that is not empty is written to the slot of its first bit and carried forward from
    # there; the others go to places of their own beyond the end, where writes are dropped.
    number = jnp.arange(words.shape[0], dtype=jnp.int32)
    first = jnp.where((counts > 0) & (before < capacity), before, capacity + number)
    starts = jnp.zeros(capacity, jnp.int32)
    starts = starts.at[first].set(number, mode="drop", unique_indices=True)
    slot = jnp.arange(capacity, dtype=jnp.int32)

    def bits(word):
        index = 32 * word + select_bit(words[word], slot - before[word])
        return jnp.where(slot < total, index, mask.shape[0])

    # Units of their own: fused into the readers of the list, they would be computed anew in each.
    true = total >= 0
    return boundary(true, bits, boundary(true, last_of_word, starts)), total


def last_of_word(starts: Int32[Array, "C"]) -> Int32[Array, "C"]:
    """The largest of each entry and the 31 before it: a word claims no more than 32 slots."""
    for distance in (1, 2, 4, 8, 16):
        starts = jnp.maximum(starts, jnp.pad(starts, (distance, 0))[: starts.shape[0]])
    return starts
