"""What a compiled step depends on, apart from numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from lattice.engine import fields
from lattice.engine.region import Region
from lattice.engine.table import Table, lower
from lattice.model.structure import Model


@dataclass(frozen=True)
class Plan:
    """All that a compiled step depends on, apart from numbers: static and hashable.

    `capacity`: length of the lists of active voxels (speed only). `field_every`: steps per field
    solve; `field_repeats`: solves per step; one of them is 1."""

    model: Model  # the structure
    region: Region
    method: fields.FieldMethod
    capacity: int
    contacts: int
    field_every: int
    field_repeats: int

    @property
    def table(self) -> Table:
        """The rule table."""
        return lower(self.model)


def plan_of(model: Model, region: Region, capacity: int, iterations: int | None = None) -> Plan:
    """The plan for a model on a region. Time steps have been checked to divide each other.

    `iterations` of each field solve replace those of the model file (gradients need more)."""
    time, solver = model.time, model.solver
    automatic = solver.scheme == "auto"
    exact = automatic and fields.has_constant_coefficients(model)
    scheme = _cheapest_scheme(model) if automatic else solver.scheme
    every = max(1, round(time.field_step / time.step))
    repeats = max(1, round(time.step / time.field_step))
    contacts = max(1, round(time.step / time.contact_step))
    method = fields.FieldMethod(exact, scheme, iterations or solver.iterations, time.field_step)
    return Plan(model.structure, region, method, capacity, contacts, every, repeats)


def _cheapest_scheme(model: Model) -> str:
    """The time scheme that keeps the error of half-hour steps below 1e-3.

    Two poles do so for sources outside bone. Where cells inside bone secrete, diffusion away from
    them is slow, and changes of these sources need the third pole."""
    inside = any(s.secretes and "bone" in s.lives for s in model.states)
    everywhere = any(
        i.kind == "source" and i.where in ("bone", "everywhere") for i in model.interventions
    )
    return "three_poles" if inside or everywhere else "two_poles"


def matching_orders(shape: tuple[int, int, int]) -> np.ndarray:
    """All orders of the matchings (axis * 2 + parity) of the axes with more than one voxel."""
    codes = [2 * axis + parity for axis in range(3) if shape[axis] > 1 for parity in (0, 1)]
    return np.array(list(permutations(codes)), np.int32).reshape(-1, len(codes))
