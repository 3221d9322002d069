"""Rational approximations of exp(-t A) that are fitted to the decay.

A step of length t solves with (1 + weight t B), where A = decay + B and B holds diffusion and
sinks. Every coefficient is a function of decay * t alone and is such that a uniform field without
sinks advances exactly; every steady state is kept exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float


def mean_decay(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """(1 - exp(-x)) / x, the mean of exp(-x s) over s in [0, 1]; accurate at and near x = 0."""
    small = x < 1e-4
    safe = jnp.where(small, 1, x)
    return jnp.where(small, 1 - x / 2, -jnp.expm1(-safe) / safe)


@dataclass(frozen=True)
class Scheme:
    """`substeps` equal parts of a step, each with `poles` equal real poles, and the default number
    of conjugate-gradient iterations for each solve."""

    substeps: int
    poles: int
    iterations: tuple[int, ...]


SCHEMES = {
    "one_pole": Scheme(1, 1, (2,)),
    "two_half_steps": Scheme(2, 1, (2,)),
}
AUTO = "two_half_steps"


def scheme_of(name: str) -> Scheme:
    """The scheme of this name, or the default for "auto". Raises ValueError for another name."""
    name = AUTO if name == "auto" else name
    if name not in SCHEMES:
        raise ValueError(f"no time scheme {name!r}; there are auto, {', '.join(sorted(SCHEMES))}")
    return SCHEMES[name]
