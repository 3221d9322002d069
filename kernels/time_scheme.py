"""Rational approximations of exp(-t A) that are fitted to the decay.

A step of length t solves with (1 + weight t B), where A = decay + B and B holds diffusion and
sinks. Every coefficient is a function of decay * t alone and is such that a uniform field without
sinks advances exactly; every steady state is kept exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


def mean_decay(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """(1 - exp(-x)) / x, the mean of exp(-x s) over s in [0, 1]; accurate at and near x = 0."""
    small = x < 1e-4
    safe = jnp.where(small, 1, x)
    return jnp.where(small, 1 - x / 2, -jnp.expm1(-safe) / safe)


class Poles(NamedTuple):
    """R(z) = N(z) / (1 + pole z)^m as a recursion: with r = t (source - A u0), z = t A and
    x_i = (1 + pole z)^-1 x_(i-1), x_0 = r, the step is u1 = u0 + pole * sum_i parts_i x_i."""

    pole: Float[Array, "S"]
    parts: tuple[Float[Array, "S"], ...]


def relative_growth(x: Float[Array, "S"], pole: Float[Array, "S"], count: int):
    """(exp(-x) (1 + pole x)^count - 1) / x, accurate at and near x = 0."""
    small = x < 1e-4
    safe = jnp.where(small, 1, x)
    ratio = jnp.expm1(count * jnp.log1p(pole * safe) - safe) / safe
    return jnp.where(small, count * pole - 1, ratio)


def two_poles(x: Float[Array, "S"]) -> Poles:
    """N(z) = 1 + a z with R(x) = exp(-x) at x = decay t; the pole is fitted.

    The fit minimises the integral of ((R(z) - exp(-z)) k / z)^2 over k, z = x + k^2: the error in
    three dimensions after sources have changed in random voxels.
    """
    pole = jnp.minimum(0.385 + x * (0.09 + 0.02 * x), 1.5)
    a = relative_growth(x, pole, 2)
    return Poles(pole, (jnp.ones_like(x), 1 - a / pole))


def three_poles(x: Float[Array, "S"]) -> Poles:
    """N(z) = 1 + a z + b z^2 with R(x) = exp(-x) at x = decay t; pole and b are fitted as in
    `two_poles`. First order in time, with 1/12 of backward Euler's constant for slow modes; the
    second-order choice of b is four times less accurate at steps that cells take."""
    pole = jnp.minimum(0.2245 + x * (0.036 + 0.005 * x), 1.0)
    b = 0.0195 / (1 + x * (0.4 + 0.03 * x))
    a = relative_growth(x, pole, 3) - b * x
    return Poles(pole, (jnp.ones_like(x), 1 - b / pole**2, 1 - a / pole + b / pole**2))


@dataclass(frozen=True)
class Scheme:
    """`substeps` equal parts of a step. `poles` gives the recursion (None: the one-pole form, which
    is positive); `iterations` of conjugate gradients for each of its solves."""

    substeps: int
    poles: Callable[[Float[Array, "S"]], Poles] | None
    iterations: tuple[int, ...]


SCHEMES = {
    "one_pole": Scheme(1, None, (2,)),
    "two_half_steps": Scheme(2, None, (1,)),
    "two_poles": Scheme(1, two_poles, (2, 1)),
    "three_poles": Scheme(1, three_poles, (2, 2, 1)),
}
AUTO = "three_poles"


def scheme_of(name: str) -> Scheme:
    """The scheme of this name, or the default for "auto". Raises ValueError for another name."""
    name = AUTO if name == "auto" else name
    if name not in SCHEMES:
        raise ValueError(f"no time scheme {name!r}; there are auto, {', '.join(sorted(SCHEMES))}")
    return SCHEMES[name]
