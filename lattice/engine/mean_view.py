"""What rules sense when a voxel holds a probability for each state instead of one cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax.numpy as jnp
from jaxtyping import Array, Float

from lattice.engine.declare import MATRIX_ONE, local_cytokines, systemic_cytokines
from lattice.engine.matching import Matching, sum_beside
from lattice.engine.region import Region
from lattice.engine.signals import hours_of, is_global, sum_of
from lattice.model.errors import InputError
from lattice.model.stages import stage_codes
from lattice.model.structure import Model, Signal


@dataclass(frozen=True)
class MeanView:
    """Signals at every voxel from probabilities; each is made once for a view."""

    model: Model
    region: Region
    x: Sequence[Float[Array, "Z Y X"]]  # of each state
    around: dict[str, Array]
    _read: dict[Signal, Array] = field(default_factory=dict)

    def read(self, signal: Signal) -> Float[Array, "Z Y X"]:
        """The mean of a signal."""
        if signal not in self._read:
            self._read[signal] = self._mean(signal)
        return self._read[signal]

    def _mean(self, signal: Signal) -> Float[Array, "Z Y X"]:
        of = signal.of or ""
        if signal.kind == "cytokine":
            return self._cytokine(of)
        if signal.kind == "neighbours":
            return self._neighbours(signal.members)
        if signal.kind == "density":
            codes = self.model.state_codes()
            value = sum_of([jnp.mean(self.x[codes[name]]) for name in signal.members])
        elif signal.kind == "matrix":
            return self.matrix / MATRIX_ONE
        elif signal.kind == "time":
            value = hours_of(self.around["step"], self.model, self.x[0].dtype)
        else:
            raise InputError("the mean-field reading has no ages")
        return jnp.broadcast_to(value, self.x[0].shape)

    def is_global(self, signal: Signal) -> bool:
        """Whether a signal is the same everywhere."""
        return is_global(self.model, signal)

    @property
    def matrix(self) -> Float[Array, "Z Y X"]:
        """Matrix in fixed-point units, as a real number."""
        total = self.around.get("matrix")
        return jnp.zeros(self.x[0].shape, self.x[0].dtype) if total is None else total

    def _cytokine(self, name: str) -> Array:
        names = [c.name for c in local_cytokines(self.model)]
        if name in names:
            return self.around["cytokines"][..., names.index(name)]
        names = [c.name for c in systemic_cytokines(self.model)]
        return jnp.broadcast_to(self.around["systemic"][names.index(name)], self.x[0].shape)

    def _neighbours(self, names: tuple[str, ...]) -> Array:
        if names == ("bone",):
            if "bone" not in self.around:
                return jnp.zeros(self.x[0].shape, self.x[0].dtype)
            return sum_beside(self.around["bone"], self.region).astype(self.x[0].dtype)
        codes = self.model.state_codes()
        return sum_beside(sum_of([self.x[codes[name]] for name in names]), self.region)

    def clocked(
        self, hazard: Float[Array, "..."], source: int, after: Float[Array, ""], dt: float
    ) -> Float[Array, "..."]:
        """The hazard, and that of a stage of the clock (`lattice.model.stages`)."""
        return hazard + len(stage_codes(self.model, source)) * dt / after

    def may_live(self, places: frozenset[str]) -> Array | bool:
        """Whether a cell that lives in `places` may be in each voxel."""
        if "bone" not in self.around:
            return "marrow" in places
        bone = self.around["bone"] != 0
        surface = ~bone & (self.around["faces"] > 0)
        inside = bone if "bone" in places else jnp.zeros_like(bone)
        if "marrow" in places:
            return inside | ~bone
        return inside | surface if "surface" in places else inside


@dataclass(frozen=True)
class PartnerView:
    """What another view sees at the partner of every voxel; signals are 0 where there is none."""

    here: MeanView
    matching: Matching
    _read: dict[Signal, Array] = field(default_factory=dict)
    _lives: dict[frozenset[str], Array | bool] = field(default_factory=dict)

    def read(self, signal: Signal) -> Float[Array, "Z Y X"]:
        """The mean of a signal."""
        if self.is_global(signal):
            return self.here.read(signal)
        if signal not in self._read:
            self._read[signal] = self.matching.partner(self.here.read(signal))
        return self._read[signal]

    def is_global(self, signal: Signal) -> bool:
        """Whether a signal is the same everywhere."""
        return self.here.is_global(signal)

    @property
    def matrix(self) -> Float[Array, "Z Y X"]:
        """Matrix in fixed-point units, as a real number."""
        return self.read(Signal("matrix")) * MATRIX_ONE

    def clocked(
        self, hazard: Float[Array, "..."], source: int, after: Float[Array, ""], dt: float
    ) -> Float[Array, "..."]:
        """As in `MeanView`."""
        return self.here.clocked(hazard, source, after, dt)

    def may_live(self, places: frozenset[str]) -> Array | bool:
        """Whether a cell that lives in `places` may be in each voxel."""
        if places not in self._lives:
            found = self.here.may_live(places)
            self._lives[places] = found if isinstance(found, bool) else self.matching.partner(found)
        return self._lives[places]
