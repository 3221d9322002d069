"""What the field solves of a chunk left to do, and whether that is little enough.

The last solve of a chunk is looked at, since nothing else of it is kept: what its first conjugate
gradients left of their residual, and how much they changed the field. The error of the change is
taken to be the same part of it as the residual is of the one they began with. That is an estimate
of its order alone: the matrix stretches what is rough, so a rough error is less, and a smooth one
beside rough sources is more.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from lattice.engine.region import Region
from lattice.kernels.conjugate_gradient import Residual

TOLERANCE = 0.15
"""The relative error of a field that the iterations of a solve may leave by this estimate: a sign
that they fail, not the accuracy that they aim at."""

NOTHING = 1e-30
"""A sum of squares that is rounded to few digits, if not to 0."""


class Left(NamedTuple):
    """Of each field over the whole lattice: sums of squares of the residual before and after the
    solve, of what the solve has found, and of the field; and the flat index of the voxel where most
    is left."""

    start: Float[Array, "S"]
    left: Float[Array, "S"]
    solution: Float[Array, "S"]
    field: Float[Array, "S"]
    place: UInt32[Array, "S"]


def left_by(residual: Residual, fields: Float[Array, "Z Y X S"], region: Region) -> Left:
    """The residual of the blocks, joined."""
    place = region.of_block(residual.place)
    field = jnp.sum(fields * fields, axis=(0, 1, 2))
    names = region.blocks.mesh_axes()
    if not names:
        return Left(residual.start, residual.left, residual.solution, field, place)
    summed = (residual.start, residual.left, residual.solution, field)
    start, left, solution, field = (jax.lax.psum(a, names) for a in summed)
    worst, places = (jax.lax.all_gather(a, names) for a in (residual.worst, place))
    chosen = jnp.argmax(worst, axis=0)
    return Left(start, left, solution, field, jnp.take_along_axis(places, chosen[None], axis=0)[0])


def errors(left: Left) -> np.ndarray:
    """For each field, an estimate of the relative error that the iterations left (host): relative
    to the field, or to its change where that is larger, as of a field that vanishes."""
    parts = (left.start, left.left, left.solution, left.field)
    start, remaining, solution, field = (np.asarray(a, np.float64) for a in parts)
    something = np.minimum(start, solution) > NOTHING
    part = remaining / np.where(something, start, 1)
    change = solution / np.where(something, np.maximum(field, solution), 1)
    return np.where(something, np.sqrt(part * change), 0)
