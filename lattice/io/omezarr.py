"""Snapshots as OME-Zarr (OME-NGFF 0.4), which napari, Fiji and web viewers open."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from lattice.io.files import explain_os_error, sync_folder
from lattice.io.optional import require
from lattice.io.runread import RunFile

VERSION = "0.4"
SMALLEST = 64  # voxels: no coarser copy of an image that fits into this
COLORS = ("FF6F59", "4C9BE8", "F2C14E", "6FBF73", "B98EFF", "5ED1D1", "E88BC4", "C9C9C9")
AXES = [
    {"name": "t", "type": "time", "unit": "hour"},
    {"name": "c", "type": "channel"},
    *({"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"),
]
LABELS = ("cells", "bone")


def export_ome_zarr(run: RunFile, target: Path) -> None:
    """Writes the folder `target`: float arrays as channels, cells and bone as labels.

    Times are taken as evenly spaced, as the format wants; the exact ones are in the attribute
    "times_h". Raises InputError without the package zarr, StorageError when the disk refuses.
    """
    zarr = require("zarr", "--to ome-zarr", "export")
    temporary = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        _write(zarr, run, temporary)
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise explain_os_error(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(zarr: Any, run: RunFile, path: Path) -> None:
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    labels = [name for name in LABELS if name in run.arrays]
    channels = [name for name in run.arrays if name not in LABELS] or labels[:1]
    image = _Pyramid(root, run, len(channels), np.dtype(np.float32))
    masks = {}
    if labels:
        folder = root.create_group("labels")
        folder.attrs.put({"labels": labels})
        masks = {
            name: _Pyramid(folder.create_group(name), run, 1, np.dtype(np.uint8)) for name in labels
        }
    highest = dict.fromkeys(channels, 0.0)
    for index in range(len(run.times)):
        arrays = run.snapshot(index)
        for c, name in enumerate(channels):
            image.put(index, c, arrays[name].astype(np.float32))
            highest[name] = max(highest[name], float(arrays[name].max()))
        for name, mask in masks.items():
            mask.put(index, 0, arrays[name])
    root.attrs.put(
        {
            "multiscales": [image.metadata("run")],
            "omero": {"channels": _channels(highest)},
            "times_h": list(run.times),
            "units": run.arrays,
        }
    )
    for name, mask in masks.items():
        names = run.states if name == "cells" else ("marrow", "bone")
        mask.group.attrs.put({"multiscales": [mask.metadata(name)], "image-label": _label(names)})


class _Pyramid:
    """An image at several resolutions, each half as fine as the one before."""

    def __init__(self, group: Any, run: RunFile, channels: int, dtype: np.dtype):
        assert run.shape is not None, "export refuses runs without snapshots"
        self.group = group
        self.voxel = run.voxel_um or 1.0
        times = run.times
        self.interval = (max(times) - min(times)) / (len(times) - 1) if len(times) > 1 else 1.0
        self.start = min(times)
        self.levels = [
            group.create_array(
                str(level),
                shape=(len(times), channels, *shape),
                chunks=(1, 1, *(min(n, SMALLEST) for n in shape)),
                dtype=dtype,
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
            for level, shape in enumerate(_halved(run.shape[::-1]))
        ]

    def put(self, index: int, channel: int, values: np.ndarray) -> None:
        """Fills one volume ``[z, y, x]`` at all resolutions: means, or of labels one of eight."""
        for level in self.levels:
            level[index, channel] = values
            z, y, x = (n // 2 for n in values.shape)
            even = values[: 2 * z, : 2 * y, : 2 * x]
            if values.dtype.kind == "f":
                values = even.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5))
            else:
                values = even[::2, ::2, ::2]

    def metadata(self, name: str) -> dict[str, Any]:
        """The entry of "multiscales"."""
        datasets = []
        for i, level in enumerate(self.levels):
            voxel = self.voxel * 2**i
            shift = (voxel - self.voxel) / 2 if level.dtype.kind == "f" else 0.0
            transform = [
                {"type": "scale", "scale": [self.interval, 1.0, voxel, voxel, voxel]},
                {"type": "translation", "translation": [self.start, 0.0, shift, shift, shift]},
            ]
            datasets.append({"path": str(i), "coordinateTransformations": transform})
        return {"version": VERSION, "name": name, "axes": AXES, "datasets": datasets}


def _halved(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    shapes = [shape]
    while max(shapes[-1]) > SMALLEST and min(shapes[-1]) > 1:
        shapes.append(tuple(n // 2 for n in shapes[-1]))
    return shapes


def _channels(highest: dict[str, float]) -> list[dict[str, Any]]:
    found = []
    for i, (name, high) in enumerate(highest.items()):
        window = {"min": 0.0, "start": 0.0, "max": high or 1.0, "end": high or 1.0}
        color = COLORS[i % len(COLORS)]
        found.append({"label": name, "color": color, "window": window, "active": i == 0})
    return found


def _label(names: tuple[str, ...]) -> dict[str, Any]:
    colors, properties = [], []
    for value, name in enumerate(names):
        code = COLORS[(value - 1) % len(COLORS)]
        rgb = [int(code[i : i + 2], 16) for i in (0, 2, 4)]
        colors.append({"label-value": value, "rgba": [*rgb, 255 if value else 0]})
        properties.append({"label-value": value, "name": name})
    return {
        "version": VERSION,
        "colors": colors,
        "properties": properties,
        "source": {"image": "../../"},
    }
