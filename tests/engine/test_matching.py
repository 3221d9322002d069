"""Neighbours and partners by shifts, against lists of indices."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from lattice.engine.matching import Matching, beside, rows_of, sum_beside
from lattice.engine.region import Region, touching

REGIONS = [
    Region((4, 3, 5), (False, False, False)),
    Region((4, 6, 2), (True, True, True)),
    Region((1, 4, 5), (True, True, False)),
    Region((2, 1, 1), (False, False, False)),
]


def neighbour(region: Region, values: np.ndarray, axis: int, direction: int) -> np.ndarray:
    """By the indices that the sampled reading works on; 0 where there is none."""
    index = jnp.arange(region.size)
    target, exists = region.neighbour(index, region.coordinates(index)[axis], axis, direction)
    return np.where(exists, values.reshape(-1)[target], 0).reshape(region.shape)


def some(region: Region) -> np.ndarray:
    return 1.0 + np.arange(region.size, dtype=np.float32).reshape(region.shape)


@pytest.mark.parametrize("region", REGIONS)
def test_neighbours(region):
    values = some(region)
    for axis in range(3):
        for way in (-1, 1):
            found = beside(jnp.asarray(values), region, axis, way)
            np.testing.assert_array_equal(found, neighbour(region, values, axis, way))
    targets, exist = touching(jnp.arange(region.size), region)
    expected = np.where(exist, values.reshape(-1)[targets], 0).sum(axis=0)
    found = np.asarray(sum_beside(jnp.asarray(values), region)).reshape(-1)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("region", REGIONS)
def test_partners(region):
    values = some(region)
    for code in range(6):
        axis, parity = divmod(code, 2)
        matching = Matching(region, jnp.int32(code))
        place = np.indices(region.shape)[axis]
        lower = (place + parity) % 2 == 0
        np.testing.assert_array_equal(matching.lower, lower)
        ways = [neighbour(region, values, axis, way) for way in (1, -1)]
        expected = np.where(lower, *ways)
        np.testing.assert_array_equal(matching.partner(jnp.asarray(values)), expected)
        stacked = jnp.stack([jnp.asarray(values), -jnp.asarray(values)])
        both = rows_of(matching.partner(stacked))
        np.testing.assert_array_equal(both[1], -both[0])
