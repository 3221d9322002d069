"""Mass action against an ODE solver, and what no step length may break."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from lattice.kernels import mass_action
from lattice.kernels.mass_action import MassAction, step_reactions

BINDING = MassAction(((0, 1), (1, 1)), ((2, 1),), reversible=True)
GROWTH = MassAction(((3, 1), (4, 2)), ((4, 3),))
REMOVAL = MassAction(((2, 1),), ())
REACTIONS = (BINDING, GROWTH, REMOVAL)
FORWARD, BACKWARD = jnp.array([2.0, 1.5, 0.3]), jnp.array([0.5, 0.0, 0.0])
FACTOR = jnp.array([1.0, 2.0, 0.5, 1.0, 1.0])


def rates(_, c):
    bind, grow = 2 * c[0] * c[1] - 0.5 * c[2], 1.5 * c[3] * c[4] ** 2
    return [-bind, -bind, bind - 0.3 * c[2], -grow, grow]


def start():
    return np.random.default_rng(1).random((4, 5)).astype(np.float32)


def exact(u, t):
    c = u * np.asarray(FACTOR)
    ends = [solve_ivp(rates, (0, t), row, rtol=1e-10, atol=1e-12).y[:, -1] for row in c]
    return np.array(ends) / np.asarray(FACTOR)


def test_second_order_against_an_ode_solver():
    u = start()
    truth = exact(u, 0.5)
    errors = [
        np.abs(
            step_reactions(jnp.asarray(u), REACTIONS, FORWARD, BACKWARD, FACTOR, 0.5, substeps=n)
            - truth
        ).max()
        for n in (2, 4, 8)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] < 2e-4
    assert np.all(orders > 1.8), (errors, orders)


def test_reversible_binding_rests_at_its_equilibrium():
    u = jnp.asarray(start())
    for _ in range(40):
        u = step_reactions(u, (BINDING,), FORWARD, BACKWARD, FACTOR, 5.0)
    c = np.asarray(u * FACTOR, float)
    np.testing.assert_allclose(2 * c[:, 0] * c[:, 1], 0.5 * c[:, 2], rtol=1e-5)


@pytest.mark.parametrize("dt", [1e-3, 1.0, 1e6])
def test_positive_and_conserving_at_any_step(dt):
    u = start()
    u[0] = 0
    new = np.asarray(step_reactions(jnp.asarray(u), REACTIONS[:2], FORWARD, BACKWARD, FACTOR, dt))
    c, d = u * np.asarray(FACTOR), new * np.asarray(FACTOR)
    assert new.min() >= 0
    assert not new[0].any()
    np.testing.assert_allclose(d[:, 0] + d[:, 2], c[:, 0] + c[:, 2], rtol=1e-6)
    np.testing.assert_allclose(d[:, 1] + d[:, 2], c[:, 1] + c[:, 2], rtol=1e-6)
    np.testing.assert_allclose(d[:, 3] + d[:, 4], c[:, 3] + c[:, 4], rtol=1e-6)


def test_first_order_removal_is_exact():
    u = jnp.asarray(start())
    new = step_reactions(u, (REMOVAL,), FORWARD[2:], BACKWARD[2:], FACTOR, 3.0)
    np.testing.assert_allclose(new[:, 2], u[:, 2] * np.exp(-0.9), rtol=1e-6)


def test_a_reaction_that_changes_nothing_is_refused():
    with pytest.raises(ValueError, match="must change"):
        MassAction(((0, 1),), ((0, 1),))


def test_without_reactions_nothing_changes():
    u, none = jnp.asarray(start()), jnp.zeros(0)
    np.testing.assert_array_equal(step_reactions(u, (), none, none, FACTOR, 1.0), u)


@pytest.mark.parametrize("here", [True, False])
def test_columns_are_written_the_same_way_on_any_device(monkeypatch, here):
    monkeypatch.setattr(mass_action, "on_cpu", lambda: here)
    u = jnp.arange(24, dtype=jnp.float32).reshape(2, 3, 4)
    written = np.asarray(mass_action.with_columns(u, {1: -u[..., 0], 3: u[..., 2] + 0.5}))
    expected = np.asarray(u).copy()
    expected[..., 1], expected[..., 3] = -expected[..., 0], expected[..., 2] + 0.5
    np.testing.assert_array_equal(written, expected)
