"""The plan that `osteolattice check --devices` prints: what a run will need on which devices."""

from __future__ import annotations

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

from lattice.engine import devices
from lattice.engine.declare import bytes_per_voxel
from lattice.engine.estimate import REFERENCE_BANDWIDTH, estimate
from lattice.engine.footprint import Footprint, fewest_devices, footprint, sharings
from lattice.engine.simulation import Simulation
from lattice.io import provenance
from lattice.io.checkpoint import write_checkpoint
from lattice.model import loads
from lattice.model.errors import InputError
from lattice.model.structure import Model
from lattice.run import bone_of

PIECE = 64
"""Voxels along each edge of the piece that is seeded, to see how many cells are active and how
fast a checkpoint is written."""

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


def plan(model: Model, count: int, device_memory: str | None) -> Iterator[str]:
    """The lines of the plan for a model on `count` devices. Raises InputError."""
    mesh = mesh_on_any(count)
    devices.region_of(model, mesh)  # refuses planes that cannot be shared before anything is made
    limit = memory_here() if device_memory is None else bytes_in(device_memory)
    sample = sampled(model)
    here = footprint(model, sample.active, mesh)
    needed = here
    if count == 1 and here.memory > limit and len(sharings(here.planes)) > 1:
        needed = footprint(model, sample.active, mesh_on_any(sharings(here.planes)[1]))
    yield from _described(model, here, sample, bandwidth())
    fewest = 1 if here.devices == 1 and here.memory <= limit else fewest_devices(needed, limit)
    found = "more devices than its planes along z can be shared by" if fewest is None else fewest
    yield f"  devices needed     {found} (with {size(limit)} each)"


def _described(model: Model, here: Footprint, sample: Sample, speed: float) -> Iterator[str]:
    shape = " x ".join(map(str, model.lattice.shape))
    state = bytes_per_voxel(model) * np.prod(model.lattice.shape, dtype=np.float64)
    seconds = estimate(model).seconds * model.time.step / model.time.until
    seconds = seconds * REFERENCE_BANDWIDTH / here.devices + here.received
    yield f"Plan for {shape} voxels on {here.devices} device(s), compiled for {platform()}:"
    yield (
        f"  memory per device  {size(here.memory)} ({size(here.state)} of state, "
        f"{size(here.work)} of work space)"
    )
    yield f"  halo per step      {size(here.received)} received by each device"
    yield (
        f"  time per step      {seconds / speed:.2g} s where each device copies {speed / 1e9:.3g} "
        "GB/s, as measured here"
    )
    yield (
        f"  checkpoint         {size(state * sample.stored)} ({size(state)} before compression), "
        f"{state * sample.seconds:.2g} s at the speed of {tempfile.gettempdir()}"
    )


def mesh_on_any(count: int) -> Mesh | None:
    """A mesh of this machine's devices, or of so many of the host where it has fewer."""
    if count <= jax.device_count():
        return devices.mesh_of(count)
    host = jax.devices("cpu")
    if count > len(host):
        raise InputError(f"--devices {count}: JAX provides {len(host)} device(s) in this process")
    return devices.mesh_of(count, host)


def platform() -> str:
    """The kind of device for which the step is compiled."""
    return jax.devices()[0].device_kind


def memory_here() -> float:
    """Bytes of memory of one device: the GPU's own, or the host's."""
    statistics = jax.devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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
    shape = [min(n, PIECE) for n in model.lattice.shape]
    piece = loads(model.text, overrides=[f"lattice.shape={shape}"]).with_values(**model.values)
    simulation = Simulation(piece, 0, bone_of(piece, 0))
    state, ledger = simulation.host_state(), simulation.host_ledger()
    raw = sum(a.nbytes for a in (*state.values(), *ledger.values()))
    about = provenance.collect(platform(), 1)
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
    active = simulation.longest_list / int(np.prod(shape))
    return Sample(active, min(1.0, stored / raw), seconds / raw)


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
