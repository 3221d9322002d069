"""The numbers of a model as one traced vector, addressed by dotted name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lattice.model.structure import Model


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Numbers:
    """Values in canonical units: ``numbers["rule.engulf.rate"]`` is a traced scalar.

    One compiled step serves every value. Those in `apart` stand for their entries in `values`: what
    is differentiated stands there, since a derivative with respect to a vector goes through every
    use of every entry of it.
    """

    values: Float[Array, "P"]
    names: tuple[str, ...] = field(metadata={"static": True})
    apart: dict[str, Float[Array, ""]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Float[Array, ""]:
        if name in self.apart:
            return self.apart[name]
        # A static slice: indexing with brackets would trace bounds checks, hundreds of times.
        return jax.lax.index_in_dim(self.values, self.names.index(name), keepdims=False)

    def replaced(self, values: Mapping[str, Float[Array, ""]]) -> Numbers:
        """The numbers with some of them, which then stand apart. Raises ValueError for a name that
        is none of them."""
        for name in values:
            self.names.index(name)
        return Numbers(self.values, self.names, {**self.apart, **values})

    def scaled(self, names: Iterable[str], factors: Iterable[Float[Array, ""]]) -> Numbers:
        """The numbers with some of them multiplied (a name may occur more than once)."""
        found = self
        for name, factor in zip(names, factors, strict=True):
            found = found.replaced({name: found[name] * factor})
        return found


def numbers_of(model: Model, dtype: type = np.float32) -> Numbers:
    """The numbers of a model, sorted by name so that the order in the file changes nothing."""
    items = sorted(model.values.items())
    values = np.asarray([v for _, v in items], np.float64).astype(dtype)
    return Numbers(jnp.asarray(values), tuple(name for name, _ in items))
