"""The three-dimensional picture: the surface of bone with the cells on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import ndimage
from skimage.measure import marching_cubes

from lattice.analysis.render import Canvas, averaged
from lattice.analysis.style import INK, MUTED, new_figure, round_length
from lattice.model.structure import EMPTY

BONE = np.array([0.87, 0.84, 0.78])
CUT = np.array([0.72, 0.66, 0.58])
AZIMUTH, ELEVATION = 32.0, 24.0
PIXELS, OVERSAMPLE = 800, 2
FINEST = 24  # pixels across a voxel, above which the surface is refined
CELL_RADIUS = 0.6  # voxels


def figure_bone_view(
    snapshot: Mapping[str, np.ndarray],
    states: Sequence[str],
    colours: Mapping[str, str],
    voxel_um: float,
    moment: str,
) -> Figure:
    """Bone with the cells that touch it, seen obliquely from above.

    `snapshot` holds "bone" and, if there are any, "cells", "osteoid" and "mineral"."""
    canvas = _canvas(snapshot["bone"].shape)
    _add_bone(canvas, snapshot)
    shown = _add_cells(canvas, snapshot, states, colours)
    image = averaged(canvas.image(), OVERSAMPLE)
    figure = new_figure(10.5, 8.0)
    ax = figure.add_subplot()
    _edges(ax, canvas, snapshot["bone"].shape, behind=True)
    ax.imshow(image, zorder=2, interpolation="antialiased")
    _edges(ax, canvas, snapshot["bone"].shape, behind=False)
    _axes_and_bar(ax, canvas, snapshot["bone"].shape, voxel_um)
    handles = [
        Line2D(
            [], [], marker="o", linestyle="", markersize=7, color=colours[s], label=f"{s} ({n:,})"
        )
        for s, n in shown.items()
    ]
    if handles:
        ax.legend(
            handles=handles,
            title="cells on bone (number)",
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            fontsize=9,
            title_fontsize=9,
            frameon=False,
        )
    ax.set_axis_off()
    figure.suptitle(
        f"The surface of bone and the cells that touch it, {moment}", fontsize=11, x=0.01, ha="left"
    )
    return figure


def _canvas(shape: tuple[int, int, int]) -> Canvas:
    """A view of the whole lattice; coordinates are voxels (x, y, z) from its corner."""
    az, el = np.radians(AZIMUTH), np.radians(ELEVATION)
    right = np.array([np.cos(az), np.sin(az), 0.0])
    towards = np.array([np.sin(az) * np.cos(el), -np.cos(az) * np.cos(el), np.sin(el)])
    rotation = np.stack([right, np.cross(towards, right), towards])
    corners = np.array(list(product(*((0, n) for n in shape[::-1]))), float)
    seen = (corners - corners.mean(0)) @ rotation.T
    width, height = np.ptp(seen[:, 0]), np.ptp(seen[:, 1])
    scale = OVERSAMPLE * PIXELS / max(width, height)
    margin = 2 * OVERSAMPLE
    size = (int(height * scale) + 2 * margin, int(width * scale) + 2 * margin)
    return Canvas(rotation, scale, size, corners.mean(0))


def _fraction(snapshot: Mapping[str, np.ndarray]) -> np.ndarray:
    """How far each voxel is bone, for a surface that shows partly filled voxels."""
    bone = snapshot["bone"].astype(np.float32)
    if "mineral" not in snapshot or "osteoid" not in snapshot:
        return bone
    return np.clip(snapshot["mineral"] + snapshot["osteoid"], 0, 1).astype(np.float32)


def _add_bone(canvas: Canvas, snapshot: Mapping[str, np.ndarray]) -> None:
    """The surface at half a voxel of bone, closed where the lattice's faces cut bone."""
    smooth = ndimage.gaussian_filter(_fraction(snapshot), 0.7, mode="nearest")
    # Small triangles are drawn fastest, so few voxels are refined first.
    finer = max(1, int(canvas.scale / FINEST))
    fine = np.asarray(ndimage.zoom(smooth, finer, order=1, mode="nearest", grid_mode=True))
    closed = np.pad(fine, 1)
    if not closed.min() < 0.5 < closed.max():
        return
    corners, faces, normals, _ = marching_cubes(closed, 0.5)
    # Padding begins half a voxel too far out for a face that is cut; corner coordinates start at
    # the lattice's corner, half a voxel before the first centre.
    corners = np.clip((corners - 0.5) / finer, 0, np.array(smooth.shape))
    on_face = (corners < 0.3) | (corners > np.array(smooth.shape) - 0.3)
    flat = on_face.any(axis=1) & (np.abs(normals).max(axis=1) > 0.9)
    shade = _openness(smooth, corners)[:, None]
    colour = np.where(flat[:, None], CUT, BONE * shade)
    canvas.triangles(corners[:, ::-1].copy(), faces, normals[:, ::-1].copy(), colour)


def _openness(fraction: np.ndarray, corners: np.ndarray) -> Float[np.ndarray, "V"]:
    """1 on open bone, less in hollows: how much of the neighbourhood is free of bone."""
    near = ndimage.gaussian_filter(fraction, 5.0, mode="constant")
    bone_around = ndimage.map_coordinates(near, (corners - 0.5).T, order=1, mode="nearest")
    return np.clip(1.25 - 0.95 * bone_around, 0.45, 1.0)


def _add_cells(
    canvas: Canvas,
    snapshot: Mapping[str, np.ndarray],
    states: Sequence[str],
    colours: Mapping[str, str],
) -> dict[str, int]:
    """The cells that touch bone on a face, as spheres; returns how many of each state."""
    if "cells" not in snapshot:
        return {}
    bone = snapshot["bone"] != 0
    touching = ndimage.binary_dilation(bone) & ~bone
    shown = {}
    for code, name in enumerate(states):
        if name == EMPTY:
            continue
        at = np.argwhere(touching & (snapshot["cells"] == code))
        if len(at):
            shown[name] = len(at)
            colour = np.tile(to_rgb(colours[name]), (len(at), 1))
            canvas.spheres(at[:, ::-1] + 0.5, CELL_RADIUS, colour)
    return shown


def _pixel(canvas: Canvas, points) -> np.ndarray:
    return canvas.project(np.asarray(points, float))[:, :2] / OVERSAMPLE


def _edges(ax: Axes, canvas: Canvas, shape: tuple[int, int, int], behind: bool) -> None:
    """The twelve edges of the lattice: the three hidden ones behind the picture, faintly."""
    size = np.array(shape[::-1], float)
    corners = np.array(list(product((0, 1), repeat=3)))
    far = corners[np.argmin(canvas.project(corners * size)[:, 2])]
    for start in corners:
        for axis in range(3):
            if start[axis]:
                continue
            end = start.copy()
            end[axis] = 1
            hidden = (start == far).all() or (end == far).all()
            near = (start != far).all() or (end != far).all()
            if near or hidden != behind:
                continue
            line = _pixel(canvas, [start * size, end * size])
            ax.plot(*line.T, color=MUTED, linewidth=0.8, alpha=0.8, zorder=1 if behind else 3)


def _axes_and_bar(ax: Axes, canvas: Canvas, shape: tuple[int, int, int], voxel_um: float) -> None:
    """Names and lengths of the three axes along edges of the box, and a scale bar."""
    nx, ny, nz = shape[::-1]
    pad = 0.07 * max(shape)
    labels = (
        (f"x, {nx * voxel_um:g} µm", (nx / 2, -pad, 0)),
        (f"y, {ny * voxel_um:g} µm", (nx + pad, ny / 2, 0)),
        (f"z, {nz * voxel_um:g} µm", (-pad, -pad * 0.4, nz / 2)),
    )
    turned = {"x": _angle(canvas, (1, 0, 0)), "y": _angle(canvas, (0, 1, 0)), "z": 90}
    for text, at in labels:
        column, row = _pixel(canvas, [at])[0]
        ax.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            color=INK,
            fontsize=9,
            rotation=turned[text[0]],
        )
    height, width = (n / OVERSAMPLE for n in canvas.size)
    length = round_length(nx * voxel_um / 4)
    bar = length / voxel_um * canvas.scale / OVERSAMPLE
    y = height * 1.04
    ax.plot([0, bar], [y, y], color=INK, linewidth=3, solid_capstyle="butt", clip_on=False)
    ax.text(bar / 2, y + 0.015 * height, f"{length:g} µm", ha="center", va="top", fontsize=9)
    ax.set_xlim(-0.04 * width, 1.02 * width)
    ax.set_ylim(1.09 * height, -0.02 * height)


def _angle(canvas: Canvas, direction: tuple[int, int, int]) -> float:
    """How an axis runs in the picture, in degrees, read from left to right."""
    (x0, y0), (x1, y1) = _pixel(canvas, [(0, 0, 0), direction])
    return float(np.degrees(np.arctan2(y0 - y1, x1 - x0)))
