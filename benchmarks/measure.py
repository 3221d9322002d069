"""How cases measure: settings, repeated timing, the copy beside it, and what a record tells."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.record import Record
from lattice.io import provenance
from lattice.kernels.backend import on_cpu


def cube(edge: int) -> tuple[int, int, int]:
    """Voxels along z, y, x."""
    return edge, edge, edge


@dataclass(frozen=True)
class Setting:
    """What the command line asks of every case.

    Without a seed the yardstick has its own diffusivities and half-lives, and sources and cells
    are those of seed 0; with one, it decides all of them.
    """

    grid: int = 128
    seed: int | None = None
    species: int = 6
    peers: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """A cube."""
        return cube(self.grid)

    @property
    def drawn_from(self) -> int:
        """The seed of sources, bone and cells."""
        return self.seed or 0


@dataclass(frozen=True)
class Timing:
    """Median and inter-quartile range of some executions, in seconds."""

    median: float
    iqr: float
    repeats: int

    @classmethod
    def of(cls, seconds: list[float], units: int = 1) -> Timing:
        """Of measured times, each of which was for so many units."""
        low, median, high = np.percentile(np.array(seconds) / units, (25, 50, 75))
        return cls(float(median), float(high - low), len(seconds))


QUEUE_S = 0.02
"""Calls in a row on a GPU take so long, if one does not: each is started while the one before it
runs, as in a loop of steps, so that what the host needs to start one is not measured."""


def timed(function: Callable[[], Any], repeats: int = 10) -> Timing:
    """The time of `function()`, after a call or two that are not counted."""
    return Timing.of(_seconds(function, repeats))


def _seconds(function: Callable[[], Any], repeats: int) -> list[float]:
    result, calls = jax.block_until_ready(function()), 1
    if not on_cpu():
        start = time.perf_counter()
        jax.block_until_ready(function())
        calls = max(1, int(QUEUE_S / (time.perf_counter() - start)))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            result = function()
        jax.block_until_ready(result)
        seconds.append((time.perf_counter() - start) / calls)
    return seconds


def compiled(function: Callable, *arguments: Any) -> tuple[Any, float]:
    """The compiled program of a function, and the seconds that compiling it took."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - start


def copy_bandwidth(moved: int) -> float:
    """Bytes per second, read and written, of a copy that moves as many bytes in this process: the
    best of twenty, as in STREAM, so that what else the machine does raises no share of it."""
    source = jnp.zeros(max(1, moved // 8), jnp.float32)
    copied = jax.jit(lambda a: a + 1)
    return 8 * source.size / min(_seconds(lambda: copied(source), 20))


def peak_bytes() -> int:
    """Most memory that this process has held so far: of the device, or of the host for a CPU."""
    told = jax.devices()[0].memory_stats()
    if told and "peak_bytes_in_use" in told:
        return told["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measured(
    case: str,
    method: str,
    size: tuple[int, int, int],
    timing: Timing | None = None,
    *,
    moved: int | None = None,
    updates: int | None = None,
    **told: Any,
) -> Record:
    """A record of this process. `moved` bytes have to be read and written in the time that was
    measured: they are compared with a copy. `updates` is the number of voxel updates in it."""
    if len(set(size)) == 1:
        told["parameters"] = {"grid": size[0], **told.get("parameters", {})}
    record = Record(case, method, size, peak_bytes=peak_bytes(), **told, **_origin())
    if timing is None:
        return record
    record = replace(record, median_s=timing.median, iqr_s=timing.iqr, repeats=timing.repeats)
    if updates is not None:
        record = replace(record, mlups=updates / timing.median / 1e6)
    if moved is None:
        return record
    bandwidth = copy_bandwidth(moved)
    share = moved / timing.median / bandwidth
    return replace(record, bytes_counted=moved, copy_bytes_per_s=bandwidth, copy_fraction=share)


@cache
def _origin() -> dict[str, Any]:
    """Machine, versions and code."""
    about = provenance.collect(jax.devices()[0].device_kind, jax.device_count())
    device = f"{about['device_kind']} x {about['device_count']}"
    return {
        "machine": ", ".join(filter(None, [str(about["machine"]), processor(), device])),
        "versions": about["versions"],
        "commit": about["commit"],
        "dirty": about["dirty"],
        "utc": about["utc"],
    }


def processor() -> str:
    """The name that the processor gives itself; empty where nobody tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
