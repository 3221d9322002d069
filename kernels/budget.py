"""What a step of the fields made and lost, and how the sum over the lattice is kept."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class FieldBudget(NamedTuple):
    """Sums over the whole lattice, in concentration times voxels, of what a step made and lost:
    produced = change of the sum of u + decayed + consumed."""

    produced: Float[Array, "S"]
    decayed: Float[Array, "S"]
    consumed: Float[Array, "S"]


def share(part: Float[Array, "S"], other: Float[Array, "S"]) -> Float[Array, "S"]:
    """part / (part + other), and 0 where both are 0."""
    total = part + other
    return jnp.where(total > 0, part / jnp.where(total > 0, total, 1), 0)


def rescaled(wanted: Float[Array, "S"], found: Float[Array, "S"]) -> Float[Array, "S"]:
    """The factor that takes a sum from `found` to `wanted`; 1 for a field that is empty."""
    return jnp.where(found > 0, wanted / jnp.where(found > 0, found, 1), 1)
