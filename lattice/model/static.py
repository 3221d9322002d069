"""The sections that hold no numbers of the model: lattice, geometry, time, output, solver."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from typing import Any

from .grammar import GEOMETRY_KEYS
from .kinds import did_you_mean
from .numbers import quantity
from .reading import Document
from .setting import Geometry, Lattice, Output, Solver, Time, file_and_volume
from .units import show

__all__ = ["read_geometry", "read_lattice", "read_output", "read_solver", "read_time"]

_MOST_VOXELS = 2**32
_WITHOUT_VOXEL_SIZE = (".tif", ".tiff", ".npy")
_AXES = "xyz"


def read_lattice(document: Document) -> tuple[Lattice, Fraction]:
    """The lattice, and the exact edge of a voxel in um."""
    table = document.tables.get("lattice")
    if table is None:
        raise document.refuse(
            "lattice", "this table is missing; write [lattice] with shape and voxel"
        )
    x, y, z = table["shape"]
    if x * y * z > _MOST_VOXELS:
        problem = f"{x} x {y} x {z} is more than 2**32 voxels; write smaller numbers"
        raise document.refuse("lattice.shape", problem)
    voxel = _length(document, "lattice.voxel", table["voxel"], positive=True)
    boundary = table.get("boundary", "no-flux")
    boundary = [boundary] * 3 if isinstance(boundary, str) else boundary
    for axis, size, kind in zip(_AXES, (x, y, z), boundary, strict=True):
        if kind == "periodic" and size > 1 and size % 2:
            problem = (
                f"the periodic axis {axis} has {size} voxels, an odd number, and cells are paired "
                f"with their neighbours two by two; write {size + 1} in lattice.shape"
            )
            raise document.refuse("lattice.boundary", problem)
    periodic = tuple(kind == "periodic" for kind in boundary)
    return Lattice((x, y, z), float(voxel), (periodic[0], periodic[1], periodic[2])), voxel


def _length(document: Document, key: str, written: Any, *, positive: bool = False) -> Fraction:
    value = quantity(document, key, written, "length")
    if value < 0 or (positive and value == 0) or value > 10**12:
        wanted = "a length above 0" if positive else "a length of 0 or more"
        raise document.refuse(key, f"{show(written)} is out of range; write {wanted}, as 10 um")
    return value


def read_geometry(document: Document) -> Geometry:
    """The bone at the start; only the keys that its kind uses may be there."""
    table = document.tables.get("geometry", {})
    kind = table.get("kind", "image" if "image" in table else "empty")
    needed, allowed = GEOMETRY_KEYS[kind]
    for key in table:
        if key not in (*needed, *allowed, "kind"):
            hint = did_you_mean(key, [*needed, *allowed, "kind"])
            problem = f'a geometry of kind "{kind}" does not use this key; remove it, or {hint}'
            raise document.refuse(f"geometry.{key}", problem)
    for key in needed:
        if key not in table:
            problem = f'a geometry of kind "{kind}" needs this key; write {_GEOMETRY_EXAMPLE[key]}'
            raise document.refuse(f"geometry.{key}", problem)
    values: dict[str, Any] = {"kind": kind}
    for key in ("thickness", "radius", "image_voxel"):
        if key in table:
            values[key] = float(_length(document, f"geometry.{key}", table[key], positive=True))
    if "smooth" in table:
        values["smooth"] = float(_length(document, "geometry.smooth", table["smooth"]))
    if "bone_fraction" in table:
        values["bone_fraction"] = _bone_fraction(document, table["bone_fraction"])
    if "axis" in table:
        values["axis"] = _AXES.index(table["axis"])
    for key in ("count", "largest_component"):
        if key in table:
            values[key] = table[key]
    if kind == "image":
        values |= _image(document, table)
    return Geometry(**values)


_GEOMETRY_EXAMPLE = {
    "bone_fraction": "bone_fraction = 0.2",
    "thickness": 'thickness = "50 um"',
    "radius": 'radius = "100 um"',
    "image": 'image = "bone.tif"',
}


def _bone_fraction(document: Document, written: Any) -> float:
    value = float(quantity(document, "geometry.bone_fraction", written, "number"))
    if not 0 < value < 1:
        problem = f"{show(written)} is not between 0 and 1; write bone_fraction = 0.2"
        raise document.refuse("geometry.bone_fraction", problem)
    return value


def _image(document: Document, table: dict[str, Any]) -> dict[str, Any]:
    key, written = "geometry.image", table["image"]
    expanded = _expand(document, written)
    path = os.path.normpath(os.path.join(document.folder_of(key), expanded))
    if not os.path.exists(file_and_volume(path)[0]):
        problem = f"the image {show(written)} does not exist at {show(path)}; write its path"
        raise document.refuse(key, f"{problem} relative to this file")
    bare = os.path.isdir(path) or path.lower().endswith(_WITHOUT_VOXEL_SIZE)
    if bare and "image_voxel" not in table:
        problem = "this format carries no voxel size; write image_voxel = "
        raise document.refuse("geometry.image_voxel", f'{problem}"19.5 um" (its own value)')
    values: dict[str, Any] = {"image": path}
    if "image_origin" in table:
        x, y, z = (
            float(_length(document, f"geometry.image_origin.{i}", item))
            for i, item in enumerate(table["image_origin"])
        )
        values["image_origin"] = (x, y, z)
    if table.get("threshold", "otsu") != "otsu":
        threshold = quantity(document, "geometry.threshold", table["threshold"], "number")
        if abs(threshold) > 10**30:
            raise document.refuse("geometry.threshold", 'too large; write a grey value or "otsu"')
        values["threshold"] = float(threshold)
    return values


def _expand(document: Document, path: str) -> str:
    """Put the folder named by the environment variable OSTEOLATTICE_DATA into a path."""
    variable = "${OSTEOLATTICE_DATA}"
    if variable not in path:
        return path
    folder = os.environ.get("OSTEOLATTICE_DATA")
    if not folder:
        problem = f"the environment variable in {show(path)} is not set; set it to the folder"
        raise document.refuse("geometry.image", f"{problem} of your images, or write a plain path")
    return path.replace(variable, folder)


def read_time(document: Document) -> tuple[Time, Fraction]:
    """The steps in hours, and the exact step of the cells."""
    table = document.tables.get("time")
    if table is None:
        raise document.refuse("time", 'this table is missing; write [time] and step = "15 min"')
    step, until = (_duration(document, f"time.{k}", table[k]) for k in ("step", "until"))
    field_step, contact_step = (
        _duration(document, f"time.{k}", table[k]) if k in table else step
        for k in ("field_step", "contact_step")
    )
    if not _divides(step, field_step) and not _divides(field_step, step):
        problem = (
            f"{show(table['field_step'])} is neither a multiple nor an integer part of the step "
            f"{show(table['step'])}; write one that is"
        )
        raise document.refuse("time.field_step", problem)
    if not _divides(contact_step, step):
        problem = (
            f"{show(table['contact_step'])} is not an integer part of the step "
            f"{show(table['step'])}; write the step divided by 1, 2, 3, ..."
        )
        raise document.refuse("time.contact_step", problem)
    for key, other in (("field_step", field_step), ("contact_step", contact_step)):
        if max(step / other, other / step) > 10000:
            raise document.refuse(f"time.{key}", "too far from the step; write a nearer time")
    if until / step >= 2**31:
        raise document.refuse("time.until", "more than 2**31 steps; write a longer time.step")
    return Time(float(step), float(until), float(field_step), float(contact_step)), step


def _divides(part: Fraction, whole: Fraction) -> bool:
    """Exactly, but for the rounding of a time such as a third of an hour to a float."""
    ratio = whole / part
    return ratio > Fraction(1, 2) and abs(ratio - round(ratio)) <= ratio * Fraction(1, 10**12)


def _duration(document: Document, key: str, written: Any) -> Fraction:
    value = quantity(document, key, written, "time")
    if not 0 < value <= 10**9:
        raise document.refuse(key, f'{show(written)} is not a usable time; write "15 min" instead')
    return value


def read_output(document: Document, step: Fraction) -> Output:
    """Cadences are whole numbers of steps; by default an hour for series, a day for the rest."""
    table = document.tables.get("output", {})
    cadence = {
        "series": _cadence(document, table, "series", step, Fraction(1)),
        "snapshots": _cadence(document, table, "snapshots", step, Fraction(24)),
        "checkpoints": _cadence(document, table, "checkpoints", step, Fraction(24)),
    }
    if cadence["series"] is None:
        problem = 'the time series is always written; write a time such as "1 day" instead'
        raise document.refuse("output.series", problem)
    others = {k: v for k, v in table.items() if k not in cadence}
    if "fields" in others:
        fields = others["fields"]
        if len(set(fields)) < len(fields):
            raise document.refuse("output.fields", "a field is named twice; write it once")
        others["fields"] = tuple(f for f in Output.fields if f in fields)
    sparing = table.get("checkpoints", "auto") == "auto"
    return Output(**cadence, sparing=sparing, **others | _labels(document, table, step))


def _labels(document: Document, table: dict[str, Any], step: Fraction) -> dict[str, Any]:
    """When labels are given; windows must not overlap, and their ends are recorded."""
    window = table.get("label_window")
    if "labels" not in table:
        if window is not None:
            problem = 'without labels this key does nothing; write labels = ["26 day", "33 day"]'
            raise document.refuse("output.label_window", f"{problem}, or remove it")
        return {}
    lasts = _in_steps(document, "output.label_window", window or "1 day", step)
    first, second = (
        _in_steps(document, f"output.labels.{i}", written, step)
        for i, written in enumerate(table["labels"])
    )
    if first + lasts > second:
        problem = "the second label begins before the first one has ended; write times further"
        raise document.refuse("output.labels", f"{problem} apart, or a shorter label_window")
    if "mineral" not in table.get("fields", Output.fields):
        problem = 'labels are seen in mineral; add "mineral" to this list'
        raise document.refuse("output.fields", problem)
    return {"labels": (float(first), float(second)), "label_window": float(lasts)}


def _in_steps(document: Document, key: str, written: Any, step: Fraction) -> Fraction:
    value = _duration(document, key, written)
    if not _divides(step, value):
        problem = f"{show(written)} is not a multiple of time.step; write one that is"
        raise document.refuse(key, problem)
    return value


def _cadence(
    document: Document, table: dict[str, Any], key: str, step: Fraction, usual: Fraction
) -> float | None:
    if table.get(key) == "never":
        return None
    if key not in table or (key == "checkpoints" and table[key] == "auto"):
        # The step as it is kept, so that a model that was written down is read as the same.
        return math.ceil(usual / step - Fraction(1, 10**9)) * float(step)
    return float(_in_steps(document, f"output.{key}", table[key], step))


def read_solver(document: Document) -> Solver:
    """How the fields are solved."""
    return Solver(**document.tables.get("solver", {}))
