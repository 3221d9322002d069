"""The ring of four voxels of `tests.laws.exact_ring` as a seeded model, and its derivatives."""

from __future__ import annotations

from itertools import product

import numpy as np

from tests.conftest import small_model
from tests.laws.exact_ring import SITES, STATES, mean_counts, pair_matrix, site_matrix, step
from tests.laws.test_readings import EMPTY, HUNTER, PREY, RING

DT, STEPS = 0.2, 40
RULES = ("breed", "walk", "eat", "fight", "starve", "tame")
THETA = {
    "rule.breed.rate": 6.0,
    "rule.walk.rate": 1.2,
    "rule.eat.rate": 0.8,
    "rule.fight.rate": 0.3,
    "rule.starve.rate": 0.4,
    "rule.tame.rate": 0.1,
    "state.prey.seeding.fraction": 0.3,
}
HUNTERS = 0.4


def ring_model():
    """Prey and hunters on a periodic ring, seeded at random."""
    text = RING.replace('name = "prey"\n', f'name = "prey"\n{_seeding(0.3)}\n', 1)
    text = text.replace('name = "hunter"\n', f'name = "hunter"\n{_seeding(HUNTERS)}\n', 1)
    return small_model(text, shape=(SITES, 1, 1), boundary="periodic", step="12 min", until="8 h")


def _seeding(fraction: float) -> str:
    return f'seeding = {{ where = "marrow", fraction = {fraction} }}'


def exact_counts(theta: dict[str, float]) -> np.ndarray:
    """[prey, hunter] mean numbers after 40 steps, by enumeration without any code of the engine."""
    rate = {name: theta[f"rule.{name}.rate"] for name in RULES}
    pairs = [
        (PREY, EMPTY, PREY, PREY, rate["breed"] / 6),
        (HUNTER, EMPTY, EMPTY, HUNTER, rate["walk"]),
        (HUNTER, PREY, HUNTER, HUNTER, rate["eat"]),
        (HUNTER, HUNTER, HUNTER, EMPTY, rate["fight"]),
    ]
    sites = [(HUNTER, EMPTY, rate["starve"]), (HUNTER, PREY, rate["tame"])]
    prey = theta["state.prey.seeding.fraction"]
    chance = np.zeros(STATES)
    chance[[EMPTY, HUNTER, PREY]] = 1 - HUNTERS - prey, HUNTERS, prey
    p = np.zeros((STATES,) * SITES)
    for codes in product(range(STATES), repeat=SITES):
        p[codes] = np.prod(chance[list(codes)])
    contact, site = pair_matrix(pairs, DT), site_matrix(sites, DT)
    for _ in range(STEPS):
        p = step(p, contact, site)
    return mean_counts(p)[[PREY, HUNTER]]


def exact_difference(name: str, h: float) -> np.ndarray:
    """d counts / d number from the central difference over +-h in its logarithm."""
    above, below = (exact_counts({**THETA, name: THETA[name] * np.exp(s * h)}) for s in (1, -1))
    return (above - below) / (2 * h * THETA[name])
