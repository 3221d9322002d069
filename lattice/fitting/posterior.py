"""The posterior of the surrogate likelihood with offset: by NUTS, or its Gaussian approximation."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lattice.fitting import likelihood
from lattice.fitting.identify import Information
from lattice.fitting.search import Fitted
from lattice.fitting.structure import Problem
from lattice.fitting.surrogate import Surrogate
from lattice.io.optional import require
from lattice.model.errors import InputError

CHAINS = 4


def laplace(problem: Problem, fitted: Fitted, known: Information) -> Float[np.ndarray, "C D P"]:
    """Draws of the normal distribution about the estimate, within the bounds."""
    generator = np.random.default_rng([problem.settings.seed, 2])
    low, high = problem.bounds
    root = np.linalg.cholesky(known.covariance + 1e-12 * np.eye(len(low)))
    wanted, kept = CHAINS * problem.settings.draws, np.empty((0, len(low)))
    for _ in range(200):
        draws = fitted.u + generator.standard_normal((4 * wanted, len(low))) @ root.T
        inside = draws[np.all((draws >= low) & (draws <= high), axis=1)]
        kept = np.concatenate([kept, inside])[:wanted]
        if len(kept) == wanted:
            return kept.reshape(CHAINS, problem.settings.draws, -1)
    raise InputError(
        f"{problem.file}: the estimate lies so near its bounds that no draw falls inside; widen "
        'them, or write posterior = "nuts"'
    )


def log_density(problem: Problem, surrogate: Surrogate, fitted: Fitted, known: Information):
    """Log posterior as a function of x [P], with u = estimate + L x and L L^T the covariance: it is
    nearly round there. Its gradient is formed from the forward Jacobian of the surrogate."""
    whiten = np.linalg.inv(likelihood.Whitening(fitted.total).lower)
    root = np.linalg.cholesky(known.covariance + 1e-12 * np.eye(len(fitted.u)))
    whiten, root, centre = (jnp.asarray(a, jnp.float32) for a in (whiten, root, fitted.u))
    factor, shift = jnp.asarray(fitted.offset.factor), jnp.asarray(fitted.offset.shift)
    low, high = (jnp.asarray(bound) for bound in problem.bounds)
    priors = [(i, *p.prior) for i, p in enumerate(problem.parameters) if p.prior is not None]

    def residuals(x: Float[Array, "P"]) -> Float[Array, "R"]:
        u = centre + root @ x
        misfit = whiten @ (factor * surrogate.traced(u) + shift - jnp.asarray(problem.measured))
        prior = [(u[i] - mean) / sd for i, mean, sd in priors]
        return jnp.concatenate([misfit, jnp.stack(prior)]) if prior else misfit

    def wall(x):
        """0 within the bounds; steep outside, so that a path turns back."""
        u, width = centre + root @ x, (high - low)
        beyond = jnp.maximum(low - u, 0) + jnp.maximum(u - high, 0)
        return -0.5 * jnp.sum((beyond / (0.001 * width)) ** 2)

    @jax.custom_vjp
    def misfit(x):
        return -0.5 * jnp.sum(residuals(x) ** 2)

    def forward(x):
        slopes, found = jax.jacfwd(lambda y: (r := residuals(y), r), has_aux=True)(x)
        return -0.5 * jnp.sum(found**2), -(found @ slopes)

    misfit.defvjp(forward, lambda slope, cotangent: (cotangent * slope,))
    return lambda x: misfit(x) + wall(x)


def nuts(
    problem: Problem, surrogate: Surrogate, fitted: Fitted, known: Information,
    tell: Callable[[str], None],
) -> tuple[Float[np.ndarray, "C D P"], dict[str, np.ndarray]]:  # fmt: skip
    """Draws by the no-U-turn sampler (Hoffman & Gelman 2014, arXiv 1111.4246) and its statistics,
    each [C, D]. Raises InputError where blackjax is not installed."""
    blackjax = require("blackjax", 'osteolattice fit with posterior = "nuts"', "fit")
    density = log_density(problem, surrogate, fitted, known)
    draws = problem.settings.draws
    warm = max(100, draws // 4)
    key = jax.random.key(problem.settings.seed)
    size = len(fitted.u)
    adapt = blackjax.window_adaptation(
        blackjax.nuts, density, is_mass_matrix_diagonal=False, initial_step_size=0.5
    )

    def chain(key):
        first, second, third = jax.random.split(key, 3)
        begin = 0.3 * jax.random.normal(first, (size,))
        (state, tuned), _ = adapt.run(second, begin, warm)
        step = blackjax.nuts(density, **tuned).step

        def one(state, key):
            state, told = step(key, state)
            kept = (told.is_divergent, told.acceptance_rate, told.num_integration_steps)
            return state, (state.position, state.logdensity, *kept)

        return jax.lax.scan(one, state, jax.random.split(third, draws))[1]

    run, found = jax.jit(chain), []
    for index, one in enumerate(jax.random.split(key, CHAINS)):
        found.append([np.asarray(part) for part in run(one)])
        tell(f"chain {index + 1} of {CHAINS}")
    position, *statistics = (np.stack(parts) for parts in zip(*found, strict=True))
    root = np.linalg.cholesky(known.covariance + 1e-12 * np.eye(size))
    named = ("lp", "diverging", "acceptance_rate", "n_steps")
    told: dict[str, np.ndarray] = dict(zip(named, statistics, strict=True))
    low, high = problem.bounds
    return np.clip(fitted.u + position @ root.T, low, high), told
