"""What rules sense when a voxel holds a probability for each state instead of one cell."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from lattice.engine.declare import MATRIX_ONE, local_cytokines, systemic_cytokines
from lattice.engine.region import Region, touching
from lattice.engine.signals import hours_of, is_global, sum_of
from lattice.model.errors import InputError
from lattice.model.stages import stage_codes
from lattice.model.structure import Model, Signal


@dataclass(frozen=True)
class MeanView:
    """Signals at every voxel, or at the partner of every voxel, from probabilities."""

    model: Model
    region: Region
    x: Float[Array, "V C"]
    around: dict[str, Array]
    index: Array  # the voxels seen

    def read(self, signal: Signal) -> Float[Array, "V"]:
        """The mean of a signal."""
        of = signal.of or ""
        if signal.kind == "cytokine":
            return self._cytokine(of)
        if signal.kind == "neighbours":
            return self._neighbours(signal.members)[self.index]
        if signal.kind == "density":
            codes = self.model.state_codes()
            value = sum_of([jnp.mean(self.x[:, codes[name]]) for name in signal.members])
        elif signal.kind == "matrix":
            return self.matrix / MATRIX_ONE
        elif signal.kind == "time":
            value = hours_of(self.around["step"], self.model, self.x.dtype)
        else:
            raise InputError("the mean-field reading has no ages")
        return jnp.broadcast_to(value, self.index.shape)

    def is_global(self, signal: Signal) -> bool:
        """Whether a signal is the same everywhere."""
        return is_global(self.model, signal)

    @property
    def matrix(self) -> Float[Array, "V"]:
        """Matrix in fixed-point units, as a real number."""
        total = self.around.get("matrix")
        if total is None:
            return jnp.zeros(self.index.shape, self.x.dtype)
        return total[self.index]

    def _cytokine(self, name: str) -> Array:
        names = [c.name for c in local_cytokines(self.model)]
        if name in names:
            return self.around["cytokines"][self.index, names.index(name)]
        names = [c.name for c in systemic_cytokines(self.model)]
        return jnp.broadcast_to(self.around["systemic"][names.index(name)], self.index.shape)

    def _neighbours(self, names: tuple[str, ...]) -> Array:
        every = jnp.arange(self.x.shape[0], dtype=jnp.int32)
        index, exists = touching(every, self.region)
        if names == ("bone",):
            if "bone" not in self.around:
                return jnp.zeros(every.shape, self.x.dtype)
            values = self.around["bone"].astype(self.x.dtype)
        else:
            codes = self.model.state_codes()
            values = sum_of([self.x[:, codes[name]] for name in names])
        return jnp.sum(jnp.where(exists, values[index], 0), axis=0)

    def clocked(
        self, hazard: Float[Array, "..."], source: int, after: Float[Array, ""], dt: float
    ) -> Float[Array, "..."]:
        """The hazard, and that of a stage of the clock (`lattice.model.stages`)."""
        return hazard + len(stage_codes(self.model, source)) * dt / after

    def may_live(self, places: frozenset[str]) -> Array | bool:
        """Whether a cell that lives in `places` may be in each voxel seen."""
        if "bone" not in self.around:
            return "marrow" in places
        bone = self.around["bone"][self.index] != 0
        surface = ~bone & (self.around["faces"][self.index] > 0)
        inside = bone if "bone" in places else jnp.zeros_like(bone)
        if "marrow" in places:
            return inside | ~bone
        return inside | surface if "surface" in places else inside
