"""A1, A4, A5 and A6 on the culture of `configs/fits/efferocytosis`: contacts, movement, division
and a cytokine that promotes differentiation; 100 steps at full size."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lattice
from lattice.inference.ensemble import sampled_course
from lattice.inference.gradient import Gradient
from lattice.inference.relaxation import READINGS, relaxation
from lattice.model import load
from lattice.model.structure import Model
from tests.cli.tiny import ROOT

CULTURE = ROOT / "configs/fits/efferocytosis/model.toml"
SEEN = ["precursor", "osteoblast", "apoptotic", "macrophage", "TGFb.mean"]
CELLS = SEEN[:4]
STAGES = SEEN[:2]
VARIED = [
    "rule.divide.rate",
    "rule.differentiate.rate",
    "rule.differentiate.when.TGFb.half",
    "rule.die.rate",
    "rule.engulf.rate",
    "rule.forget.rate",
    "rule.walk_macrophage.speed",
    "rule.walk_precursor.speed",
]
UNFELT = {
    "cytokine.TGFb.diffusion",  # it is secreted and sensed everywhere alike
    "cytokine.TGFb.in_bone",  # there is none
    "state.macrophage.seeding.age",  # nothing responds to ages
    "state.osteoblast.seeding.age",
    "state.precursor.seeding.age",
}
"""Numbers on which nothing depends here; the mean field, alike in all voxels, feels no
walks but those that compete with a division."""


@dataclass(frozen=True)
class Size:
    edge: int
    steps: int
    runs: int = 0


def sizes(reduced: Size, full: Size) -> pytest.MarkDecorator:
    """A case for the quick tests, and the one of the acceptance table for the full ones."""
    cases = [pytest.param(reduced, id="reduced"), pytest.param(full, id="full", marks=FULL)]
    return pytest.mark.parametrize("size", cases)


FULL = pytest.mark.full


def culture(size: Size, *overrides: str) -> Model:
    shape = [size.edge] * 3
    size_and_time = (f"lattice.shape={shape}", f"time.until={size.steps} h")
    return load(CULTURE, overrides=[*size_and_time, *overrides])


def moments(size: Size) -> list[float]:
    return [size.steps / 2.0, float(size.steps)]


def sloped(
    model: Model, size: Size, estimator: str, names=VARIED, seen=CELLS, **options
) -> Gradient:
    times = moments(size)
    return lattice.gradient(model, seen, names, estimator=estimator, times=times, **options)


def logs(found: Gradient) -> np.ndarray:
    """[T, O, P] derivatives with respect to logarithms."""
    return np.stack(list(found.log_gradient.values()), axis=-1)


def log_errors(found: Gradient) -> np.ndarray:
    return np.stack(list(found.log_error.values()), axis=-1)


@pytest.mark.parametrize("reading", READINGS)
@sizes(Size(4, 20), Size(8, 100))
def test_A1_derivatives_of_relaxations_are_exact_for_themselves(size, reading):
    """Every number against central differences, and one tangent against one cotangent."""
    # A central difference about a concentration of 0 would reach below it.
    levels = ("cytokine.TGFb.initial=0.05 ng/mL", "cytokine.TGFb.production=0.01 ng/mL/h")
    model = culture(size, *levels)
    names = list(model.values)
    theta = np.array([model.values[n] for n in names])
    with jax.enable_x64(True):
        function = relaxation(model, SEEN, moments(size), reading=reading, dtype="float64")

        def course(vector):
            return function(dict(zip(names, vector, strict=True)))

        run = jax.jit(course)
        value = np.asarray(run(theta))
        jacobian = np.asarray(jax.jit(jax.jacfwd(course))(jnp.asarray(theta)))
        steps = 1e-5 * np.where(theta == 0, 1, theta)
        differences = np.stack(
            [(run(theta + h) - run(theta - h)) / (2 * h.sum()) for h in np.diag(steps)], axis=-1
        )
        direction = theta * np.random.default_rng(0).standard_normal(theta.size)
        tangent = np.asarray(jax.jvp(run, (jnp.asarray(theta),), (jnp.asarray(direction),))[1])
        weights = np.random.default_rng(1).standard_normal(value.shape) / value
        cotangent = np.asarray(jax.vjp(run, jnp.asarray(theta))[1](jnp.asarray(weights))[0])
    # Each observable in units of its largest value: counts and concentrations alike.
    units = np.abs(value).max(axis=0)[:, None] / np.where(theta == 0, 1, theta)
    felt = np.abs(differences / units).max(axis=(0, 1))
    wrong = np.abs((jacobian - differences) / units).max(axis=(0, 1))
    assert np.all(wrong < 1e-6 * np.maximum(felt, 1e-3)), names[np.argmax(wrong / felt)]
    walks = {"rule.walk_M2.speed", "rule.walk_macrophage.speed"}
    unfelt = UNFELT | walks if reading == "mean_field" else UNFELT
    assert {n for n, size in zip(names, felt, strict=True) if size < 1e-9} == unfelt
    forward, backward = np.sum(tangent * weights), cotangent @ direction
    assert abs(forward - backward) < 1e-12 * np.sum(np.abs(tangent * weights))


@sizes(Size(6, 30, 300), Size(8, 100, 3000))
def test_A4_two_unbiased_estimators_agree(size):
    """The score function and coupled runs, of seeds of their own."""
    model = culture(size)
    coupled = sloped(model, size, "coupled", replicates=size.runs)
    score = sloped(model, size, "score", replicates=size.runs, seed=1_000_000)
    z = (logs(coupled) - logs(score)) / np.hypot(log_errors(coupled), log_errors(score))
    assert 0.7 < np.sqrt(np.mean(z**2)) < 1.3
    assert np.abs(z).max() < 4
    # The test can fail: some derivatives that are twice as large would be told from these.
    assert np.max(np.abs(logs(score)) - 4 * log_errors(score)) > 0


@sizes(Size(16, 60, 10), Size(16, 100, 200))
def test_A5_the_relaxation_points_where_the_simulator_does(size):
    model = culture(size)
    truth = sloped(model, size, "coupled", replicates=size.runs)
    found = sloped(model, size, "pair_closure")
    sure = np.abs(logs(truth)) > 5 * log_errors(truth)
    assert sure.sum() >= 15
    a, b = logs(truth)[sure], logs(found)[sure]
    assert a @ b >= 0.95 * np.linalg.norm(a) * np.linalg.norm(b)
    assert np.all(a * b > 0)


@sizes(Size(6, 30, 60), Size(8, 100, 200))
def test_A6_runs_of_common_random_numbers(size):
    """No step, no difference; little variance is left; and half the step gives the same."""
    model, name = culture(size), "rule.differentiate.rate"
    steps = [size.steps]

    def course(factor: float, first: int = 0) -> np.ndarray:
        changes = {name: model.values[name] * factor}
        return sampled_course(model, changes, STAGES, steps, range(first, first + size.runs), None)

    np.testing.assert_array_equal(course(1.0), course(np.exp(0.0)))
    above, below, apart = course(np.exp(0.1)), course(np.exp(-0.1)), course(np.exp(-0.1), 10_000)
    ratio = np.var(above - below, axis=0) / np.var(above - apart, axis=0)
    assert np.all(ratio < 0.3), ratio
    options = {"seen": STAGES, "replicates": size.runs}
    whole, half = (sloped(model, size, "coupled", [name], step=h, **options) for h in (0.1, 0.05))
    z = (logs(whole) - logs(half)) / np.hypot(log_errors(whole), log_errors(half))
    assert np.abs(z).max() < 3
