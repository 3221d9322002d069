"""What a reading reports: the columns of a run's series, by their names, from probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt16

from lattice.engine.declare import MATRIX_ONE, has_bone, local_cytokines, systemic_cytokines
from lattice.engine.observe import series_units
from lattice.model.errors import InputError
from lattice.model.kinds import did_you_mean
from lattice.model.structure import EMPTY, Model


@dataclass(frozen=True, eq=False)
class VoxelClasses:
    """A partition of the lattice, of whose classes the bone is asked that a scanner would show.

    `labels` [z, y, x] are places in `names`. `unit`: the volume of a voxel in the unit of the
    observables. `osteoid`: it shows as mineral does (to X-rays it is as soft as marrow)."""

    names: tuple[str, ...]
    labels: UInt16[np.ndarray, "Z Y X"]
    unit: float
    osteoid: bool = False


def known_observables(model: Model) -> dict[str, str]:
    """Name -> unit of the series that every reading gives: counts of the states, BV/TV, osteoid and
    mineral, and the mean and the amount of each cytokine."""
    units = series_units(model)
    states = [s.name for s in model.states if s.name != EMPTY]
    matrix = ["BV/TV", "osteoid", "mineral"]
    means = [f"{c.name}.{kind}" for c in model.cytokines for kind in ("mean", "present")]
    return {name: units[name] for name in (*states, *matrix, *means) if name in units}


def check_observables(
    model: Model, names: Sequence[str], classes: VoxelClasses | None = None
) -> tuple[str, ...]:
    """The names as a tuple. Raises InputError for one that no reading gives."""
    known = [*known_observables(model), *(classes.names if classes else ())]
    if not names:
        raise InputError("no observable is named; write one or more of " + ", ".join(known))
    for name in names:
        if name not in known:
            raise InputError(f'observable "{name}": unknown; {did_you_mean(name, known)}')
    return tuple(names)


def check_parameters(model: Model, names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple. Raises InputError for one that is no number of the model."""
    for name in names:
        if name not in model.values:
            hint = did_you_mean(name, model.values)
            raise InputError(f'parameter "{name}": no number of the model has this name; {hint}')
    return tuple(names)


def read_state(
    model: Model,
    names: Sequence[str],
    state: Mapping[str, Array],
    counts: Float[Array, "C"],
    classes: VoxelClasses | None = None,
) -> Float[Array, "O"]:
    """The named observables of a state over the lattice; `counts` are the cells of each state."""
    found = []
    for name in names:
        if classes is not None and name in classes.names:
            found.append(_in_class(classes, name, state).astype(counts.dtype))
        else:
            found.append(_read(model, name, state, counts))
    return jnp.stack(found)


def _in_class(classes: VoxelClasses, name: str, state: Mapping[str, Array]) -> Float[Array, ""]:
    matrix = state["mineral"] / MATRIX_ONE
    if classes.osteoid:
        matrix = matrix + jnp.sum(state["osteoid"], axis=1) / MATRIX_ONE
    here = jnp.asarray(classes.labels) == classes.names.index(name)
    return classes.unit * jnp.sum(jnp.where(here, matrix, 0))


def _read(model: Model, name: str, state: Mapping[str, Array], counts) -> Float[Array, ""]:
    codes = model.state_codes()
    if name in codes:
        return counts[codes[name]]
    if name in ("BV/TV", "osteoid", "mineral"):
        return _matrix(model, name, state).astype(counts.dtype)
    cytokine, kind = name.rsplit(".", 1)
    local = [c.name for c in local_cytokines(model)]
    if cytokine in local:
        mean = jnp.mean(state["cytokines"][..., local.index(cytokine)])
    else:
        systemic = [c.name for c in systemic_cytokines(model)]
        mean = state["systemic"][systemic.index(cytokine)]
    amount = {c.name: c.amount for c in model.cytokines}[cytokine]
    volume = _voxels(model) * model.lattice.voxel**3
    scale = 1.0 if kind == "mean" else volume * (1e-6 if amount == "mass" else 1e-3)
    return mean.astype(counts.dtype) * scale


def _matrix(model: Model, name: str, state: Mapping[str, Array]) -> Float[Array, ""]:
    """BV/TV in per cent, osteoid and mineral in mm^3, as in `observe.series_row`."""
    if "mineral" not in state:
        assert has_bone(model)
        return 100.0 * jnp.mean(state["bone"].astype(jnp.float32))
    # In voxels before the sum: in units of the fixed point float32 would lose the last cells.
    parts = {k: jnp.sum(state[k] / MATRIX_ONE) for k in ("osteoid", "mineral")}
    if name == "BV/TV":
        return 100.0 * (parts["osteoid"] + parts["mineral"]) / _voxels(model)
    return parts[name] * (model.lattice.voxel / 1000.0) ** 3


def _voxels(model: Model) -> int:
    nx, ny, nz = model.lattice.shape
    return nx * ny * nz
