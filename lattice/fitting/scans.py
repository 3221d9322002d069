"""Later scans of one bone, compared voxel by voxel with the first one, as data of a fit.

The first scan is the geometry of the model. The data are the volumes that have formed and that have
been resorbed in each layer of its voxels (`lattice.analysis.layers`), in per cent of its bone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, UInt8

from lattice.analysis.layers import (
    Regions,
    changed_in_layers,
    in_bone,
    layer_names,
    layers_of,
)
from lattice.engine.declare import MATRIX_ONE
from lattice.fitting.data import condition_of, hours_of, positive_in
from lattice.fitting.formula import read_formula
from lattice.fitting.structure import Condition, Datum, FirstScan, Observable
from lattice.fitting.tables import Row
from lattice.inference.observables import VoxelClasses
from lattice.model import loads
from lattice.model.errors import InputError
from lattice.model.reading import OVERRIDE
from lattice.model.structure import Model
from lattice.run import bone_of

UNIT = "% of BV"
BONE = "bone."
"""Relaxations give the bone in a layer, sampled runs what two scans of a run show differently."""
GEOMETRY = {
    "image": "geometry.image", "imageVoxel": "geometry.image_voxel",
    "threshold": "geometry.threshold",
}  # fmt: skip
"""Columns of the table of images, and the keys of a model that they stand for."""

LEAST_OVERLAP = 0.5
"""Dice coefficient of two scans below which they are not of one bone, or not registered."""


def scan_observables(regions: Regions) -> tuple[Observable, ...]:
    """Formed and resorbed volume of each layer, in per cent of the bone of the first scan.

    In a relaxation voxels fill and empty in the mean, so that none below the surface changes where
    single voxels do: there the square of what changes at the surface stands in, since a deeper
    voxel comes after the one above it."""
    found = []
    for name in layer_names(regions):
        side, depth, *region = name.split(".")
        formed, surface = side == "marrow", depth == "1"
        words = ["formed" if formed else "resorbed", "at the surface" if surface else "deeper"]
        words += [f"region {r}" for r in region]
        changed, bone = f"changed.{name}", BONE + ".".join([side, "1", *region])
        gain = f"({bone} - initial({bone}))" if formed else f"(initial({bone}) - {bone})"
        surrogate = gain if surface else f"{gain} * {gain} / 100"
        found.append(
            Observable(
                ", ".join(words),
                read_formula(changed, [changed]),
                read_formula(surrogate, [bone]),
                False,
                UNIT,
            )
        )
    return tuple(found)


def with_first_scan(condition: Condition, regions: Regions, osteoid: bool, row: Row) -> Condition:
    """A condition that knows the classes of the voxels of its first scan. Raises InputError for a
    model that no second scan can be compared with."""
    model = condition.model
    if model.geometry.kind != "image":
        raise row.refuse(
            "image", "the model starts with synthetic bone; write the first scan as geometry.image"
        )
    if model.matrix is None:
        raise row.refuse("image", "bone of this model never changes; write a table [matrix]")
    bone = bone_of(model, 0)
    names = tuple(BONE + name for name in layer_names(regions))
    unit = 100.0 / float(np.count_nonzero(bone))
    classes = VoxelClasses(names, layers_of(bone, regions), unit, osteoid)
    return replace(condition, scan=FirstScan(classes, regions))


def scan_data(
    rows: Sequence[Row], conditions: Sequence[Condition], first: int, time_unit: str | None
) -> tuple[Datum, ...]:
    """The data of a table of images; `first` is the place of the first of `scan_observables`.
    Raises InputError naming the line."""
    seen: dict[tuple[int, float], int] = {}
    data = []
    for row in rows:
        c = condition_of(row, conditions)
        hours = hours_of(row, time_unit, conditions[c])
        if hours <= 0:
            raise row.refuse("time", "the scan at the start is geometry.image; write a later time")
        if (c, hours) in seen:
            raise row.refuse(
                "time", f"line {seen[c, hours]} is a scan of this time already; remove one"
            )
        seen[c, hours] = row.line
        scan = conditions[c].scan
        assert scan is not None
        # Without noise of its own a scan is uncertain by a voxel: rare changes scatter by chance.
        noise = scan.classes.unit
        if "noiseParameters" in row.cells:
            noise = positive_in(row, "noiseParameters")
        changed = _changed(row, conditions[c])
        data += [
            Datum(c, first + k, hours, value, 1, noise, row.line) for k, value in changed.items()
        ]
    return tuple(data)


def _changed(row: Row, condition: Condition) -> dict[int, float]:
    """Place of a layer -> its changed volume; layers that hold no voxel are left out."""
    scan, model = condition.scan, condition.model
    assert scan is not None
    labels, unit = scan.classes.labels, scan.classes.unit
    before, after = in_bone(labels), _second_scan(row, model) != 0
    overlap = 2 * np.count_nonzero(before & after) / (before.sum() + after.sum())
    if overlap < LEAST_OVERLAP:
        raise row.refuse(
            "image",
            f"only {100 * overlap:.0f} % of its bone lies where that of the first scan does (Dice "
            "coefficient); register both scans first",
        )
    changed = changed_in_layers(labels, before, after, scan.regions)
    return {int(k): float(unit * changed[k]) for k in np.unique(labels)}


def _second_scan(row: Row, model: Model) -> UInt8[np.ndarray, "Z Y X"]:
    """A scan on the lattice of the model, segmented as the first one but for what the row says."""
    row.need("image")
    changes = [f"{key}={row.cells[c]}" for c, key in GEOMETRY.items() if c in row.cells]
    try:
        return bone_of(loads(model.text, changes, beside=row.path.parent), 0)
    except InputError as error:
        text = str(error).removeprefix(f"{OVERRIDE}: ").removeprefix("geometry.image: ")
        raise row.refuse("image", text) from None


def shown_bone(state: Mapping[str, np.ndarray], osteoid: bool = False) -> Bool[np.ndarray, "Z Y X"]:
    """The voxels of a sampled state that a scanner would show as bone: half full of mineral, or of
    matrix where `osteoid` shows too."""
    filled = state["mineral"].astype(np.int64)
    if osteoid:
        filled = filled + state["osteoid"].sum(axis=1, dtype=np.int64)
    return filled >= MATRIX_ONE // 2


def changed_volumes(
    scan: FirstScan,
    before: Bool[np.ndarray, "Z Y X"],
    after: Bool[np.ndarray, "Z Y X"],
) -> dict[str, float]:
    """What two scans of a sampled run show differently, under the names of `scan_observables`."""
    changed = changed_in_layers(scan.classes.labels, before, after, scan.regions)
    names = (f"changed.{name}" for name in layer_names(scan.regions))
    return {n: float(scan.classes.unit * c) for n, c in zip(names, changed, strict=True)}
