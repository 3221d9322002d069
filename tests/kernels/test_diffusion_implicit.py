"""Implicit steps against the exact solution in time, and what they must keep."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.kernels import fusion
from lattice.kernels.diffusion_exact import build_basis, step_exact
from lattice.kernels.diffusion_implicit import step_implicit
from lattice.kernels.fusion import fused
from lattice.kernels.multigrid_levels import build_hierarchy
from tests.kernels.reference import (
    DECAY,
    DIFFUSION,
    VOXEL,
    ExactInTime,
    diffusion_matrix,
    random_bone,
    random_sources,
    relative,
)

SHAPE = (17, 13, 11)
IN_BONE = 0.01


def f32(a):
    return jnp.asarray(a, jnp.float32)


@lru_cache(maxsize=1)
def bone():
    return random_bone(SHAPE)


@lru_cache(maxsize=1)
def exact_system():
    return ExactInTime(bone(), IN_BONE, DIFFUSION, DECAY)


@lru_cache(maxsize=1)
def hierarchy():
    return jax.jit(build_hierarchy)(jnp.asarray(bone()), jnp.full(4, IN_BONE))


@lru_cache(maxsize=8)
def stepper(scheme="auto", iterations=None, with_sink=False):
    def step(u, source, sink, hierarchy, dt):
        return step_implicit(
            u,
            source,
            sink if with_sink else None,
            hierarchy,
            f32(DIFFUSION),
            f32(DECAY),
            dt,
            voxel=VOXEL,
            scheme=scheme,
            iterations=iterations,
        )[:2]

    return jax.jit(step)


def switching_error(scheme, iterations, places, seed=0, steps=4):
    """The largest error of any species after steps with other sources each, from steady state."""
    rng, exact = np.random.default_rng(seed), exact_system()
    source = random_sources(rng, places, SHAPE, 4, 0.02)
    truth = exact.step(np.zeros((*SHAPE, 4)), source, 1e6)
    u, worst = f32(truth), 0.0
    for _ in range(steps):
        here = np.flatnonzero(source[..., 0])
        moved = source.reshape(-1, 4)
        moved[rng.choice(here, 2, replace=False)] = 0
        moved[rng.choice(places, 2)] = 1
        truth = exact.step(truth, source, 0.5)
        u, _ = stepper(scheme, iterations)(u, f32(source), None, hierarchy(), 0.5)
        worst = max(worst, relative(u, truth).max())
    return worst


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auto_holds_1e3_when_sources_switch_anywhere(seed):
    """Also inside bone, where diffusion is a hundred times slower."""
    assert switching_error("auto", None, np.arange(np.prod(SHAPE)), seed) < 1e-3


@pytest.mark.parametrize("scheme", ["one_pole", "two_half_steps", "two_poles"])
def test_each_scheme_holds_1e3_when_sources_switch_in_marrow(scheme):
    assert switching_error(scheme, None, np.flatnonzero(bone() == 0)) < 1e-3


def test_first_order_in_time():
    """Halving a short step halves the error of a transient, with the linear solves exact."""
    exact, rng = exact_system(), np.random.default_rng(3)
    source = random_sources(rng, np.arange(np.prod(SHAPE)), SHAPE, 4, 0.05)
    span = 2e-3
    truth = exact.step(np.zeros((*SHAPE, 4)), source, span)
    errors = []
    for parts in (2, 4):
        u = jnp.zeros((*SHAPE, 4), jnp.float32)
        for _ in range(parts):
            u, _ = stepper("one_pole", 6)(u, f32(source), None, hierarchy(), span / parts)
        errors.append(relative(u, truth)[2])
    order = np.log2(errors[0] / errors[1])
    assert 0.7 < order < 1.4, errors


def test_second_order_in_space():
    """The decay rate of a cosine approaches the continuum's with the square of the voxel."""
    errors = []
    for n in (8, 16):
        h = 160.0 / n
        x = (np.arange(n) + 0.5) / n
        u = np.broadcast_to(1 + 0.5 * np.cos(np.pi * x), (1, 1, n))[..., None]
        values = np.linalg.eigvalsh(diffusion_matrix(np.zeros((1, 1, n)), 1.0, voxel=h))
        errors.append(abs(values[1] - (np.pi / 160) ** 2))
        image = step_exact(
            f32(u),
            jnp.zeros(u.shape, jnp.float32),
            build_basis((1, 1, n)),
            f32([3600.0]),
            f32([0.0]),
            0.1,
            voxel=h,
        )[0]
        damped = (np.asarray(image)[0, 0, :, 0] - 1) / (0.5 * np.cos(np.pi * x))
        np.testing.assert_allclose(damped, np.exp(-values[1] * 360.0), rtol=1e-4)
    assert np.log2(errors[0] / errors[1]) > 1.9


def test_odd_sizes_agree_with_the_exact_path():
    shape = (31, 49, 57)
    rng = np.random.default_rng(0)
    source = random_sources(rng, np.arange(np.prod(shape)), shape, 4)
    built = jax.jit(build_hierarchy)(jnp.zeros(shape, jnp.uint8), jnp.ones(4))
    basis = build_basis(shape)
    exact = jax.jit(partial(step_exact, voxel=VOXEL))
    u = truth = jnp.zeros((*shape, 4), jnp.float32)
    for _ in range(12):
        truth, _ = exact(truth, f32(source), basis, f32(DIFFUSION), f32(DECAY), 0.5)
        u, _ = stepper()(u, f32(source), None, built, 0.5)
    error = relative(u, truth)
    assert error.max() < 1e-3, error


def test_turning_the_lattice_turns_the_solution():
    rng = np.random.default_rng(4)
    shape = (9, 9, 9)
    mask = random_bone(shape)
    u, source = rng.random((*shape, 4)), rng.random((*shape, 4))
    build = jax.jit(build_hierarchy)
    straight, _ = stepper("two_poles", 10)(
        f32(u), f32(source), None, build(jnp.asarray(mask), jnp.full(4, IN_BONE)), 0.5
    )
    for axes in ((0, 1), (1, 2)):
        turned = build(jnp.asarray(np.rot90(mask, axes=axes)), jnp.full(4, IN_BONE))
        new, _ = stepper("two_poles", 10)(
            f32(np.rot90(u, axes=axes)), f32(np.rot90(source, axes=axes)), None, turned, 0.5
        )
        np.testing.assert_allclose(new, np.rot90(straight, axes=axes), rtol=3e-5)


def test_molecules_are_conserved_over_500_steps():
    rng = np.random.default_rng(5)
    sink = f32(0.2 * random_sources(rng, np.arange(np.prod(SHAPE)), SHAPE, 4, 0.02))
    sources = [f32(random_sources(rng, np.arange(np.prod(SHAPE)), SHAPE, 4)) for _ in range(4)]
    u, totals = jnp.zeros((*SHAPE, 4), jnp.float32), np.zeros((3, 4))
    for i in range(500):
        u, budget = stepper(with_sink=True)(u, sources[i % 4], sink, hierarchy(), 0.5)
        totals += np.array(budget, float)
    produced, decayed, consumed = totals
    present = np.asarray(u, float).sum((0, 1, 2))
    assert consumed.min() > 0
    assert np.asarray(u).min() >= 0
    np.testing.assert_allclose(present + decayed + consumed, produced, rtol=1e-5)


def test_a_steady_state_stays():
    exact, rng = exact_system(), np.random.default_rng(6)
    source = random_sources(rng, np.arange(np.prod(SHAPE)), SHAPE, 4)
    steady = exact.step(np.zeros((*SHAPE, 4)), source, 1e6)
    u = f32(steady)
    for _ in range(5):
        u, _ = stepper()(u, f32(source), None, hierarchy(), 0.5)
    assert relative(u, steady).max() < 2e-5


def test_strong_uptake_is_shared_rightly_with_decay():
    exact, rng = exact_system(), np.random.default_rng(7)
    sink = np.full((*SHAPE, 4), 3.0)
    source = random_sources(rng, np.arange(np.prod(SHAPE)), SHAPE, 4)
    faster = ExactInTime.__new__(ExactInTime)
    faster.shape, faster.vectors, faster.rates = SHAPE, exact.vectors, exact.rates + 3.0
    steady = faster.step(np.zeros((*SHAPE, 4)), source, 1e6)
    new, budget = stepper(with_sink=True)(f32(steady), f32(source), f32(sink), hierarchy(), 0.5)
    assert relative(new, steady).max() < 2e-5
    np.testing.assert_allclose(
        np.asarray(budget.consumed), 0.5 * (sink * steady).sum((0, 1, 2)), rtol=1e-4
    )


def test_no_decay_no_diffusion_and_nothing_at_all():
    """A species that only gathers, and one that is absent, beside each other; extents of 1."""
    shape = (1, 1, 4)
    built = build_hierarchy(jnp.zeros(shape, jnp.uint8), jnp.array([0.0, 1.0]))
    source = np.zeros((*shape, 2))
    source[0, 0, 1, 0] = 2.0
    new, budget, _ = step_implicit(
        jnp.zeros((*shape, 2), jnp.float32),
        f32(source),
        None,
        built,
        jnp.zeros(2),
        jnp.zeros(2),
        0.5,
        voxel=VOXEL,
    )
    np.testing.assert_allclose(np.asarray(new), 0.5 * source, atol=1e-6)
    assert not np.asarray(new)[..., 1].any()
    assert float(budget.produced[0]) == 1.0
    assert float(budget.decayed[0]) == 0.0


def test_periodic_axes_and_factors_that_differ_by_species():
    shape, periodic = (7, 6, 5), (True, False, True)
    rng = np.random.default_rng(8)
    mask, in_bone = random_bone(shape), np.array([0.02, 1.0, 0.3, 0.0])
    u, source = rng.random((*shape, 4)), rng.random((*shape, 4))
    decay, diffusion = DECAY, DIFFUSION / 20
    built = build_hierarchy(jnp.asarray(mask), f32(in_bone), periodic=periodic)
    new, *_ = step_implicit(
        f32(u), f32(source), None, built, f32(diffusion), f32(decay), 0.5, voxel=VOXEL,
        scheme="one_pole", iterations=10, periodic=periodic,
    )  # fmt: skip
    for s in range(4):
        matrix = diffusion[s] * diffusion_matrix(mask, max(in_bone[s], 1e-9), periodic)
        keep = np.exp(-decay[s] * 0.5)
        weight = (1 - keep) / decay[s]
        solved = np.linalg.solve(
            np.eye(mask.size) + weight * matrix,
            (keep * u + weight * source)[..., s].ravel(),
        )
        np.testing.assert_allclose(np.asarray(new)[..., s].ravel(), solved, rtol=1e-3)


def test_gradients_agree_with_finite_differences():
    shape = (5, 6, 7)
    rng = np.random.default_rng(9)
    built = build_hierarchy(jnp.asarray(random_bone(shape)), jnp.full(2, 0.05))
    u, source = f32(rng.random((*shape, 2))), f32(rng.random((*shape, 2)))
    weights = f32(rng.random((*shape, 2)))
    # Of sum 0: the sum of the new field is set by another way.
    pattern = weights - weights.mean((0, 1, 2))

    @jax.jit
    def loss(log_diffusion, log_decay, strength, uneven):
        new, *_ = step_implicit(
            u + uneven * pattern,
            strength * source,
            None,
            built,
            jnp.exp(log_diffusion),
            jnp.exp(log_decay),
            0.5,
            voxel=VOXEL,
            scheme="one_pole",
            iterations=8,
        )
        return jnp.sum(weights * new**2)

    at = (jnp.log(f32([2000.0, 300.0])), jnp.log(f32([2.0, 0.1])), f32(1.0), f32(0.0))
    gradient = jax.grad(loss, argnums=(0, 1, 2, 3))(*at)
    for argument in range(4):
        h = 0.02
        for index in np.ndindex(at[argument].shape):
            ends = []
            for sign in (1, -1):
                moved = list(at)
                moved[argument] = at[argument].at[index].add(sign * h)
                ends.append(float(loss(*moved)))
            slope = (ends[0] - ends[1]) / (2 * h)
            scale = max(abs(slope), 1e-2 * ends[0])
            assert abs(float(gradient[argument][index]) - slope) < 5e-3 * scale


def test_iterations_stay_units_where_all_around_is_fused():
    """Without that a solve of a relaxation takes ten times as long."""
    field = f32(np.ones((*SHAPE, 4)))
    with fused():
        traced = jax.make_jaxpr(stepper("one_pole").__wrapped__)
        program = traced(field, field, None, hierarchy(), f32(0.5))
    assert ("cond[" in str(program)) == (jax.default_backend() == "cpu")


def test_fields_and_gradients_agree_where_a_gpu_is_left_to_fuse_as_it_likes(monkeypatch):
    field = f32(np.random.default_rng(3).random((*SHAPE, 4)))
    bone = jnp.asarray(np.random.default_rng(4).random(SHAPE) < 0.3, jnp.uint8)

    def solved():
        def mean(u, in_bone):
            new = stepper("one_pole").__wrapped__(u, u, None, build_hierarchy(bone, in_bone), 0.5)
            return jnp.mean(new[0] * field), new[0]

        whole = jax.jit(jax.value_and_grad(mean, argnums=(0, 1), has_aux=True))
        (_, new), slopes = whole(field, f32(np.full(4, 0.1)))
        return [np.asarray(a) for a in (new, *slopes)]

    here, there = solved(), not fusion.on_cpu()
    monkeypatch.setattr(fusion, "on_cpu", lambda: there)
    for one, other in zip(solved(), here, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5 * np.abs(other).max())


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match="there are auto, one_pole"):
        stepper("euler")(jnp.zeros((*SHAPE, 4)), jnp.zeros((*SHAPE, 4)), None, hierarchy(), 0.5)
