"""The generator against published vectors, and a small battery on the streams as they are used.

The battery's seeds are fixed, so its verdict is too; each statistic has to lie within 4.5
standard deviations, or a p-value above 1e-5, which a good generator misses about once in 500
seeds. `benchmarks/random_battery.py` runs a full battery.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lattice.kernels.random_bits import (
    seed_words,
    stream_key,
    threefry2x32,
    uniform,
    voxel_bits,
    voxel_uniform,
)

# rounds, counter, key, output: the known answers published with Random123 (tests/kat_vectors).
KNOWN_ANSWERS = """
13 00000000 00000000 00000000 00000000 9d1c5ec6 8bd50731
13 ffffffff ffffffff ffffffff ffffffff fd36d048 2d17272c
13 243f6a88 85a308d3 13198a2e 03707344 ba3e4725 f27d669e
20 00000000 00000000 00000000 00000000 6b200159 99ba4efe
20 ffffffff ffffffff ffffffff ffffffff 1cb996fc bb002be7
20 243f6a88 85a308d3 13198a2e 03707344 c4923a9c 483df7a0
"""
SMALLEST_P = 1e-5


@pytest.mark.parametrize("line", KNOWN_ANSWERS.split("\n")[1:-1])
def test_known_answers(line):
    rounds, *words = line.split()
    c0, c1, k0, k1, *answer = (jnp.uint32(int(w, 16)) for w in words)
    assert threefry2x32((k0, k1), (c0, c1), int(rounds)) == tuple(answer)


def test_twenty_rounds_are_those_of_jax():
    from jax.extend.random import threefry_2x32

    key = (jnp.uint32(0xDEADBEEF), jnp.uint32(42))
    counter = jnp.arange(1000, dtype=jnp.uint32) * jnp.uint32(2654435761)
    mine = jnp.concatenate(threefry2x32(key, (counter[:500], counter[500:]), rounds=20))
    np.testing.assert_array_equal(mine, threefry_2x32(jnp.stack(key), counter))


def test_uniform_rounds_down_and_never_reaches_one():
    bits = np.array([0, 1, 2**24 - 1, 2**24 + 1, 2**31 + 255, 2**32 - 256, 2**32 - 1], np.uint64)
    bits = np.append(bits, np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint64))
    u = np.asarray(uniform(jnp.asarray(bits.astype(np.uint32)))).astype(np.float64)
    exact = bits / 2.0**32
    assert u.max() == 1 - 2.0**-24
    assert (u <= exact).all()
    assert (exact - u < np.maximum(exact, 2.0**-32) * 2.0**-23).all()
    assert (u[:3] == exact[:3]).all()


@pytest.mark.parametrize("p", [2.0**-32, 1e-7, 0.1, 0.5, 1.0])
def test_uniform_lies_below_p_for_the_exact_number_of_words(p):
    p = np.float32(p)
    edge = int(np.ceil(float(p) * 2**32))
    near = np.array([w for w in range(edge - 300, edge + 300) if 0 <= w < 2**32], np.uint32)
    below = np.asarray(uniform(jnp.asarray(near))) < p
    np.testing.assert_array_equal(below, near.astype(np.int64) < edge)


def test_seeds_and_names_give_distinct_keys_without_recompiling():
    key = jax.jit(stream_key, static_argnums=1)
    seeds = [0, 1, 2, 2**31, 2**32, 2**32 + 1, 2**62, 2**63 - 1]
    names = ["a", "b", "rule.engulf", "rule.engulf "]
    keys = {tuple(map(int, key(seed_words(s), n))) for s in seeds for n in names}
    assert len(keys) == len(seeds) * len(names)
    assert key._cache_size() == len(names)
    assert tuple(map(int, stream_key(2**63 - 1, "a"))) == tuple(
        map(int, key(seed_words(2**63 - 1), "a"))
    )


def test_the_key_of_a_name_is_the_same_in_every_version():
    assert tuple(map(int, stream_key(2026, "rule.engulf"))) == (3351711255, 3669521449)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_64_bits_is_refused(seed):
    with pytest.raises(ValueError, match="between 0 and"):
        seed_words(seed)


def test_a_voxel_draws_the_same_number_wherever_it_is_computed():
    key = stream_key(5, "move")
    whole = voxel_uniform(key, jnp.arange(1000, dtype=jnp.uint32), 7, 3)
    part = voxel_uniform(key, jnp.array([999, 12, 500], jnp.uint32), jnp.int32(7), jnp.int32(3))
    np.testing.assert_array_equal(part, whole[jnp.array([999, 12, 500])])


# The battery: each stream is a long run of words in an order in which the simulator could draw.
LENGTH = 1 << 20


@functools.cache
def words(order: str) -> np.ndarray:
    """`LENGTH` first words, successive ones differing in `order` alone."""
    n = jnp.arange(LENGTH, dtype=jnp.uint32)
    if order == "voxel":
        return np.asarray(voxel_bits(stream_key(1, "s"), n, 3, 2)[0])
    if order == "step":
        return np.asarray(
            jax.vmap(lambda t: voxel_bits(stream_key(1, "s"), jnp.uint32(77), t, 2)[0])(n)
        )
    if order == "substep":
        draw = jax.vmap(lambda t: voxel_bits(stream_key(1, "s"), jnp.uint32(77), 3, t)[0])
        return np.asarray(draw(n))
    if order == "seed":
        draw = jax.vmap(lambda s: voxel_bits(stream_key(s, "s"), jnp.uint32(77), 3, 2)[0])
        return np.asarray(draw(jnp.stack([n, jnp.zeros_like(n)], axis=1)))
    if order == "stream":
        voxels = n[: LENGTH // 64]
        draws = [voxel_bits(stream_key(1, f"rule.{i}"), voxels, 3, 2)[0] for i in range(64)]
        return np.stack([np.asarray(d) for d in draws], axis=1).ravel()
    low, high = voxel_bits(stream_key(1, "s"), n[: LENGTH // 2], 3, 2)
    return np.stack([low, high], axis=1).ravel()


ORDERS = ["voxel", "step", "substep", "seed", "stream", "both words"]
in_every_order = pytest.mark.parametrize("order", ORDERS)


def fractions(order: str) -> np.ndarray:
    return words(order) / 2.0**32


@in_every_order
def test_every_bit_is_set_half_of_the_time(order):
    bits = words(order)[:, None] >> np.arange(32, dtype=np.uint32) & 1
    assert np.abs((bits.mean(axis=0) - 0.5) * 2 * np.sqrt(LENGTH)).max() < 4.5


@in_every_order
def test_bytes_are_equally_frequent(order):
    for byte in words(order).view(np.uint8).reshape(-1, 4).T:
        assert stats.chisquare(np.bincount(byte, minlength=256)).pvalue > SMALLEST_P


@in_every_order
@pytest.mark.parametrize("lag", [1, 2, 3, 64, 128, 4096])
def test_neighbours_are_uncorrelated(order, lag):
    u = fractions(order) - 0.5
    assert abs(12 * np.mean(u[:-lag] * u[lag:]) * np.sqrt(LENGTH - lag)) < 4.5


@in_every_order
def test_bits_of_neighbours_differ_half_of_the_time(order):
    difference = words(order)[1:] ^ words(order)[:-1]
    counts = np.bincount(np.bitwise_count(difference), minlength=33)
    expected = stats.binom.pmf(np.arange(33), 32, 0.5) * (LENGTH - 1)
    middle = slice(6, 27)
    observed = np.append(counts[middle], counts[:6].sum() + counts[27:].sum())
    expected = np.append(expected[middle], expected[:6].sum() + expected[27:].sum())
    assert stats.chisquare(observed, expected).pvalue > SMALLEST_P


@in_every_order
def test_pairs_fill_the_square(order):
    u = (words(order) >> 26).astype(int)
    cells = np.bincount(u[0::2] * 64 + u[1::2], minlength=64 * 64)
    assert stats.chisquare(cells).pvalue > SMALLEST_P


@in_every_order
def test_runs_about_the_median(order):
    above = fractions(order) >= 0.5
    runs = 1 + np.count_nonzero(above[1:] != above[:-1])
    assert abs(runs - (LENGTH + 1) / 2) / np.sqrt((LENGTH - 1) / 4) < 4.5


@in_every_order
@pytest.mark.parametrize("p", [0.03, 0.25])
def test_gaps_between_events_are_geometric(order, p):
    gaps = np.diff(np.flatnonzero(fractions(order) < p)) - 1
    longest = int(np.log(20 / len(gaps)) / np.log1p(-p))
    counts = np.bincount(np.minimum(gaps, longest), minlength=longest + 1)
    chance = p * (1 - p) ** np.arange(longest + 1)
    chance[-1] = (1 - p) ** longest
    assert stats.chisquare(counts, chance * len(gaps)).pvalue > SMALLEST_P


@in_every_order
def test_birthday_spacings(order):
    """Marsaglia's test: repeated spacings of 512 birthdays in a year of 2**24 days, mean 2."""
    days = np.sort((words(order) >> 8).reshape(-1, 512).astype(np.int64), axis=1)
    spacings = np.sort(np.diff(days, axis=1, prepend=0), axis=1)
    repeated = 512 - (1 + np.count_nonzero(np.diff(spacings, axis=1), axis=1))
    counts = np.bincount(np.minimum(repeated, 8), minlength=9)
    chance = stats.poisson.pmf(np.arange(9), 2.0)
    chance[-1] = stats.poisson.sf(7, 2.0)
    assert stats.chisquare(counts, chance * len(days)).pvalue > SMALLEST_P
