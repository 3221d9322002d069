"""Laws 4 and 6, A2, A3, A7, A8: the sampled and the mean-field reading of one rule table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import chi2

from lattice.engine import mean_field
from lattice.engine.devices import region_of
from lattice.engine.interventions import due_steps
from lattice.engine.numbers import numbers_of
from lattice.engine.plan import plan_of
from lattice.engine.simulation import Simulation
from lattice.engine.step import advance
from lattice.kernels.random_bits import seed_words
from lattice.model.errors import InputError
from tests.conftest import TISSUE, slab_of_bone, small_model
from tests.laws.exact_ring import distributions, mean_counts

RING = """
[[state]]
name = "prey"
[[state]]
name = "hunter"
[[rule]]
name = "breed"
divide = "prey"
rate = "6 /h"
[[rule]]
name = "walk"
from = ["hunter", "empty"]
to = ["empty", "hunter"]
rate = "1.2 /h"
[[rule]]
name = "eat"
from = ["hunter", "prey"]
to = ["hunter", "hunter"]
rate = "0.8 /h"
[[rule]]
name = "fight"
from = ["hunter", "hunter"]
to = ["hunter", "empty"]
rate = "0.3 /h"
[[rule]]
name = "starve"
from = "hunter"
to = "empty"
rate = "0.4 /h"
[[rule]]
name = "tame"
from = "hunter"
to = "prey"
rate = "0.1 /h"
"""
STEPS = 40
EMPTY, HUNTER, PREY = range(3)
START = (PREY, HUNTER, HUNTER, EMPTY)
SAMPLES = 100_000
RATES = {"breed": 1.0, "walk": 1.2, "eat": 0.8, "fight": 0.3}  # of one contact


def exact_ring(**changed: float) -> np.ndarray:
    """Probabilities of all configurations of the ring after each step, by enumeration."""
    rate = {**RATES, **changed}
    pairs = [
        (PREY, EMPTY, PREY, PREY, rate["breed"]),
        (HUNTER, EMPTY, EMPTY, HUNTER, rate["walk"]),
        (HUNTER, PREY, HUNTER, HUNTER, rate["eat"]),
        (HUNTER, HUNTER, HUNTER, EMPTY, rate["fight"]),
    ]
    sites = [(HUNTER, EMPTY, 0.4), (HUNTER, PREY, 0.1)]
    return distributions(START, pairs, sites, 0.2, STEPS)


@pytest.fixture(scope="module")
def sampled_ring():
    """Configurations [samples, 4] of many rings after some steps, as (samples, steps, seed)."""
    model = small_model(RING, shape=(4, 1, 1), boundary="periodic", step="12 min", until="8 h")
    region = region_of(model)
    plan, numbers = plan_of(model, region, region.size), numbers_of(model)
    assert model.state_codes() == {"empty": EMPTY, "hunter": HUNTER, "prey": PREY}
    single = Simulation(model, 0).state
    single["cells"] = jnp.asarray(START, jnp.uint8).reshape(1, 1, 4)
    due = jnp.zeros((STEPS, 0), bool)

    def final(words, steps):
        state = {**single, "seed": words}
        return advance(plan, numbers, state, due, steps)[0]["cells"].reshape(4)

    many = jax.jit(jax.vmap(final, in_axes=(0, None)))

    def sample(samples: int, steps: int, seed: int) -> np.ndarray:
        words = np.stack([seed_words(seed + k) for k in range(samples)])
        return np.asarray(many(jnp.asarray(words), jnp.int32(steps)))

    return sample


def check_against_enumeration(cells: np.ndarray, exact: np.ndarray) -> None:
    """Means within 4 standard errors; all frequencies by Pearson's chi-square."""
    samples = len(cells)
    counts = np.stack([(cells == code).sum(axis=1) for code in range(3)], axis=1)
    error = counts.std(axis=0) / np.sqrt(samples)
    difference = counts.mean(axis=0) - mean_counts(exact)
    assert np.all(np.abs(difference) <= 4 * error + 1e-9), difference / error
    seen = np.bincount(np.ravel_multi_index(tuple(cells.T), (3,) * 4), minlength=81)
    # Configurations that are expected less than five times count as one.
    expected = samples * exact.ravel()
    rare = expected < 5
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    kept = expected > 1e-9
    assert not seen[~kept].any(), "a configuration that cannot occur"
    statistic = np.sum((seen[kept] - expected[kept]) ** 2 / expected[kept])
    assert chi2.sf(statistic, kept.sum() - 1) > 1e-4


@pytest.mark.parametrize("steps", [1, 2, 5, STEPS])
def test_sampled_ring_follows_the_enumeration(sampled_ring, steps):
    check_against_enumeration(sampled_ring(SAMPLES // 5, steps, 100), exact_ring()[steps - 1])


@pytest.mark.full
@pytest.mark.parametrize("steps", [1, 2, 5, STEPS])
def test_sampled_ring_follows_the_enumeration_at_full_size(sampled_ring, steps):
    check_against_enumeration(sampled_ring(SAMPLES, steps, 7_000_000), exact_ring()[steps - 1])


@pytest.mark.parametrize("rule", RATES)
def test_enumeration_tells_a_wrong_rate(rule):
    # What chi-square gains at full size from a rate that is off by a fifth, against its spread.
    right, wrong = exact_ring(), exact_ring(**{rule: 1.2 * RATES[rule]})
    possible = right > 5 / SAMPLES
    terms = np.where(possible, (wrong - right) ** 2 / np.where(possible, right, 1), 0)
    gain = SAMPLES * terms.sum(axis=(1, 2, 3, 4))
    freedom = possible.sum(axis=(1, 2, 3, 4)) - 1
    tested = [0, 1, 4, STEPS - 1]
    assert np.max(gain[tested] / np.sqrt(2 * freedom[tested])) > 6
    # The means alone tell it too, unless the rule only moves a cell.
    means = [np.array([mean_counts(p) for p in each]) for each in (right, wrong)]
    assert rule == "walk" or np.max(np.abs(means[1] - means[0])) > 4 * 0.9 / np.sqrt(SAMPLES)


CHAIN = """
[[cytokine]]
name = "signal"
diffusion = "0 um^2/s"
half_life = "1e9 h"
initial = "2 ng/mL"
[[state]]
name = "a"
seeding = { where = "marrow", fraction = 0.5 }
[[state]]
name = "b"
seeding = { where = "marrow", fraction = 0.2 }
[[state]]
name = "c"
[[rule]]
name = "ab"
from = "a"
to = "b"
rate = "0.3 /h"
when = [ { signal = "signal", effect = "increases", half = "1 ng/mL", power = 2 } ]
[[rule]]
name = "ac"
from = "a"
to = "c"
rate = "0.1 /h"
[[rule]]
name = "ba"
from = "b"
to = "a"
rate = "0.2 /h"
when = [ { signal = "signal", effect = "decreases", half = "1 ng/mL", floor = 0.1 } ]
[[rule]]
name = "ce"
from = "c"
to = "empty"
rate = "0.15 /h"
[[rule]]
name = "ea"
from = "empty"
to = "a"
rate = "0.05 /h"
"""


def chain_generator(model) -> np.ndarray:
    codes = model.state_codes()
    q = np.zeros((4, 4))
    for source, target, rate in (
        ("a", "b", 0.3 * 4 / 5),
        ("a", "c", 0.1),
        ("b", "a", 0.2 * (0.1 + 0.9 * (1 - 2 / 3))),
        ("c", "empty", 0.15),
        ("empty", "a", 0.05),
    ):
        q[codes[source], codes[target]] += rate
    return q - np.diag(q.sum(axis=1))


def test_without_pairs_the_ensemble_follows_the_matrix_exponential():
    model = small_model(CHAIN, shape=(60, 50, 40), step="30 s", until="4 h")
    simulation = Simulation(model, 21)
    start = np.bincount(np.array(simulation.state["cells"]).ravel(), minlength=4)
    simulation.advance(480)
    counts = np.bincount(simulation.host_state()["cells"].ravel(), minlength=4)
    transition = expm(chain_generator(model) * 4.0)
    expected = start @ transition
    variance = (start[:, None] * transition * (1 - transition)).sum(axis=0)
    assert np.all(np.abs(counts - expected) < 4 * np.sqrt(variance)), (counts, expected)
    assert np.all(np.abs(start - expected) > 20 * np.sqrt(variance))


def mean_run(model, bone, steps, seed=5):
    region, numbers = region_of(model), numbers_of(model)
    plan = plan_of(model, region, region.size)
    bone = None if bone is None else jnp.asarray(bone)
    state = mean_field.initial_mean(model, region, numbers, jnp.asarray(seed_words(seed)), bone)
    due = jnp.asarray(due_steps(model, 0, steps))
    after = jax.jit(lambda n, s, d: mean_field.advance(plan, n, s, d))(numbers, state, due)
    return state, after


def test_mean_field_is_the_ensemble_mean_where_it_must_be():
    model = small_model(CHAIN, shape=(40, 40, 20), step="15 min", until="4 h")
    _, after = mean_run(model, None, 16)
    expected = mean_field.counts(after)
    simulation = Simulation(model, 31)
    simulation.advance(16)
    counts = np.bincount(simulation.host_state()["cells"].ravel(), minlength=4)
    probability = expected / expected.sum()
    error = np.sqrt(expected.sum() * probability * (1 - probability))
    assert np.all(np.abs(counts - expected) < 4 * error), (counts, expected)


def without_ages(text: str) -> str:
    text = text.replace('after = "5 h"', 'rate = "0.2 /h"')
    start = text.index('[[rule.when]]\nsignal = "age"')
    return text[:start] + text[text.index("[[rule]]", start) :]


def test_mean_field_conserves_probability():
    model = small_model(without_ages(TISSUE))
    before, after = mean_run(model, slab_of_bone(model), 30)
    x = np.asarray(after["x"])
    np.testing.assert_allclose(x.sum(axis=0), 1, atol=1e-5)
    assert x.min() > -1e-6
    assert np.abs(mean_field.counts(after) - mean_field.counts(before)).max() > 5
    assert np.isfinite(np.asarray(after["cytokines"])).all()


def test_mean_field_refuses_ages():
    with pytest.raises(InputError, match="no ages"):
        mean_field.require_no_ages(small_model(TISSUE))


def test_movement_conserves_each_kind_in_the_mean():
    text = """
[[state]]
name = "walker"
seeding = { where = "surface", fraction = 0.8 }
[[rule]]
name = "walk"
move = "walker"
speed = "1 um/min"
[geometry]
kind = "plate"
thickness = "30 um"
axis = "z"
"""
    model = small_model(text)
    before, after = mean_run(model, slab_of_bone(model), 10)
    np.testing.assert_allclose(mean_field.counts(after), mean_field.counts(before), rtol=1e-5)
    inside = np.asarray(after["x"])[1]
    assert inside[:3].max() < 1e-6, "a cell of the marrow has walked into bone"
