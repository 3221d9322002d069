"""Slabs of a lattice along z, one for each device, and what crosses between them."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped


@dataclass(frozen=True)
class Slabs:
    """A decomposition along the first axis, inside `jax.shard_map`.

    `axis_name` is the mesh axis (None: one device holds the whole lattice); `count` the number of
    slabs, all of the same thickness.
    """

    axis_name: str | None = None
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or (self.count > 1 and self.axis_name is None):
            raise ValueError("more than one slab needs the name of a mesh axis")

    @property
    def divided(self) -> bool:
        """Whether planes have to travel between devices."""
        return self.count > 1


WHOLE = Slabs()


def slab_index(slabs: Slabs) -> Array:
    """The position of this device's slab, from 0 at the lowest z."""
    return lax.axis_index(slabs.axis_name) if slabs.divided else jnp.zeros((), jnp.int32)


def neighbour_planes(
    array: Shaped[Array, "Z *rest"], slabs: Slabs, periodic: bool
) -> tuple[Shaped[Array, "1 *rest"], Shaped[Array, "1 *rest"]]:
    """The plane before the first and the one after the last of this slab.

    At the two ends of a lattice that is not periodic the planes are zeros. Every dtype travels
    unchanged.
    """
    first, last = array[:1], array[-1:]
    if not slabs.divided:
        return (last, first) if periodic else (jnp.zeros_like(last), jnp.zeros_like(first))
    # ppermute leaves zeros where nobody sends.
    n = slabs.count
    up = [(i, (i + 1) % n) for i in range(n if periodic else n - 1)]
    down = [((i + 1) % n, i) for i in range(n if periodic else n - 1)]
    below = lax.ppermute(last, slabs.axis_name, up)
    above = lax.ppermute(first, slabs.axis_name, down)
    return below, above


def gather_planes(array: Shaped[Array, "Z *rest"], slabs: Slabs) -> Shaped[Array, "N *rest"]:
    """All planes of the lattice, in order, on every device."""
    if not slabs.divided:
        return array
    return lax.all_gather(array, slabs.axis_name, axis=0, tiled=True)


def own_planes(array: Shaped[Array, "N *rest"], slabs: Slabs) -> Shaped[Array, "Z *rest"]:
    """The planes of this slab, out of all of them."""
    if not slabs.divided:
        return array
    thickness = array.shape[0] // slabs.count
    start = slab_index(slabs) * thickness
    return lax.dynamic_slice_in_dim(array, start, thickness, axis=0)
