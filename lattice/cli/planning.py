"""The plan that `osteolattice check --devices` prints: what a run will need on which devices."""

from __future__ import annotations

import math
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lattice.cli.jax_setup import prepare_jax
from lattice.engine.declare import bytes_per_voxel
from lattice.engine.devices import mesh_of
from lattice.engine.estimate import REFERENCE_BANDWIDTH, estimate
from lattice.engine.footprint import Footprint, fewest_devices, footprint
from lattice.engine.layout import AXES, Devices, Layout, layout_for, number_of, sharings
from lattice.engine.simulation import Simulation
from lattice.io import provenance
from lattice.io.checkpoint import write_checkpoint
from lattice.model import loads
from lattice.model.errors import InputError
from lattice.model.structure import Model
from lattice.run import bone_of, making

PIECE = 64
"""Voxels along each edge of the piece that is seeded, to see how many cells are active and how
fast a checkpoint is written."""

MOST_COMPILED = 64
"""More devices of the host than this are not made to see what each of many devices needs."""

COPIED_BYTES = 1 << 26
PREFIXES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
PREFIXES |= {f"{p}i": 1024.0 ** (i + 1) for i, p in enumerate("kMGT")} | {"Ki": 1024.0}


@dataclass(frozen=True)
class Sample:
    """What the seeded piece tells: the share of its voxels in the longest list of active ones, and
    of a checkpoint the bytes in the file and the seconds, both per byte of the state."""

    active: float
    stored: float
    seconds: float


def prepare(model: Model, devices: Devices) -> None:
    """Provide the devices that a plan may compile for; comes before JAX is first used."""
    prepare_jax(devices)
    few = (n for n in sharings(model.lattice) if n <= MOST_COMPILED)
    prepare_jax(max(number_of(devices), *few))


def plan(model: Model, devices: Devices, device_memory: str | None) -> Iterator[str]:
    """The lines of the plan for a model on some devices. Raises InputError."""
    mesh = mesh_on_any(layout_for(model.lattice, devices))
    limit = memory_here() if device_memory is None else bytes_in(device_memory)
    sample = sampled(model)
    here = footprint(model, sample.active, mesh)
    kind = (jax.devices()[0] if mesh is None else mesh.devices.flat[0]).device_kind
    yield from _described(model, here, sample, kind)
    fits = here.memory <= limit
    if device_memory is None and fits:
        yield f"  fits               into {size(limit)} each, as here"
        return
    fewest = 1 if fits and here.devices == 1 else needed(model, here, sample.active, limit)
    found = "more devices than its planes can be shared by" if fewest is None else fewest
    yield f"  devices needed     {found} (with {size(limit)} each)"


def needed(model: Model, here: Footprint, active: float, limit: float) -> int | None:
    """How many devices of `limit` bytes a lattice needs: the step is compiled for another number
    of them, near the answer, and what lies between follows from the two."""
    several = [n for n in sharings(model.lattice) if 1 < n <= MOST_COMPILED]
    if len(several) < 2:
        return 1 if here.memory <= limit else None
    base = here if here.devices > 1 else _on(model, active, several[0])
    others = [n for n in several if n != base.devices]
    enough = (n for n in others if base.memory * base.devices / n <= limit)
    other = _on(model, active, next(enough, others[-1]))
    return fewest_devices(model.lattice, (base, other), limit)


def _on(model: Model, active: float, count: int) -> Footprint:
    return footprint(model, active, mesh_on_any(layout_for(model.lattice, count)))


def _described(model: Model, here: Footprint, sample: Sample, kind: str) -> Iterator[str]:
    shape = " x ".join(map(str, model.lattice.shape))
    state = bytes_per_voxel(model) * np.prod(model.lattice.shape, dtype=np.float64)
    seconds = estimate(model).seconds * model.time.step / model.time.until
    seconds = seconds * REFERENCE_BANDWIDTH / here.devices + here.received
    speed = bandwidth()
    yield f"Plan for {shape} voxels on {here.devices} device(s), compiled for {kind}:"
    if here.devices > 1:
        blocks = (f"{n} along {axis}" for n, axis in zip(here.layout, AXES, strict=True))
        yield f"  blocks             {', '.join(blocks)}"
    yield (
        f"  memory per device  {size(here.memory)} ({size(here.state)} of state, "
        f"{size(here.work)} of work space)"
    )
    if model.geometry.kind != "empty":
        memory, stored = making(model)
        beside = f", {size(stored)} of temporary files beside the run" if stored else ""
        yield f"  geometry           at most {size(memory)} in the first process{beside}"
    yield f"  halo per step      {size(here.received)} received by each device"
    yield (
        f"  time per step      {seconds / speed:.3g} s where each device copies {speed / 1e9:.3g} "
        "GB/s, as measured here"
    )
    yield (
        f"  checkpoint         {size(state * sample.stored)} ({size(state)} before compression), "
        f"{state * sample.seconds:.3g} s at the speed of {tempfile.gettempdir()}"
    )


def mesh_on_any(layout: Layout) -> Mesh | None:
    """A mesh of this machine's devices, or of so many of the host where it has fewer."""
    count = math.prod(layout)
    if count <= jax.device_count():
        return mesh_of(layout)
    host = jax.devices("cpu")
    if count > len(host):
        raise InputError(f"--devices {count}: JAX provides {len(host)} device(s) in this process")
    return mesh_of(layout, host)


def memory_here() -> float:
    """Bytes of memory of one device: the GPU's own, or the host's."""
    statistics = jax.devices()[0].memory_stats() or {}
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return float(statistics.get("bytes_limit") or host)


def bandwidth() -> float:
    """Bytes per second that a device reads and writes when it copies an array."""
    copied = jax.jit(lambda a: a + 1)
    source = jnp.zeros(COPIED_BYTES // 4, jnp.float32)
    times = []
    for _ in range(9):
        began = time.perf_counter()
        jax.block_until_ready(copied(source))
        times.append(time.perf_counter() - began)
    return 2 * COPIED_BYTES / float(np.median(times[1:]))


def sampled(model: Model) -> Sample:
    """Seed a piece of the lattice and write its checkpoint into the folder for temporary files."""
    piece, bone = seeded_piece(model, PIECE)
    simulation = Simulation(piece, 0, bone)
    state, ledger = developed(simulation.host_state()), simulation.host_ledger()
    raw = sum(a.nbytes for a in (*state.values(), *ledger.values()))
    about = provenance.collect(jax.devices()[0].device_kind, 1)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        path = write_checkpoint(
            Path(folder),
            state=state,
            ledger=ledger,
            model=piece,
            seed=0,
            step=0,
            time_h=0.0,
            provenance=about,
            keep=1,
        )
        seconds = time.perf_counter() - began
        stored = path.stat().st_size
    active = simulation.longest_list / bone.size
    return Sample(active, min(1.0, stored / raw), seconds / raw)


def developed(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with fields that differ in every voxel, as they do after some steps: those of the
    first moment are level and compress to nearly nothing."""
    noise = np.random.default_rng(0)
    return {
        name: noise.random(values.shape, values.dtype) if values.dtype == np.float32 else values
        for name, values in state.items()
    }


def seeded_piece(model: Model, edge: int) -> tuple[Model, np.ndarray]:
    """A model on at most `edge` voxels along each axis, or on as many as its geometry needs, and
    the bone there."""
    shape = [min(n, edge) for n in model.lattice.shape]
    piece = loads(model.text, overrides=[f"lattice.shape={shape}"]).with_values(**model.values)
    try:
        return piece, bone_of(piece, 0)
    except InputError:
        if shape == list(model.lattice.shape):
            raise
        return seeded_piece(model, 2 * edge)


def bytes_in(text: str) -> float:
    """Bytes in a size such as "80 GB" or "24 GiB". Raises InputError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]?i?)B\s*", text)
    if found is None or found[2] not in PREFIXES or float(found[1]) <= 0:
        raise InputError(f'--device-memory "{text}": write a size as "80 GB" or "24 GiB"')
    return float(found[1]) * PREFIXES[found[2]]


def size(number: float) -> str:
    """A number of bytes for the eye."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"
