"""What a run reports of its state: counts, matrix, cytokines, running totals.

Counts and matrix are integers and exact. Names and units are those of `/series` in a run file.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lattice.engine.declare import (
    MATRIX_ONE,
    extents,
    has_bone,
    local_cytokines,
    systemic_cytokines,
)
from lattice.engine.fields import region_sum
from lattice.engine.matrix import row_sums
from lattice.engine.region import Region, over_devices
from lattice.engine.sampled import LOW_LIMB
from lattice.kernels.counting import count_values
from lattice.kernels.fusion import boundary
from lattice.kernels.ordered_sum import sum_lattice
from lattice.model.structure import EMPTY, Model

BUDGET = ("produced", "decayed", "consumed", "reacted")
FLUX = ("formed", "mineralised", "resorbed")


def measure(model: Model, region: Region, state: dict[str, Array]) -> dict[str, Array]:
    """Small arrays from which `series_row` is made; on one block, summed over all."""
    cells = state["cells"]
    counts = count_values(cells, range(len(model.states)))
    found = {"counts": region_sum(counts, region), "step": state["step"]}
    if "bone" in state:
        found["bone"] = region_sum(count_values(state["bone"], (1,)), region)
    for name in ("molecules", "events", "systemic"):
        if name in state:
            found[name] = state[name]
    if "osteoid" in state:
        # Fused with one another, these sums take ten times as long.
        apart = partial(boundary, state["step"] >= 0)
        osteoid = apart(lambda o: row_sums(jnp.sum(o, axis=1, dtype=jnp.int32)), state["osteoid"])
        found["osteoid"] = _limbs(osteoid, region)
        found["mineral"] = _limbs(apart(row_sums, state["mineral"]), region)
        # Blocks beside each other in a plane hold the same totals.
        flux = _flux_words(state["matrix_flux"])
        found["flux"] = over_devices(jax.lax.psum, flux, region, (0,))
    if "cytokines" in state:
        found["cytokine_sum"] = sum_lattice(state["cytokines"], region.blocks)
        found["cytokine_max"] = _extreme(state["cytokines"], region, jnp.max)
        found["cytokine_min"] = _extreme(state["cytokines"], region, jnp.min)
    return found


def _extreme(values, region: Region, reduce):
    # Rows first: a reduction along the last but one axis keeps the vector units busy.
    species = values.shape[-1]
    rows = reduce(values.reshape(-1, values.shape[-2] * species), axis=0)
    found = reduce(rows.reshape(-1, species), axis=0)
    return over_devices(jax.lax.pmax if reduce is jnp.max else jax.lax.pmin, found, region)


def _limbs(rows, region: Region):
    """Lattice sum of `row_sums`, taken apart into words that `_join` puts together."""
    low = jnp.sum(rows & 2047, axis=1, dtype=jnp.uint32)
    high = jnp.sum(rows >> 11, axis=1, dtype=jnp.uint32)
    # Planes are summed as 16-bit halves, which keeps 2**16 planes in 32 bits.
    words = jnp.stack([low & 65535, low >> 16, high & 65535, high >> 16])
    return region_sum(jnp.sum(words, axis=1, dtype=jnp.uint32), region)


def _flux_words(flux):
    """Totals per kind of flux over planes, as sums of 16-bit halves of (fraction, voxels)."""
    words = jnp.stack([flux & 65535, flux >> 16], axis=-1)
    return jnp.sum(words, axis=0, dtype=jnp.uint32)


def _join(words: np.ndarray) -> int:
    """The number that `_limbs` has taken apart."""
    a, b, c, d = (int(w) for w in words)
    return a + (b << 16) + ((c + (d << 16)) << 11)


def series_row(model: Model, measured: dict[str, np.ndarray]) -> dict[str, tuple[float, str]]:
    """Series name -> (value, unit) from host copies of what `measure` gives."""
    nx, ny, nz = model.lattice.shape
    voxel_mm3 = (model.lattice.voxel / 1000.0) ** 3
    voxels = nx * ny * nz
    row: dict[str, tuple[float, str]] = {}
    row["time"] = (float(measured["step"]) * model.time.step, "h")
    for code, state in enumerate(model.states):
        if state.name != EMPTY:
            row[state.name] = (float(measured["counts"][code]), "cells")
    if "bone" in measured:
        volume = int(measured["bone"][0])
        if "osteoid" in measured:
            osteoid, mineral = _join(measured["osteoid"]), _join(measured["mineral"])
            volume = (osteoid + mineral) / MATRIX_ONE
            row["osteoid"] = (osteoid / MATRIX_ONE * voxel_mm3, "mm^3")
            row["mineral"] = (mineral / MATRIX_ONE * voxel_mm3, "mm^3")
            for kind, words in zip(FLUX, measured["flux"], strict=True):
                fraction, whole = (int(w[0]) + (int(w[1]) << 16) for w in words)
                amount = (fraction / MATRIX_ONE + whole) * voxel_mm3
                row[f"matrix.{kind}"] = (amount, "mm^3")
        row["BV/TV"] = (100.0 * volume / voxels, "%")
    _add_cytokines(model, measured, voxels, row)
    if "events" in measured:
        for rule, (low, high) in zip(model.rules, measured["events"], strict=True):
            row[f"events.{rule.name}"] = (float(int(low) + int(high) * LOW_LIMB), "events")
    return row


def series_units(model: Model) -> dict[str, str]:
    """Name -> unit of the series that a run of this model gives, in their order, without a run."""
    sizes = extents(model)
    measured: dict[str, np.ndarray] = {
        "step": np.zeros(()),
        "counts": np.zeros(len(model.states)),
        "cytokine_sum": np.zeros(sizes["cytokine"]),
        "cytokine_max": np.zeros(sizes["cytokine"]),
        "cytokine_min": np.zeros(sizes["cytokine"]),
        "systemic": np.zeros(sizes["systemic"]),
        "molecules": np.zeros((sizes["all_cytokines"], sizes["budget"], sizes["limb"])),
    }
    if has_bone(model):
        measured["bone"] = np.zeros(1)
    if model.matrix is not None:
        measured |= {"osteoid": np.zeros(4), "mineral": np.zeros(4)}
        measured["flux"] = np.zeros((sizes["flux"], sizes["limb"], 2))
    if model.rules:
        measured["events"] = np.zeros((sizes["rule"], sizes["limb"]))
    row = series_row(model, measured)
    return {name: unit for name, (_, unit) in row.items() if name != "time"}


def _add_cytokines(model: Model, measured, voxels: int, row) -> None:
    local, systemic = local_cytokines(model), systemic_cytokines(model)
    levels = {}
    for i, cytokine in enumerate(local):
        mean = float(measured["cytokine_sum"][i]) / voxels
        levels[cytokine.name] = (
            mean,
            float(measured["cytokine_max"][i]),
            float(measured["cytokine_min"][i]),
        )
    for i, cytokine in enumerate(systemic):
        levels[cytokine.name] = (float(measured["systemic"][i]),) * 3
    volume = voxels * model.lattice.voxel**3
    for cytokine in model.cytokines:
        unit = "ng/mL" if cytokine.amount == "mass" else "uM"
        for kind, value in zip(("mean", "max", "min"), levels[cytokine.name], strict=True):
            row[f"{cytokine.name}.{kind}"] = (value, unit)
        # One unit of concentration in one um^3 is 1e-21 g or 1e-21 mol.
        amount, scale = ("fg", 1e-6) if cytokine.amount == "mass" else ("amol", 1e-3)
        present = levels[cytokine.name][0] * volume * scale
        row[f"{cytokine.name}.present"] = (present, amount)
    for position, cytokine in enumerate((*local, *systemic)):
        amount, scale = ("fg", 1e-6) if cytokine.amount == "mass" else ("amol", 1e-3)
        for kind, limbs in zip(BUDGET, measured["molecules"][position], strict=True):
            total = (float(limbs[0]) + float(limbs[1])) * model.lattice.voxel**3 * scale
            row[f"{cytokine.name}.{kind}"] = (total, amount)
