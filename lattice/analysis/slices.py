"""Figures of planes through the lattice: bone and cells, and cytokines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lattice.analysis.style import (
    BONE_GREY,
    FIELD_COLOURS,
    INK,
    MUTED,
    OSTEOID_TAN,
    new_figure,
    scale_bar,
)
from lattice.model.structure import EMPTY


@dataclass(frozen=True)
class Plane:
    """A slice: the index of the axis across it in [z, y, x] and the names of its two axes."""

    axis: int
    across: str
    down: str
    right: str


PLANES = (Plane(0, "z", "y", "x"), Plane(1, "y", "z", "x"), Plane(2, "x", "z", "y"))


def planes_of(shape: Sequence[int]) -> list[Plane]:
    """The planes worth showing: one for a lattice that is a single layer, else three."""
    thin = [p for p in PLANES if shape[p.axis] == 1]
    return thin[:1] or list(PLANES)


def cut(array: Shaped[np.ndarray, "Z Y X ..."], plane: Plane) -> Shaped[np.ndarray, "A B ..."]:
    """The middle plane of an array."""
    return np.take(array, array.shape[plane.axis] // 2, axis=plane.axis)


def figure_slices(
    snapshot: Mapping[str, np.ndarray],
    states: Sequence[str],
    colours: Mapping[str, str],
    voxel_um: float,
    moment: str,
    field: str | None = None,
    unit: str = "",
    norm: Normalize | None = None,
) -> Figure:
    """Bone and cells in the middle planes and, below, one cytokine (`field`, in `unit`)."""
    shape = next(iter(snapshot.values())).shape
    planes = planes_of(shape)
    rows = ["cells"] * ("cells" in snapshot or "bone" in snapshot) + ["field"] * (field is not None)
    figure = new_figure(3.4 * len(planes) + 2.6, 3.6 * len(rows) + 0.5)
    grid = figure.subplots(len(rows), len(planes), squeeze=False)
    for row, kind in zip(grid, rows, strict=True):
        for ax, plane in zip(row, planes, strict=True):
            if kind == "cells":
                image = composite(snapshot, plane, states, colours)
                _show(ax, image, plane, shape, voxel_um)
            elif field is not None:
                shown = _show(ax, cut(snapshot[field], plane), plane, shape, voxel_um, norm)
                _outline(ax, snapshot, plane, voxel_um)
            scale_bar(ax, ax.get_xlim()[1])
        if kind == "cells":
            _legend(figure, snapshot, planes, states, colours)
        else:
            bar = figure.colorbar(shown, ax=row[-1], location="right", fraction=0.05, pad=0.03)
            bar.set_label(f"{field} ({unit})", fontsize=9)
            bar.ax.tick_params(labelsize=8)
    figure.suptitle(_title(rows, field, moment), fontsize=10, x=0.01, ha="left")
    return figure


def _title(rows: Sequence[str], field: str | None, moment: str) -> str:
    parts = {"cells": "bone and cells", "field": f"the concentration of {field}"}
    text = " (top) and ".join(parts[r] for r in rows) + (" (bottom)" if len(rows) == 2 else "")
    return f"{text[0].upper()}{text[1:]} in the middle planes, {moment}"


def composite(
    snapshot: Mapping[str, np.ndarray],
    plane: Plane,
    states: Sequence[str],
    colours: Mapping[str, str],
) -> Float[np.ndarray, "A B 3"]:
    """One plane as colours: white marrow, grey mineral, tan osteoid (paler where a voxel is only
    partly filled), and each cell in the colour of its state."""
    some = cut(next(iter(snapshot.values())), plane)
    image = np.ones((*some.shape, 3))
    mineral, osteoid = _matrix(snapshot, plane, some.shape)
    for amount, colour in ((mineral, BONE_GREY), (osteoid, OSTEOID_TAN)):
        image -= np.clip(amount, 0, 1)[..., None] * (1 - np.array(colour))
    if "cells" in snapshot:
        table = np.array([to_rgb(colours.get(s, "white")) for s in states])
        codes = cut(snapshot["cells"], plane)
        cell = np.isin(codes, [i for i, s in enumerate(states) if s != EMPTY])
        image[cell] = table[codes[cell]]
    return np.clip(image, 0, 1)


def _matrix(snapshot: Mapping[str, np.ndarray], plane: Plane, shape) -> tuple[np.ndarray, ...]:
    """Mineral and osteoid fractions in a plane; without matrix, bone counts as mineral."""
    nothing = np.zeros(shape)
    if "mineral" in snapshot or "osteoid" in snapshot:
        return tuple(
            cut(snapshot[n], plane) if n in snapshot else nothing for n in ("mineral", "osteoid")
        )
    return (cut(snapshot["bone"], plane) if "bone" in snapshot else nothing), nothing


def _show(ax: Axes, image: np.ndarray, plane: Plane, shape, voxel_um: float, norm=None):
    height, width = (n * voxel_um for n in image.shape[:2])
    shown = ax.imshow(
        image,
        origin="lower",
        extent=(0, width, 0, height),
        interpolation="nearest",
        cmap=FIELD_COLOURS,
        norm=norm,
    )
    at = (shape[plane.axis] // 2 + 0.5) * voxel_um
    ax.set_title(f"plane {plane.across} = {at:g} µm", fontsize=9, color=INK)
    ax.set_xlabel(f"{plane.right} (µm)", fontsize=8)
    ax.set_ylabel(f"{plane.down} (µm)", fontsize=8)
    ax.tick_params(labelsize=7, color=MUTED)
    for spine in ax.spines.values():
        spine.set_color(MUTED)
    return shown


def _outline(ax: Axes, snapshot: Mapping[str, np.ndarray], plane: Plane, voxel_um: float) -> None:
    """The edge of bone over a field."""
    if "bone" not in snapshot:
        return
    bone = cut(snapshot["bone"], plane).astype(float)
    if bone.min() == bone.max() or min(bone.shape) < 2:
        return
    x, y = ((np.arange(n) + 0.5) * voxel_um for n in bone.shape[::-1])
    ax.contour(x, y, bone, levels=[0.5], colors="white", linewidths=0.9)


def _legend(figure: Figure, snapshot, planes, states, colours) -> None:
    """Names of the states that the planes show, and of the shades of matrix."""
    entries = []
    if any(n in snapshot for n in ("bone", "mineral")):
        entries.append(Patch(facecolor=BONE_GREY, edgecolor=MUTED, label="mineralised bone"))
    if "osteoid" in snapshot:
        entries.append(Patch(facecolor=OSTEOID_TAN, edgecolor=MUTED, label="osteoid"))
    entries.append(Patch(facecolor="white", edgecolor=MUTED, label="no cell"))
    if "cells" in snapshot:
        seen = np.unique(np.concatenate([cut(snapshot["cells"], p).ravel() for p in planes]))
        named = [s for i, s in enumerate(states) if s != EMPTY and i in seen]
        entries += [Patch(facecolor=colours[s], edgecolor=MUTED, label=s) for s in named]
    figure.legend(
        handles=entries, loc="outside right upper", fontsize=8, frameon=False, handlelength=1.0
    )


def shared_norm(arrays: Sequence[np.ndarray]) -> Normalize:
    """One colour scale for a field at several times: logarithmic if it spans a factor of 20."""
    values = np.concatenate([a[np.isfinite(a)].ravel() for a in arrays])
    high = float(values.max(initial=0.0))
    positive = values[values > 0]
    if positive.size and high > 0:
        low = max(float(np.quantile(positive, 0.01)), high * 1e-5)
        if high > 20 * low:
            return LogNorm(low, high, clip=True)
    bottom = float(values.min(initial=high))
    return Normalize(bottom, high if high > bottom else bottom + 1.0)


def figure_fields(
    snapshot: Mapping[str, np.ndarray],
    units: Mapping[str, str],
    voxel_um: float,
    moment: str,
) -> Figure:
    """Every cytokine (the keys of `units`) in one middle plane, each on its own colour scale."""
    shape = next(iter(snapshot.values())).shape
    plane = planes_of(shape)[0]
    columns = min(3, len(units))
    rows = -(-len(units) // columns)
    figure = new_figure(3.9 * columns, 3.2 * rows + 0.5)
    # The plain layout lets labels of images, whose aspect is fixed, run into each other.
    figure.set_layout_engine("compressed")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in grid[len(units) :]:
        ax.set_axis_off()
    for ax, (name, unit) in zip(grid, units.items(), strict=False):
        values = cut(snapshot[name], plane)
        shown = _show(ax, values, plane, shape, voxel_um, shared_norm([values]))
        _outline(ax, snapshot, plane, voxel_um)
        scale_bar(ax, ax.get_xlim()[1])
        ax.set_title(name, fontsize=10)
        bar = figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.03)
        bar.set_label(unit, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    at = (shape[plane.axis] // 2 + 0.5) * voxel_um
    edge = "; white line: edge of bone" if "bone" in snapshot else ""
    title = f"Each cytokine in the plane {plane.across} = {at:g} µm, {moment}{edge}"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure
