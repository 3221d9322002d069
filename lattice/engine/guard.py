"""Whether a state can be right: what no step may ever make, found on the device and named here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from lattice.engine.declare import MATRIX_ONE, local_cytokines, systemic_cytokines
from lattice.engine.fields import region_sum
from lattice.engine.matrix import matrix_total
from lattice.engine.region import Region
from lattice.engine.residual import TOLERANCE, Left, errors
from lattice.model.structure import Cytokine, Model

_GROWTH = (
    "its sources outgrow what leaves, or a reaction feeds itself: look at the rates of secretion, "
    "production and reactions"
)
_SOLVE = (
    "the field solve failed (write a shorter time.field_step or more solver.iterations), or the "
    "field grew without bound before (look at the rates of secretion, production and reactions)"
)
_ITERATIONS = (
    "the iterations did not reach their error: go on with `resume --set solver.iterations=N`, N "
    "more than now, or start again with a shorter time.field_step"
)
_MEMORY = (
    "no rule can do this, so memory of this machine or device is at fault, or the program: go on "
    "elsewhere, and report it if it happens again"
)


@dataclass(frozen=True)
class Fault:
    """A value that cannot be right: of which field, in which voxel (x, y, z; None for a
    compartment), how many voxels are wrong, and the likely cause."""

    field: str
    value: float
    unit: str
    voxel: tuple[int, int, int] | None
    count: int
    cause: str

    def __str__(self) -> str:
        where = ""
        if self.voxel is not None:
            where = f" in voxel (x, y, z) = {self.voxel}"
            where += f", the first of {self.count} such voxels" if self.count > 1 else ""
        return f"{self.field} is {f'{self.value:g} {self.unit}'.strip()}{where}"


def is_sound(model: Model, region: Region, state: Mapping[str, Array]) -> Bool[Array, ""]:
    """Whether all values lie where values can lie, on all blocks."""
    wrong = [state["cells"] >= len(model.states)]
    if "bone" in state:
        wrong.append(state["bone"] > 1)
    for name in ("cytokines", "systemic"):
        if name in state:
            wrong.append(~((state[name] >= 0) & (state[name] < jnp.inf)))
    if "osteoid" in state:
        osteoid, mineral = state["osteoid"], state["mineral"]
        wrong += [osteoid < 0, mineral < 0, matrix_total(osteoid, mineral) > MATRIX_ONE]
    found = sum(jnp.any(w).astype(jnp.int32) for w in wrong)
    return region_sum(jnp.asarray(found), region) == 0


def first_fault(model: Model, state: Mapping[str, np.ndarray]) -> Fault | None:
    """The first value of a state in host arrays that cannot be right."""
    return next(_faults(model, state), None)


def first_unsolved(model: Model, left: Left) -> Fault | None:
    """The field whose last solve has left most of an error, if that is too much (host arrays)."""
    found = errors(left)
    if np.all(found <= TOLERANCE):
        return None
    i = int(np.argmax(np.nan_to_num(found, nan=np.inf)))
    x, y, _ = model.lattice.shape
    place = int(left.place[i])
    voxel = (place % x, place // x % y, place // (x * y))
    name = f"the error that the field solve left of {local_cytokines(model)[i].name}"
    return Fault(name, found[i], f"of it ({TOLERANCE:g} is allowed), most", voxel, 1, _ITERATIONS)


def _faults(model: Model, state: Mapping[str, np.ndarray]) -> Iterator[Fault]:
    for i, cytokine in enumerate(local_cytokines(model)):
        yield from _of_cytokine(cytokine, state["cytokines"][..., i])
    for i, cytokine in enumerate(systemic_cytokines(model)):
        yield from _of_cytokine(cytokine, state["systemic"][i])
    if "osteoid" in state:
        stages = np.moveaxis(state["osteoid"], 1, 0)
        parts = {f"osteoid of stage {k}": stage for k, stage in enumerate(stages, 1)}
        parts["mineral"] = state["mineral"]
        for name, part in parts.items():
            yield from _at(part < 0, name, part / MATRIX_ONE, "of a full voxel", _MEMORY)
        total = sum(part.astype(np.int64) for part in parts.values())
        name, amount = "matrix (osteoid and mineral)", total / MATRIX_ONE
        yield from _at(total > MATRIX_ONE, name, amount, "of a full voxel", _MEMORY)
    cells = state["cells"]
    known = f"(a model with {len(model.states)} states)"
    yield from _at(cells >= len(model.states), "the code of the cell", cells, known, _MEMORY)
    if "bone" in state:
        yield from _at(state["bone"] > 1, "bone", state["bone"], "", _MEMORY)


def _of_cytokine(cytokine: Cytokine, values) -> Iterator[Fault]:
    unit = "ng/mL" if cytokine.amount == "mass" else "uM"
    # In the order of what comes first: a field that has grown without bound turns to NaN.
    yield from _at(values == np.inf, cytokine.name, values, unit, _GROWTH)
    yield from _at(np.isnan(values), cytokine.name, values, unit, _SOLVE)
    yield from _at(values < 0, cytokine.name, values, unit, _MEMORY)


def _at(wrong, field: str, values, unit: str, cause: str) -> Iterator[Fault]:
    """The fault at the first voxel of a mask, if there is one."""
    if not np.any(wrong):
        return
    place = tuple(int(k) for k in np.unravel_index(int(np.argmax(wrong)), np.shape(wrong)))
    voxel = (place[2], place[1], place[0]) if place else None
    yield Fault(field, float(np.asarray(values)[place]), unit, voxel, int(np.sum(wrong)), cause)
