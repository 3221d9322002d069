"""Counter-based random bits: Threefry-2x32 (Salmon et al. 2011, doi:10.1145/2063384.2063405).

A random number is a pure function of (seed, name of its stream, step, sub-step, voxel), so it
depends neither on the number of devices nor on the order in which voxels are visited.
"""

import hashlib

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, Integer, UInt32

__all__ = [
    "Counter",
    "Key",
    "seed_words",
    "stream_key",
    "threefry2x32",
    "uniform",
    "voxel_bits",
    "voxel_uniform",
]

Word = UInt32[Array, "..."] | UInt32[np.ndarray, "..."] | np.uint32
Key = tuple[Word, Word]
"""64 bits as two uint32, the low word first."""

Counter = Integer[Array, ""] | np.integer | int
"""A scalar in [0, 2**32)."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def _rotate_left(x: Word, bits: int) -> Word:
    return (x << np.uint32(bits)) | (x >> np.uint32(32 - bits))


def threefry2x32(key: Key, counter: Key, rounds: int = 13) -> Key:
    """Encrypt a 64-bit counter under a 64-bit key; elementwise, shapes broadcast.

    Section 3.2 of Salmon et al.; 13 rounds are the fewest that pass BigCrush, 20 the default of
    Random123 and what `jax.random` uses. For one key, distinct counters give distinct outputs.
    """
    schedule = (key[0], key[1], _PARITY ^ key[0] ^ key[1])
    a, b = counter[0] + schedule[0], counter[1] + schedule[1]
    for i in range(rounds):
        a = a + b
        b = _rotate_left(b, _ROTATIONS[i // 4 % 2][i % 4]) ^ a
        if i % 4 == 3:
            j = i // 4 + 1
            a = a + schedule[j % 3]
            b = b + (schedule[(j + 1) % 3] + np.uint32(j))
    return a, b


def seed_words(seed: int) -> UInt32[np.ndarray, "2"]:
    """The two words, low one first, of a seed in [0, 2**64).

    Hand them to a compiled function as an argument: a new seed then needs no compilation.
    Raises ValueError outside that range.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"a seed lies between 0 and 2**64 - 1, not {seed}")
    return np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)


def stream_key(seed: int | UInt32[Array, "2"] | UInt32[np.ndarray, "2"], name: str) -> Key:
    """The key of one named stream: a different one for every seed in [0, 2**64).

    The name is hashed (BLAKE2b) when the function is traced; the seed, as `seed_words`, may be
    traced. Streams are told apart by name alone, never by their position in a table.
    """
    words = jnp.asarray(seed_words(seed) if isinstance(seed, int) else seed)
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    low, high = np.frombuffer(digest, "<u4")
    return threefry2x32((jnp.uint32(low), jnp.uint32(high)), (words[0], words[1]), rounds=20)


def uniform(bits: Word) -> Float32[Array, "..."]:
    """bits * 2**-32 rounded down, in [0, 1): resolution 2**-32 at zero, 2**-24 below one.

    Rounding down makes ``uniform(bits) < p`` hold for ceil(p * 2**32) of the 2**32 words, for
    every float32 p in [0, 1]; rounding to nearest would return 1 and favour larger numbers.
    """
    # bits >> 24 has its leading one at the place of the first bit that float32 cannot hold;
    # without that bit the conversion cannot round up.
    return jnp.asarray(bits & ~(bits >> np.uint32(24)), jnp.float32) * np.float32(2.0**-32)


def voxel_bits(key: Key, index: UInt32[Array, "..."], step: Counter, substep: Counter) -> Key:
    """64 random bits per voxel for one sub-step of one step of the stream `key`.

    `index` is the global index of the voxel; `step` and `substep` may be traced.
    The sub-step goes into the key, the voxel and the step fill the counter, so within a stream
    and sub-step no counter occurs twice.
    """
    substep_key = threefry2x32(key, (_word(substep), jnp.uint32(0)), rounds=20)
    return threefry2x32(substep_key, (index, _word(step)))


def voxel_uniform(
    key: Key, index: UInt32[Array, "..."], step: Counter, substep: Counter
) -> Float32[Array, "..."]:
    """One number in [0, 1) per voxel, from the first word of `voxel_bits`."""
    return uniform(voxel_bits(key, index, step, substep)[0])


def _word(x: Counter) -> UInt32[Array, ""]:
    return jnp.asarray(x, jnp.uint32)
