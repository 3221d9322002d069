"""What rules sense in the pair closure: means of each place, and neighbours given the own state."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from lattice.engine.declare import local_cytokines, systemic_cytokines
from lattice.engine.signals import hours_of, is_global, sum_of
from lattice.model.errors import InputError
from lattice.model.stages import stage_codes
from lattice.model.structure import Model, Signal

PLACES = ("marrow", "surface", "bone")
FACES = 6


FAINT = 1e-12
"""A probability below which nobody is there: its square, by which derivatives of quotients divide,
must not vanish in float32."""


@dataclass(frozen=True, eq=False)
class Places:
    """The voxels of a lattice by place. `names`: those that are there; `size` [K] voxels of each;
    `bonds` [K, K] faces from a voxel of the first to one of the second place, each seen from either
    end; `bone_faces` [K, 7] how many voxels have 0..6 bone neighbours."""

    names: tuple[str, ...]
    size: Float[np.ndarray, "K"]
    bonds: Float[np.ndarray, "K K"]
    bone_faces: Float[np.ndarray, "K 7"]

    @property
    def voxels(self) -> float:
        """Voxels of the lattice."""
        return float(self.size.sum())

    def may_live(self, places: frozenset[str]) -> np.ndarray:
        """[K]: whether a cell that lives in `places` may be in each place."""
        allowed = {
            "marrow": "marrow" in places,
            "surface": bool(places & {"marrow", "surface"}),
            "bone": "bone" in places,
        }
        return np.array([allowed[name] for name in self.names])


def count_places(model: Model, bone: UInt8[np.ndarray, "Z Y X"] | None) -> Places:
    """The places of a lattice. Without bone it is marrow, all of it."""
    shape = model.lattice.shape[::-1]
    solid = np.zeros(shape, bool) if bone is None else np.asarray(bone) != 0
    periodic = model.lattice.periodic[::-1]
    sides = [_beside(solid, a, d, periodic[a])[0] for a in range(3) for d in (-1, 1)]
    faces = np.sum(sides, axis=0, dtype=int)
    label = np.where(solid, 2, np.where(faces > 0, 1, 0))
    present = [k for k in range(3) if (label == k).any()]
    bonds = np.zeros((3, 3))
    for axis in range(3):
        for direction in (-1, 1):
            other, exists = _beside(label, axis, direction, periodic[axis])
            np.add.at(bonds, (label[exists], other[exists]), 1)
    histogram = np.zeros((3, FACES + 1))
    np.add.at(histogram, (label, faces), 1)
    size = np.bincount(label.ravel(), minlength=3).astype(float)
    kept = np.ix_(present, present)
    names = tuple(PLACES[k] for k in present)
    return Places(names, size[present], bonds[kept], histogram[present])


def _beside(values: np.ndarray, axis: int, direction: int, periodic: bool):
    """The neighbours' values, and which voxels have one there (0 elsewhere)."""
    extent = values.shape[axis]
    place = np.arange(extent).reshape([-1 if a == axis else 1 for a in range(3)])
    inside = (place + direction >= 0) & (place + direction < extent)
    exists = np.broadcast_to((inside | periodic) & (extent > 1), values.shape)
    return np.where(exists, np.roll(values, -direction, axis), 0), exists


@dataclass(frozen=True, eq=False)
class PlaceView:
    """Signals in each place, as seen by the cells of one state; arrays [K], or as `shape` says.

    `counted`: a signal of neighbours that is read as 0..6 along a first axis; the mean over that
    axis with the weights `odds` is then taken of the whole hazard."""

    model: Model
    places: Places
    state: dict[str, Array]
    code: int
    shape: tuple[int, ...]
    counted: Signal | None = None

    def read(self, signal: Signal) -> Float[Array, "..."]:
        """The mean of a signal."""
        model, of = self.model, signal.of or ""
        if signal.kind == "neighbours":
            if signal == self.counted:
                counts = jnp.arange(FACES + 1, dtype=self.real)
                return counts.reshape(-1, *(1 for _ in self.shape))
            return self.mean_neighbours(signal).reshape(self.shape)
        if signal.kind == "cytokine":
            local = [c.name for c in local_cytokines(model)]
            if of in local:
                return self.state["cytokines"][:, local.index(of)].reshape(self.shape)
            systemic = [c.name for c in systemic_cytokines(model)]
            return jnp.broadcast_to(self.state["systemic"][systemic.index(of)], self.shape)
        if signal.kind == "density":
            codes = model.state_codes()
            cells = self.state["size"] @ self.state["x"] / self.places.voxels
            return jnp.broadcast_to(sum_of([cells[codes[n]] for n in signal.members]), self.shape)
        if signal.kind == "time":
            return jnp.broadcast_to(hours_of(self.state["step"], model, self.real), self.shape)
        raise InputError(f"signal {signal.written}: the pair closure has none of it")

    @property
    def real(self):
        """The type of real numbers."""
        return self.state["x"].dtype

    def mean_neighbours(self, signal: Signal) -> Float[Array, "K"]:
        """Neighbours in the members of a signal around a cell of this state, in each place."""
        if signal.members == ("bone",):
            faces = self.places.bone_faces @ np.arange(FACES + 1)
            return jnp.asarray(faces / self.places.size, self.real)
        codes = self.model.state_codes()
        members = np.array([codes[n] for n in signal.members])
        pairs = jnp.sum(self.state["pairs"][:, :, self.code, members], axis=-1)
        own = self.state["x"][:, self.code]
        degree = degrees(self.places, self.state["size"])
        found = jnp.sum(degree * pairs, axis=1)
        there = own > FAINT
        return jnp.where(there, found / jnp.where(there, own, 1), 0)

    def odds(self) -> Float[Array, "7 ..."]:
        """Probabilities of 0..6 of the counted neighbours: those of the lattice for bone, binomial
        with the mean given the own state for cells."""
        assert self.counted is not None
        if self.counted.members == ("bone",):
            found = (self.places.bone_faces / self.places.size[:, None]).T
            return jnp.asarray(found, self.real).reshape(-1, *self.shape)
        p = jnp.clip(self.mean_neighbours(self.counted) / FACES, 0, 1)
        found = [comb(FACES, n) * p**n * (1 - p) ** (FACES - n) for n in range(FACES + 1)]
        return jnp.stack(found).reshape(-1, *self.shape)

    def is_global(self, signal: Signal) -> bool:
        """Whether a signal is the same everywhere."""
        return is_global(self.model, signal)

    @property
    def matrix(self) -> Array:
        """Surface voxels are never full: those that fill turn to bone at once."""
        return jnp.zeros(self.shape, self.real)

    def may_live(self, places: frozenset[str]) -> Array:
        """Whether a cell that lives in `places` may be in each place."""
        return jnp.asarray(self.places.may_live(places)).reshape(self.shape)

    def clocked(
        self, hazard: Float[Array, "..."], source: int, after: Float[Array, ""], dt: float
    ) -> Float[Array, "..."]:
        """The hazard, and that of a stage of the clock (`lattice.model.stages`)."""
        return hazard + len(stage_codes(self.model, source)) * dt / after


def degrees(places: Places, size: Float[Array, "K"]) -> Float[Array, "K K"]:
    """Neighbours in the second place of a voxel in the first. Faces between places stay as many as
    they were at the start, and so do all the neighbours of a voxel."""
    apart = places.bonds * (1 - np.eye(len(places.size)))
    across = jnp.asarray(apart, size.dtype) / size[:, None]
    every = jnp.asarray(places.bonds.sum(axis=1) / places.size, size.dtype)
    within = jnp.maximum(every - jnp.sum(across, axis=1), 0)
    return across + jnp.diag(within)
