"""The snapshots of a run as temporal VTKHDF ImageData, which ParaView and VTK open.

A *frame* is the set of arrays ``[z, y, x]`` of one moment. A file holds any number of frames, as
``/VTKHDF/CellData/<name>`` of shape ``(frames, z, y, x)``; see the VTKHDF specification 2.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from lattice.engine.declare import MATRIX_ONE, has_bone, local_cytokines
from lattice.io.datasets import write_array
from lattice.io.files import dataset_in, group_in
from lattice.model.errors import InputError
from lattice.model.setting import Lattice
from lattice.model.structure import Model

GROUP = "VTKHDF"
CELL_DATA = f"{GROUP}/CellData"
ALWAYS = ("bone",)
BUILT_IN = ("cells", "bone", "osteoid", "mineral")


@dataclass(frozen=True)
class ArraySpec:
    """One array of the snapshots: its unit and type in the file."""

    name: str
    unit: str
    dtype: str


def array_specs(model: Model) -> tuple[ArraySpec, ...]:
    """The arrays that `model.output.fields` chooses, and bone where there is any.

    "cytokines" stands for all cytokines that are fields; one of them may be chosen by its name.
    Raises InputError for a name that the model does not have.
    """
    cytokines = {c.name: c for c in local_cytokines(model)}
    for name in cytokines:
        if name in BUILT_IN:
            raise InputError(
                f"cytokine.{name}: the snapshots have an array of that name already: "
                "give the cytokine another name"
            )
    chosen = set(model.output.fields) | set(ALWAYS)
    if unknown := sorted(chosen - {*BUILT_IN, "cytokines", *cytokines}):
        raise InputError(
            f"output.fields: there is no {unknown[0]!r}: choose among "
            f"{', '.join((*BUILT_IN, 'cytokines', *cytokines))}"
        )
    specs = [ArraySpec("cells", "1", "uint8")] if "cells" in chosen else []
    if has_bone(model):
        specs.append(ArraySpec("bone", "1", "uint8"))
    if model.matrix is not None:
        specs += [ArraySpec(n, "1", "float32") for n in ("osteoid", "mineral") if n in chosen]
    for name, cytokine in cytokines.items():
        if name in chosen or "cytokines" in chosen:
            unit = "ng/mL" if cytokine.amount == "mass" else "uM"
            specs.append(ArraySpec(name, unit, "float32"))
    return tuple(specs)


def frame(model: Model, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of `array_specs` from a state, each ``[z, y, x]``.

    Matrix becomes a fraction of the voxel's volume. Precision "float16" keeps the 11 significant
    bits of such a number but the exponents of float32, so that a concentration of 1e-9 survives;
    the zeros that this leaves in each number are what the compression saves.
    """
    index = {c.name: i for i, c in enumerate(local_cytokines(model))}
    arrays = {}
    for spec in array_specs(model):
        if spec.name == "osteoid":
            array = state["osteoid"].sum(axis=1, dtype=np.int64) / np.float32(MATRIX_ONE)
        elif spec.name == "mineral":
            array = state["mineral"] / np.float32(MATRIX_ONE)
        elif spec.name in index:
            array = state["cytokines"][..., index[spec.name]]
        else:
            array = state[spec.name]
        array = np.ascontiguousarray(array, dtype=spec.dtype)
        if array.dtype == np.float32 and model.output.precision == "float16":
            array = _round_to_half(array)
        arrays[spec.name] = array
    return arrays


def _round_to_half(array: np.ndarray) -> np.ndarray:
    """Rounds float32 to 11 significant bits, ties away from zero."""
    dropped = 13  # of the 24 bits of a float32 significand
    bits = array.view(np.uint32)
    rounded = ((bits + np.uint32(1 << (dropped - 1))) >> dropped) << dropped
    finite = np.isfinite(array) & np.isfinite(rounded.view(np.float32))
    return np.where(finite, rounded.view(np.float32), array)


def write_layout(file: h5py.File, lattice: Lattice, times: Sequence[float]) -> h5py.Group:
    """Writes all of ``/VTKHDF`` but the arrays; returns the group for these."""
    nx, ny, nz = lattice.shape
    group = file.create_group(GROUP)
    group.attrs["Version"] = (2, 1)
    # VTK wants a string of fixed length here.
    group.attrs.create("Type", b"ImageData", dtype=h5py.string_dtype("ascii", 9))
    group.attrs["WholeExtent"] = (0, nx, 0, ny, 0, nz)
    group.attrs["Origin"] = (0.0, 0.0, 0.0)
    group.attrs["Spacing"] = (lattice.voxel,) * 3
    group.attrs["Direction"] = np.eye(3).ravel()
    group.attrs["length_unit"] = "um"
    group.attrs["time_unit"] = "hour"
    steps = group.create_group("Steps")
    steps.attrs["NSteps"] = len(times)
    steps["Values"] = np.asarray(times, dtype=np.float64)
    steps.create_group("CellDataOffsets")
    return group.create_group("CellData")


def describe_array(dataset: h5py.Dataset, spec: ArraySpec, states: Sequence[str]) -> None:
    """Writes the attributes of an array and the offsets by which VTK finds its frames."""
    dataset.attrs["unit"] = spec.unit
    if spec.name == "cells":
        dataset.attrs["state_names"] = np.array(states, dtype=h5py.string_dtype())
        dataset.attrs["state_names_json"] = json.dumps(list(states))
    offsets = group_in(dataset.file, f"{GROUP}/Steps/CellDataOffsets")
    offsets[spec.name] = np.arange(dataset.shape[0], dtype=np.int64)


def write_frame(
    file: h5py.File, model: Model, time_h: float, arrays: Mapping[str, np.ndarray]
) -> None:
    """Fills an empty file with one frame."""
    group = write_layout(file, model.lattice, [time_h])
    states = [s.name for s in model.states]
    for spec in array_specs(model):
        data = arrays[spec.name][None]
        dataset = write_array(group, spec.name, data, _compression(model), frames=True)
        describe_array(dataset, spec, states)


def write_block(
    file: h5py.File,
    model: Model,
    arrays: Mapping[str, np.ndarray],
    first: Sequence[int],
    planes: int,
) -> None:
    """Fills an empty file with a block of a frame, which begins at `first` (z, y, x). Blocks that
    lie beside each other are as large along y and x; each has a multiple of `planes` along z."""
    file["first"] = first
    for spec in array_specs(model):
        data = arrays[spec.name][None]
        write_array(file, spec.name, data, _compression(model), frames=True, dividing=planes)


def write_frame_of_blocks(
    file: h5py.File, model: Model, time_h: float, blocks: Sequence[Path]
) -> None:
    """Fills an empty file with the frame that lies in the files of `write_block`. Compressed chunks
    are copied as they are."""
    group = write_layout(file, model.lattice, [time_h])
    states = [s.name for s in model.states]
    for spec in array_specs(model):
        target: h5py.Dataset | None = None
        for path in blocks:
            with h5py.File(path, "r", locking=False) as other:
                source = dataset_in(other, spec.name)
                if target is None:
                    target = _like(group, spec.name, source, (1, *model.lattice.shape[::-1]))
                _copy_chunks(source, target, (0, *dataset_in(other, "first")[()].tolist()), 1)
        assert target is not None
        describe_array(target, spec, states)


def _compression(model: Model) -> str:
    """VTK's own HDF5 lacks the lzf filter (seen with VTK 9.7): lzf is for checkpoints alone."""
    return "none" if model.output.compression == "none" else "gzip"


@dataclass(frozen=True)
class Part:
    """The first `frames` frames of a file that holds some."""

    path: Path
    times: tuple[float, ...]

    @property
    def frames(self) -> int:
        return len(self.times)


def write_virtual(
    file: h5py.File,
    lattice: Lattice,
    specs: Sequence[ArraySpec],
    states: Sequence[str],
    parts: Sequence[Part],
    root: Path,
) -> None:
    """Writes arrays that show the frames of other files, found relative to the folder `root`."""
    times = [t for part in parts for t in part.times]
    group = write_layout(file, lattice, times)
    grid = lattice.shape[::-1]
    for spec in specs:
        layout = h5py.VirtualLayout(shape=(len(times), *grid), dtype=spec.dtype)
        at = 0
        for part in parts:
            name = part.path.relative_to(root).as_posix()
            source = h5py.VirtualSource(
                name, f"{CELL_DATA}/{spec.name}", shape=(part.frames, *grid), dtype=spec.dtype
            )
            layout[at : at + part.frames] = source
            at += part.frames
        describe_array(group.create_virtual_dataset(spec.name, layout), spec, states)


def write_joined(
    file: h5py.File,
    lattice: Lattice,
    specs: Sequence[ArraySpec],
    states: Sequence[str],
    parts: Sequence[Part],
) -> None:
    """Writes the frames of other files into this one, which then stands alone.

    Compressed chunks are copied as they are.
    """
    times = [t for part in parts for t in part.times]
    group = write_layout(file, lattice, times)
    for spec in specs:
        target: h5py.Dataset | None = None
        at = 0
        for part in parts:
            with h5py.File(part.path, "r", locking=False) as other:
                source = dataset_in(other, f"{CELL_DATA}/{spec.name}")
                if target is None:
                    shape = (len(times), *source.shape[1:])
                    target = _like(group, spec.name, source, shape)
                _copy_frames(source, target, at, part.frames)
            at += part.frames
        if target is not None:
            describe_array(target, spec, states)


def _like(
    group: h5py.Group, name: str, source: h5py.Dataset, shape: tuple[int, ...]
) -> h5py.Dataset:
    return group.create_dataset(
        name,
        shape=shape,
        dtype=source.dtype,
        chunks=source.chunks,
        compression=source.compression,
        compression_opts=source.compression_opts,
        shuffle=source.shuffle,
        fletcher32=source.fletcher32,
    )


def _copy_frames(source: h5py.Dataset, target: h5py.Dataset, at: int, frames: int) -> None:
    """Frames of a file that has its chunks where the target has them, or elsewhere, as in a run
    that went on with another number of processes."""
    if source.chunks == target.chunks:
        _copy_chunks(source, target, (at, 0, 0, 0), frames)
        return
    assert target.chunks is not None
    planes = target.chunks[1]
    for frame in range(frames):
        for z in range(0, source.shape[1], planes):
            target[at + frame, z : z + planes] = source[frame, z : z + planes]


def _copy_chunks(
    source: h5py.Dataset, target: h5py.Dataset, at: Sequence[int], frames: int
) -> None:
    for i in range(source.id.get_num_chunks()):
        offset = source.id.get_chunk_info(i).chunk_offset
        if offset[0] < frames:
            mask, data = source.id.read_direct_chunk(offset)
            place = tuple(a + b for a, b in zip(at, offset, strict=True))
            target.id.write_direct_chunk(place, data, mask)
