"""Simulations whose cells are put down one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from lattice.engine.simulation import Simulation
from lattice.model.structure import Model

Place = tuple[int, int, int]  # z, y, x


def with_cells(
    model: Model,
    places: Mapping[str, Sequence[Place]],
    *,
    bone: np.ndarray | None = None,
    seed: int = 0,
) -> Simulation:
    """A simulation with cells of the named states at some places (z, y, x), all of age 0."""
    simulation = Simulation(model, seed, bone)
    cells = np.array(simulation.state["cells"])
    codes = model.state_codes()
    for state, where in places.items():
        cells[tuple(np.array(where).T)] = codes[state]
    simulation.state["cells"] = jnp.asarray(cells)
    simulation.state["since"] = jnp.zeros(cells.shape, jnp.int32)
    # Lists of one length, whatever the cells: simulations of one model share their program.
    simulation._capacity = simulation.region.size
    return simulation


def found(simulation: Simulation, state: str) -> set[Place]:
    """Where the cells of a state are."""
    code = simulation.model.state_codes()[state]
    return {tuple(map(int, p)) for p in np.argwhere(simulation.host_state()["cells"] == code)}


def every(step: int, shape: Place) -> list[Place]:
    """A grid of places at least `step` apart, also around the ends of a periodic lattice."""
    axes = [range(0, n - step + 1, step) for n in shape]
    return [(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]


def within(observed: float, trials: float, probability: float, errors: float = 4.0) -> bool:
    """Whether a count of independent events lies within some standard errors of its mean."""
    deviation = np.sqrt(trials * probability * (1 - probability))
    return abs(observed - trials * probability) <= errors * deviation + 1e-9
