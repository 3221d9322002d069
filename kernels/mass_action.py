"""Mass-action reactions between the species in a voxel.

One reaction changes concentrations along its net stoichiometry alone, so its progress is one
number, the extent xi: d xi / dt = f(c + nu xi), with f = forward - backward. A reversible pair is
one reaction, which keeps its equilibrium exactly. A step of length h is

    xi = h phi1(h J) f,   J = df/dxi,   phi1(z) = (exp(z) - 1) / z,

limited to what the reactants (or, backwards, the products) can give: never negative, second order,
exact for first-order reactions and without a limit on h. Several reactions are split
symmetrically, which is second order.

Source: Hochbruck & Ostermann, Acta Numerica 19 (2010) 209, section 2.4 (exponential
Rosenbrock-Euler); Strang, SIAM J. Numer. Anal. 5 (1968) 506 for the splitting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lattice.kernels.backend import on_cpu
from lattice.kernels.fusion import always, boundary

LARGEST_GROWTH = 60.0
"""Bound on h J of an autocatalytic reaction; the extent is limited by its reactants long before."""


@dataclass(frozen=True)
class MassAction:
    """A reaction: (species, stoichiometric number) pairs, species by their place in the last axis.

    A species may stand on both sides, as V in U + 2 V -> 3 V. Raises ValueError for a number
    below 1 and for a reaction that changes nothing.
    """

    left: tuple[tuple[int, int], ...]
    right: tuple[tuple[int, int], ...]
    reversible: bool = False

    def __post_init__(self) -> None:
        if any(n < 1 for _, n in (*self.left, *self.right)):
            raise ValueError("stoichiometric numbers are whole numbers from 1 upwards")
        if not self.net:
            raise ValueError("a reaction must change the amount of at least one species")

    @cached_property
    def net(self) -> dict[int, int]:
        """Species -> molecules gained in one event, without those that stay as they are."""
        gain: dict[int, int] = {}
        for side, sign in ((self.left, -1), (self.right, 1)):
            for species, number in side:
                gain[species] = gain.get(species, 0) + sign * number
        return {species: number for species, number in sorted(gain.items()) if number}


def product_and_slope(c: dict[int, Array], side: tuple, net: dict[int, int]):
    """The product of powers of one side, and its derivative by the extent."""
    powers: dict[int, int] = {}
    for species, number in side:
        powers[species] = powers.get(species, 0) + number
    product: Array | float = 1.0
    slope: Array | float = 0.0
    for species, power in powers.items():
        own = c[species] ** power
        own_slope = power * net.get(species, 0) * c[species] ** (power - 1)
        product, slope = product * own, slope * own + product * own_slope
    return product, slope


def growth(z: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """phi1(z) = (exp(z) - 1) / z, accurate at and near 0."""
    small = jnp.abs(z) < 1e-4
    safe = jnp.where(small, 1, z)
    return jnp.where(small, 1 + z / 2, jnp.expm1(safe) / safe)


def extent_of(c: dict[int, Array], reaction: MassAction, forward, backward, h) -> Array:
    """How far one reaction runs in a time h."""
    gain, slope = product_and_slope(c, reaction.left, reaction.net)
    rate, jacobian = forward * gain, forward * slope
    if reaction.reversible:
        loss, slope = product_and_slope(c, reaction.right, reaction.net)
        rate, jacobian = rate - backward * loss, jacobian - backward * slope
    extent = h * growth(jnp.minimum(h * jacobian, LARGEST_GROWTH)) * rate
    for species, number in reaction.net.items():
        limit = c[species] / abs(number)
        extent = jnp.minimum(extent, limit) if number < 0 else jnp.maximum(extent, -limit)
    return extent


def react(c: dict[int, Array], reaction: MassAction, forward, backward, h) -> dict[int, Array]:
    """Concentrations (molar) after one reaction has run for a time h."""
    # A unit of its own: otherwise it would be computed anew for each species.
    extent = boundary(always(forward), lambda: extent_of(c, reaction, forward, backward, h))
    # A reactant that is used up may end a rounding error below zero.
    changed = {s: jnp.maximum(c[s] + n * extent, 0) for s, n in reaction.net.items()}
    return {**c, **changed}


def changed_species(
    u: Float[Array, "*voxels S"],
    reactions: tuple[MassAction, ...],
    forward: Float[Array, "R"],
    backward: Float[Array, "R"],
    factor: Float[Array, "S"],
    dt: Float[Array, ""] | float,
    *,
    substeps: int = 1,
) -> dict[int, tuple[Float[Array, "*voxels"], Float[Array, "*voxels"]]]:
    """Before and after a time `dt`: the species that the reactions change; arguments as
    `step_reactions`."""
    if not reactions:
        return {}
    touched = sorted({s for r in reactions for s in r.net})
    read = sorted({s for r in reactions for s, _ in (*r.left, *r.right)})
    # Read from among all species once: what lies so far apart takes long to read.
    picked = boundary(always(u), lambda u: jnp.stack([u[..., s] for s in read]), u)
    before = dict(zip(read, picked, strict=True))
    c = {s: before[s] * factor[s] for s in read}
    h = jnp.asarray(dt, u.dtype) / (2 * substeps)
    there = list(enumerate(reactions))
    for number, reaction in (there + there[::-1]) * substeps:
        c = react(c, reaction, forward[number], backward[number], h)
    return {s: (before[s], c[s] / factor[s]) for s in touched}


def step_reactions(
    u: Float[Array, "*voxels S"],
    reactions: tuple[MassAction, ...],
    forward: Float[Array, "R"],
    backward: Float[Array, "R"],
    factor: Float[Array, "S"],
    dt: Float[Array, ""] | float,
    *,
    substeps: int = 1,
) -> Float[Array, "*voxels S"]:
    """All reactions for a time `dt` (hours), voxel by voxel.

    `factor` takes each species' concentration to molar units (uM); `forward` and `backward` are
    rate constants in powers of uM and hour, `backward` unread where a reaction is not reversible.
    `substeps` divides the step (each runs the reactions in turn for half of it and in reverse
    order for the other half).
    """
    changed = changed_species(u, reactions, forward, backward, factor, dt, substeps=substeps)
    return with_columns(u, {species: column for species, (_, column) in changed.items()})


def with_columns(
    u: Float[Array, "*voxels S"], columns: Mapping[int, Float[Array, "*voxels"]]
) -> Float[Array, "*voxels S"]:
    """`u` with other concentrations of some species: written one by one on CPU, and in one pass on
    a GPU, where writing one moves all."""
    if on_cpu():
        for species, column in columns.items():
            u = u.at[..., species].set(column)
        return u
    number = lax.broadcasted_iota(jnp.int32, u.shape, u.ndim - 1)
    for species, column in columns.items():
        u = jnp.where(number == species, column[..., None], u)
    return u
