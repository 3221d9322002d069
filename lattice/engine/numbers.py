"""The numbers of a model as one traced vector, addressed by dotted name."""

from __future__ import annotations

from collections.abc import Iterable
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

    One compiled step serves every value; gradients are taken with respect to `values`.
    """

    values: Float[Array, "P"]
    names: tuple[str, ...] = field(metadata={"static": True})

    def __getitem__(self, name: str) -> Float[Array, ""]:
        # A static slice: indexing with brackets would trace bounds checks, hundreds of times.
        return jax.lax.index_in_dim(self.values, self.names.index(name), keepdims=False)

    def scaled(self, names: Iterable[str], factors: Float[Array, "K"]) -> Numbers:
        """The numbers with some of them multiplied (a name may occur more than once)."""
        values = self.values
        for position, name in enumerate(names):
            values = values.at[self.names.index(name)].multiply(factors[position])
        return Numbers(values, self.names)


def numbers_of(model: Model, dtype: type = np.float32) -> Numbers:
    """The numbers of a model, sorted by name so that the order in the file changes nothing."""
    items = sorted(model.values.items())
    values = np.asarray([v for _, v in items], np.float64).astype(dtype)
    return Numbers(jnp.asarray(values), tuple(name for name, _ in items))
