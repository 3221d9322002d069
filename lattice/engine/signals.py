"""What rules sense, read at a list of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int32, UInt8

from lattice.engine.declare import MATRIX_ONE, local_cytokines, systemic_cytokines
from lattice.engine.region import Region, touching
from lattice.model.structure import Model, Signal

CERTAIN = 1.0e3
"""A hazard that surely fires within a step: exp(-1000) is 0 in any float."""


def hours_of(steps: Int32[Array, "..."], model: Model, dtype: DTypeLike) -> Float[Array, "..."]:
    """Steps as hours, too long by a quarter of a millionth: n steps must never round to less than
    the same time as the model file writes it, or a clock would ring a step late."""
    return steps.astype(dtype) * jnp.asarray(model.time.step * (1 + 2.0**-22), dtype)


def sum_of(terms: Sequence[Array]) -> Array:
    """The sum of at least one array, in the order given."""
    return sum(terms[1:], terms[0])


def is_global(model: Model, signal: Signal) -> bool:
    """Whether a signal is the same everywhere: a density, the time, a systemic cytokine."""
    systemic = {c.name for c in systemic_cytokines(model)}
    return signal.kind in ("density", "time") or (
        signal.kind == "cytokine" and signal.of in systemic
    )


@dataclass(frozen=True)
class Surroundings:
    """What a sub-step may read, in padded blocks: cells as they are now, and all that stays the
    same during the step (cytokines, bone, matrix, densities)."""

    model: Model
    region: Region
    cells: UInt8[Array, "V"]
    since: Int32[Array, "V"]
    bone: UInt8[Array, "V"] | None
    bone_faces: UInt8[Array, "V"] | None
    matrix: Int32[Array, "V"] | None
    cytokines: Float[Array, "V S"] | None
    systemic: Float[Array, "T"] | None
    density: Float[Array, "C"]
    step: Int32[Array, ""]

    def at(self, index: Int32[Array, "N"]) -> SiteView:
        """The signals at some voxels."""
        return SiteView(self, jnp.minimum(index, self.region.size - 1))


@dataclass(frozen=True)
class SiteView:
    """Signals at the voxels `index` of a padded block; each is gathered when first asked for."""

    around: Surroundings
    index: Int32[Array, "N"]

    def read(self, signal: Signal) -> Float[Array, "N"]:
        """The value of a signal in its canonical unit."""
        model, around = self.around.model, self.around
        dtype = jnp.float32
        of = signal.of or ""
        if signal.kind == "cytokine":
            return self._cytokine(of)
        if signal.kind == "neighbours":
            return self._neighbours(signal.members)
        if signal.kind == "density":
            codes = model.state_codes()
            value = sum_of([around.density[codes[name]] for name in signal.members])
        elif signal.kind == "age":
            return hours_of(around.step - around.since[self.index], model, dtype)
        elif signal.kind == "matrix":
            return self.matrix.astype(dtype) / MATRIX_ONE
        else:
            value = hours_of(around.step, model, dtype)
        return jnp.broadcast_to(value, self.index.shape)

    def is_global(self, signal: Signal) -> bool:
        """Whether a signal is the same everywhere."""
        return is_global(self.around.model, signal)

    @property
    def matrix(self) -> Int32[Array, "N"]:
        """Matrix in the own voxel, fixed point."""
        return self._matrix

    @cached_property
    def _matrix(self):
        if self.around.matrix is None:
            return jnp.zeros(self.index.shape, jnp.int32)
        return self.around.matrix[self.index]

    def _cytokine(self, name: str) -> Float[Array, "N"]:
        around = self.around
        names = [c.name for c in local_cytokines(around.model)]
        if name in names:
            assert around.cytokines is not None
            return around.cytokines[self.index, names.index(name)]
        names = [c.name for c in systemic_cytokines(around.model)]
        assert around.systemic is not None
        return jnp.broadcast_to(around.systemic[names.index(name)], self.index.shape)

    @cached_property
    def beside(self):
        """Flat indices of the six face neighbours, and which of them exist."""
        return touching(self.index, self.around.region)

    def _neighbours(self, names: tuple[str, ...]) -> Float[Array, "N"]:
        around = self.around
        if names == ("bone",):
            if around.bone_faces is None:
                return jnp.zeros(self.index.shape, jnp.float32)
            return around.bone_faces[self.index].astype(jnp.float32)
        index, exists = self.beside
        codes = around.model.state_codes()
        found = [jnp.sum((around.cells[index] == codes[n]) & exists, axis=0) for n in names]
        return sum_of(found).astype(jnp.float32)

    def clocked(
        self, hazard: Float[Array, "..."], source: int, after: Float[Array, ""], dt: float
    ) -> Float[Array, "..."]:
        """Certain from the age `after` on, else the hazard."""
        return jnp.where(self.read(Signal("age")) >= after, CERTAIN, hazard)

    def may_live(self, places: frozenset[str]) -> Array | bool:
        """Whether a cell that lives in `places` may be in each voxel."""
        around = self.around
        if around.bone is None or around.bone_faces is None:
            return "marrow" in places
        if {"marrow", "bone"} <= places:
            return True
        bone = around.bone[self.index] != 0
        inside = bone if "bone" in places else jnp.zeros_like(bone)
        if "marrow" in places:
            return inside | ~bone
        if "surface" in places:
            return inside | (~bone & (around.bone_faces[self.index] > 0))
        return inside
