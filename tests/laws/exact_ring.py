"""An independent oracle: exact enumeration of a ring of four voxels with three states.

Written from the definition of the rules alone (numpy, no engine code): the distribution over all
3^4 configurations, stepped by the two matchings of the ring in either order with equal
probability, then by the site rules of each voxel.
"""

from __future__ import annotations

from itertools import product

import numpy as np

SITES, STATES = 4, 3
BONDS = (((0, 1), (2, 3)), ((1, 2), (3, 0)))  # parity 0 and 1 of a periodic ring


def competing(rates: list[float], dt: float) -> list[float]:
    """Probability that each of some competing rules fires within a step."""
    total = sum(rates)
    return [r / total * -np.expm1(-total * dt) if total > 0 else 0.0 for r in rates]


def pair_matrix(pair_rules, dt: float) -> np.ndarray:
    """[9, 9] probabilities of (a, b) -> (a', b') on one bond. `pair_rules`: (a, b, c, d, rate)."""
    matrix = np.zeros((STATES**2, STATES**2))
    for a, b in product(range(STATES), repeat=2):
        ways = []
        for x, y, c, d, rate in pair_rules:
            # Two alike can take either part: each orientation has half of the rate.
            share = rate / 2 if x == y else rate
            if (x, y) == (a, b):
                ways.append((c, d, share))
            if (y, x) == (a, b):
                ways.append((d, c, share))
        chances = competing([w[2] for w in ways], dt)
        source = a * STATES + b
        matrix[source, source] += 1 - sum(chances)
        for (c, d, _), chance in zip(ways, chances, strict=True):
            matrix[source, c * STATES + d] += chance
    return matrix


def site_matrix(site_rules, dt: float) -> np.ndarray:
    """[3, 3] probabilities of a -> b in one voxel. `site_rules`: (a, b, rate)."""
    matrix = np.zeros((STATES, STATES))
    for a in range(STATES):
        ways = [(b, rate) for x, b, rate in site_rules if x == a]
        chances = competing([w[1] for w in ways], dt)
        matrix[a, a] += 1 - sum(chances)
        for (b, _), chance in zip(ways, chances, strict=True):
            matrix[a, b] += chance
    return matrix


def apply_bond(p: np.ndarray, bond: tuple[int, int], matrix: np.ndarray) -> np.ndarray:
    """The distribution (axes: voxels) after the draw of one bond."""
    moved = np.moveaxis(p, bond, (0, 1))
    shape = moved.shape
    after = matrix.T @ moved.reshape(STATES**2, -1)
    return np.moveaxis(after.reshape(shape), (0, 1), bond)


def step(p: np.ndarray, pairs: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """One step: both orders of the matchings equally likely, then the site rules."""
    mixed = np.zeros_like(p)
    for order in ((0, 1), (1, 0)):
        q = p
        for parity in order:
            for bond in BONDS[parity]:
                q = apply_bond(q, bond, pairs)
        mixed += q / 2
    for axis in range(SITES):
        mixed = np.moveaxis(np.tensordot(sites.T, mixed, axes=(1, axis)), 0, axis)
    return mixed


def distributions(start: tuple[int, ...], pair_rules, site_rules, dt: float, steps: int):
    """[steps, 3, 3, 3, 3] probability of every configuration after each step."""
    p = np.zeros((STATES,) * SITES)
    p[start] = 1
    pairs, sites = pair_matrix(pair_rules, dt), site_matrix(site_rules, dt)
    rows = []
    for _ in range(steps):
        p = step(p, pairs, sites)
        rows.append(p)
    return np.array(rows)


def mean_counts(p: np.ndarray) -> np.ndarray:
    """[STATES] mean number of voxels in each state."""
    marginals = [p.sum(axis=tuple(a for a in range(SITES) if a != k)) for k in range(SITES)]
    return np.sum(marginals, axis=0)
