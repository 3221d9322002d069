"""What the field solves of a chunk left of their residuals, and whether that is little enough.

The last solve of a chunk is looked at, since nothing else of it is kept: the residual of its first
conjugate gradients against the one that they began with, and against the field itself. The matrix
is symmetric with no eigenvalue below 1, so the error that a residual leaves is not larger than it.
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
"""The part of the residual that the iterations of a solve may leave; of the bone model's they leave
up to 0.06."""

NEGLIGIBLE = 0.05
"""A residual below this part of the field is as good as none. It is far larger than the error that
it stands for, since the matrix stretches what is rough up to thousands of times; where a field
stands still, rounding alone leaves some hundredths."""


class Left(NamedTuple):
    """Of each field over the whole lattice: sums of squares of the residual before and after the
    solve and of the field, and the flat index of the voxel where most is left."""

    start: Float[Array, "S"]
    left: Float[Array, "S"]
    field: Float[Array, "S"]
    place: UInt32[Array, "S"]


def left_by(residual: Residual, fields: Float[Array, "Z Y X S"], region: Region) -> Left:
    """The residual of the blocks, joined."""
    place = region.of_block(residual.place)
    field = jnp.sum(fields * fields, axis=(0, 1, 2))
    names = region.blocks.mesh_axes()
    if not names:
        return Left(residual.start, residual.left, field, place)
    start, left, field = (jax.lax.psum(a, names) for a in (residual.start, residual.left, field))
    worst, places = (jax.lax.all_gather(a, names) for a in (residual.worst, place))
    chosen = jnp.argmax(worst, axis=0)
    return Left(start, left, field, jnp.take_along_axis(places, chosen[None], axis=0)[0])


def solved(left: Left) -> np.ndarray:
    """For each field, whether the iterations of its solve have reached their error (host)."""
    start, field = (np.asarray(a, np.float64) for a in (left.start, left.field))
    allowed = np.maximum(TOLERANCE**2 * start, NEGLIGIBLE**2 * field)
    return np.asarray(left.left, np.float64) <= allowed
