"""A3 and the names of gradients: every estimator against an enumeration written apart from it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lattice
from lattice.engine import mean_field
from lattice.engine.devices import region_of
from lattice.engine.flux import _hill, shares
from lattice.engine.numbers import numbers_of
from lattice.engine.plan import plan_of
from lattice.engine.simulation import Simulation
from lattice.inference.ensemble import sampled_course
from lattice.inference.realised import log_probability, straight_through
from lattice.kernels.random_bits import seed_words
from tests.conftest import small_model
from tests.inference.ring import THETA, exact_counts, exact_difference, ring_model

OBSERVED = ["prey", "hunter"]


@pytest.fixture(scope="module")
def ring():
    return ring_model()


def estimate(ring, estimator: str, replicates: int, seed: int = 0):
    options = {"estimator": estimator, "replicates": replicates, "seed": seed}
    return lattice.gradient(ring, OBSERVED, list(THETA), **options)


def z_values(found, truth: dict[str, np.ndarray]) -> np.ndarray:
    """[P, O] distance of each entry from the truth, in standard errors."""
    return np.array([(found.gradient[n][-1] - truth[n]) / found.error[n][-1] for n in THETA])


@pytest.fixture(scope="module")
def truth():
    return {name: exact_difference(name, 1e-4) for name in THETA}


def test_enumeration_agrees_with_one_written_apart(ring, truth):
    found = estimate(ring, "exact", 0)
    assert found.name == "exact gradient (enumeration)"
    np.testing.assert_allclose(found.value[-1], exact_counts(THETA), rtol=1e-9)
    for name in THETA:
        np.testing.assert_allclose(found.gradient[name][-1], truth[name], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(
            found.log_gradient[name], found.gradient[name] * THETA[name], rtol=1e-12
        )


def check_unbiased(ring, truth, estimator: str, replicates: int, seed: int) -> None:
    found = estimate(ring, estimator, replicates, seed)
    assert found.name == "Monte Carlo estimate +- SE"
    assert np.all(np.abs(found.value[-1] - exact_counts(THETA)) < 4 * found.value_error[-1])
    if estimator == "coupled":
        truth = {name: exact_difference(name, 0.1) for name in THETA}
    assert np.all(np.abs(z_values(found, truth)) < 4)


@pytest.mark.parametrize("estimator", ["score", "coupled"])
def test_unbiased_estimators_agree_with_the_enumeration(ring, truth, estimator):
    check_unbiased(ring, truth, estimator, 2000, 0)


@pytest.mark.full
@pytest.mark.parametrize("estimator", ["score", "coupled"])
def test_unbiased_estimators_agree_at_full_size(ring, truth, estimator):
    check_unbiased(ring, truth, estimator, 20_000, 1_000_000)


def test_straight_through_fails_the_enumeration(ring, truth):
    found = estimate(ring, "straight_through", 2000)
    assert found.name == "biased straight-through"
    # Its paths are the simulator's: only the derivative is wrong.
    assert np.all(np.abs(found.value[-1] - exact_counts(THETA)) < 4 * found.value_error[-1])
    assert np.abs(z_values(found, truth)).max() > 10


@pytest.mark.full
def test_straight_through_fails_at_full_size(ring, truth):
    found = estimate(ring, "straight_through", 20_000, 1_000_000)
    assert np.abs(z_values(found, truth)).max() > 20


def test_a_wrong_derivative_is_told(ring, truth):
    # The test above can fail: an error of half of an entry is far outside the standard errors.
    found = estimate(ring, "score", 2000)
    wrong = {name: 1.5 * value for name, value in truth.items()}
    assert np.abs(z_values(found, wrong)).max() > 4


def test_mean_field_is_named_as_what_it_is(ring):
    names = ["rule.eat.rate", "rule.tame.rate"]
    found = lattice.gradient(ring, OBSERVED, names)
    assert found.name == "exact gradient of a relaxation (mean field)"
    assert not found.error["rule.eat.rate"].any()
    # Poor as a simulator: that is why it must not be called the simulator's gradient.
    assert np.abs(found.value[-1] - exact_counts(THETA)).max() > 0.3


def test_coupled_runs_share_their_random_numbers(ring):
    # A6: no step gives the same bits; the numbers in common take most of the variance away.
    runs = {f: sampled_course(ring, {"rule.eat.rate": 0.8 * f}, OBSERVED, (40,), range(400), None)
            for f in (1.0, np.exp(0.1), np.exp(-0.1))}  # fmt: skip
    again = sampled_course(ring, {}, OBSERVED, (40,), range(400), None)
    np.testing.assert_array_equal(runs[1.0], again)
    above, below = (runs[np.exp(s * 0.1)] for s in (1, -1))
    apart = np.roll(below, 1, axis=0)
    ratio = np.var(above - below, axis=0) / np.var(above - apart, axis=0)
    assert np.all(ratio < 0.3), ratio


def test_one_hot_paths_are_the_paths_of_the_simulator():
    text = """
[[cytokine]]
name = "call"
diffusion = "5 um^2/s"
half_life = "1 h"
[[state]]
name = "cell"
secretes = { call = "2 fg/day" }
seeding = { where = "marrow", fraction = 0.3 }
[[state]]
name = "hungry"
seeding = { where = "marrow", fraction = 0.2 }
[[rule]]
name = "walk"
move = "hungry"
speed = "0.3 um/min"
toward = { signal = "call", strength = 3 }
[[rule]]
name = "eat"
from = ["hungry", "cell"]
to = ["hungry", "empty"]
rate = "0.3 /h"
[[rule]]
name = "divide"
divide = "cell"
rate = "0.1 /h"
[[rule]]
name = "die"
from = "hungry"
to = "empty"
rate = "0.05 /h"
when = [ { signal = "neighbours.cell", effect = "decreases", half = 1 } ]
[[intervention]]
name = "drug"
kill = { states = ["cell"], fraction = 0.3 }
every = "2 h"
from = "1 h"
"""
    model = small_model(text, shape=(5, 4, 3), step="30 min")
    region, numbers = region_of(model), numbers_of(model)
    plan, words = plan_of(model, region, region.size), jnp.asarray(seed_words(3))
    simulation = Simulation(model, 3)
    state = mean_field.initial_mean(model, region, numbers, words, None, straight_through)
    due = jnp.asarray(np.arange(12)[:, None] % 4 == 2)
    run = jax.jit(lambda n, s, d: mean_field.advance(plan, n, s, d, straight_through))
    for k in range(4):
        seen = np.asarray(simulation.state["cells"])
        np.testing.assert_array_equal(np.asarray(state["x"]).argmax(axis=0), seen)
        state = run(numbers, state, due[3 * k : 3 * k + 3])
        simulation.advance(3)


def test_impossible_draws_have_finite_derivatives():
    fluxes, sample = jnp.array([[0.0, 0.4], [0.0, 0.0]]), jnp.array([[0.0, 1.0], [0.0, 0.0]])
    slope = jax.grad(lambda f: jnp.sum(log_probability(f, sample)))(fluxes)
    np.testing.assert_allclose(slope, [[-1.0, 2.5], [-1.0, 0.0]], rtol=1e-6)
    impossible = jnp.array([[1.0], [0.0]])
    slope = jax.grad(lambda f: jnp.sum(log_probability(f, impossible)))(jnp.zeros((2, 1)))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("x", [0.0, 1e-30, 1e-20, 1e-13, 1e-3])
def test_next_to_nothing_derivatives_are_those_of_the_formula(x):
    """Quotients whose denominators vanish when squared: a hill, and shares of a faint hazard."""
    slope = jax.grad(lambda c: _hill(c, jnp.float32(0.1), jnp.float32(1)))(jnp.float32(x))
    assert slope == pytest.approx(0.1 / (0.1 + x) ** 2, rel=1e-5)
    square = jax.grad(lambda c: _hill(c, jnp.float32(0.1), jnp.float32(2)))(jnp.float32(x))
    assert square == pytest.approx(2 * x * 0.01 / (0.01 + x**2) ** 2, rel=1e-5, abs=1e-9)
    share = jax.grad(lambda h: shares([h, 2 * h])[0])(jnp.float32(x))
    assert share == pytest.approx(np.exp(-3 * x), rel=1e-5)
