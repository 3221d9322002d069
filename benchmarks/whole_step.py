"""The whole step: cells, fields and matrix together, and what writing a run costs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Setting, Timing, cube, measured
from benchmarks.record import Record
from lattice import run
from lattice.engine.simulation import LONGEST_CHUNK, Simulation, program_of
from lattice.model import load
from lattice.model.structure import Model

MODEL = Path(__file__).with_name("whole_step.toml")
DYNAMIC = ("macrophage", "resolving", "precursor", "osteoblast", "osteoclast", "apoptotic")


BYTES_PER_VOXEL = 300
"""What a whole step takes, generously."""


def model_of(grid: int, *overrides: str, path: Path = MODEL, planes: int | None = None) -> Model:
    """The benchmark's model on a cube, or on so many planes. Its trabeculae are 50 um thick, and
    thinner on small lattices, which would not hold a period of them."""
    shape = f"lattice.shape=[{grid}, {grid}, {planes or grid}]"
    thickness = f"geometry.thickness={min(50.0, 10 * grid / 7):.6g} um"
    return load(path, overrides=[shape, thickness, *overrides])


def whole_step(setting: Setting) -> Iterator[Record]:
    """Fields, cells and matrix together, on the lattice that is asked for."""
    yield of_grid(setting.grid, setting.drawn_from)


def whole_step_sizes(setting: Setting) -> Iterator[Record]:
    """The same on lattices of half and twice the edge, as far as memory goes."""
    for grid in (max(16, setting.grid // 2), 2 * setting.grid):
        needed, free = BYTES_PER_VOXEL * grid**3, free_bytes()
        if free is not None and needed > 0.8 * free:
            room = f"{needed / 1e9:.3g} GB of {free / 1e9:.3g} GB free"
            print(f"whole-step at {grid}^3 is left out: {room}", file=sys.stderr)
            continue
        yield of_grid(grid, setting.drawn_from)


def free_bytes() -> int | None:
    """Memory that is free on the device; None where it cannot be told."""
    told = jax.devices()[0].memory_stats()
    if told and "bytes_limit" in told:
        return told["bytes_limit"] - told["bytes_in_use"]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def of_grid(grid: int, seed: int, chunks: int = 10) -> Record:
    """Time, compilation and memory of a step. `median_s` is over chunks of eight steps, per step.

    `bytes_counted` are those of the state, read and written once; the solver's own traffic is not
    counted, so `copy_fraction` is a lower bound on the use of the memory bus.
    """
    model = model_of(grid)
    simulation = Simulation(model, seed, bone_of(grid, seed))
    simulation._grow_capacity()
    start = time.perf_counter()
    program = program_of(model, simulation._capacity).lower().compile()
    compile_s = time.perf_counter() - start
    memory = program.memory_analysis()
    assert memory is not None
    timing = advance_timed(program, simulation, chunks)
    voxels, row = grid**3, simulation.row()
    state_bytes = memory.argument_size_in_bytes
    return measured(
        "whole-step",
        model.solver.scheme,
        cube(grid),
        timing,
        moved=2 * state_bytes,
        updates=voxels,
        seconds_per_simulated_day=timing.median * 24 / model.time.step,
        compile_s=compile_s,
        bytes_per_voxel=(memory.temp_size_in_bytes + state_bytes) / voxels,
        parameters={
            "cytokines": len(model.cytokines),
            "contrast": round(1 / model.values["cytokine.c1.in_bone"], 6),
            "step_minutes": 60 * model.time.step,
            "seed": seed,
        },
        more={"dynamic_share": sum(row[name][0] for name in DYNAMIC) / voxels},
    )


LARGEST_MADE = 256
"""Bone of a lattice with twice this edge is that of one with this edge, repeated: made sooner."""


def bone_of(grid: int, seed: int) -> np.ndarray:
    """The trabeculae of the benchmark's model, uint8 [z, y, x]."""
    times = max(1, grid // LARGEST_MADE) if grid % LARGEST_MADE == 0 else 1
    return np.tile(run.bone_of(model_of(grid // times), seed), (times, times, times))


def advance_timed(program: Any, simulation: Simulation, chunks: int, steps: int = 8) -> Timing:
    """The time of a step, over some chunks of a compiled program."""
    due = jnp.zeros((LONGEST_CHUNK, len(simulation.model.interventions)), bool)
    never = jnp.int32(2**30)

    def advance(steps):
        numbers = simulation.numbers.values
        simulation.state, *_ = program(numbers, simulation.state, due, jnp.int32(steps), never)
        jax.block_until_ready(simulation.state)

    # The first solves follow the switching on of all sources; they are not typical.
    advance(3)
    seconds = []
    for _ in range(chunks):
        start = time.perf_counter()
        advance(steps)
        seconds.append(time.perf_counter() - start)
    return Timing.of(seconds, steps)


def memory(setting: Setting) -> Iterator[Record]:
    """Bytes per voxel of a whole step, by the compiler's account; nothing is run."""
    for grid in sorted({max(16, setting.grid // 2), setting.grid}):
        model, voxels = model_of(grid), grid**3
        start = time.perf_counter()
        told = program_of(model, int(0.045 * voxels)).lower().compile().memory_analysis()
        compile_s = time.perf_counter() - start
        assert told is not None
        state, work = told.argument_size_in_bytes, told.temp_size_in_bytes
        yield measured(
            "memory",
            "compiler's account",
            cube(grid),
            compile_s=compile_s,
            bytes_per_voxel=(state + work) / voxels,
            parameters={"cytokines": len(model.cytokines)},
            more={"state_bytes_per_voxel": state / voxels, "work_bytes_per_voxel": work / voxels},
        )


def output(setting: Setting) -> Iterator[Record]:
    """What writing costs, on half the edge (at least 16)."""
    yield output_share(max(16, setting.grid // 2), setting.drawn_from)


def output_share(grid: int = 64, seed: int = 0, days: int = 4) -> Record:
    """What writing costs: a run with output at the default cadence against one without any.

    `overhead_share` is the additional share of the wall time, both after compilation."""
    quiet = ["output.snapshots=never", "output.checkpoints=never"]
    default = ["output.series=1 h", "output.snapshots=1 day", "output.checkpoints=auto"]
    length = f"time.until={days} day"
    times: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(3):
        for kind, overrides in (("without", quiet), ("with", default)):
            model = model_of(grid, *overrides, length)
            simulation = Simulation(model, seed, run.bone_of(model, seed))
            simulation.advance(1, 1 if kind == "with" else None)
            simulation.row()
            folder = Path(tempfile.mkdtemp()) / "run"
            try:
                start = time.perf_counter()
                if kind == "without":
                    simulation.advance(run.steps_until(model) - 1)
                    jax.block_until_ready(simulation.state)
                else:
                    run.record_run(simulation, folder)
                times[kind].append(time.perf_counter() - start)
            finally:
                shutil.rmtree(folder.parent)
    plain, written = float(np.median(times["without"])), Timing.of(times["with"])
    return measured(
        "output",
        "background thread",
        cube(grid),
        written,
        seconds_per_simulated_day=written.median / days,
        parameters={"days": days, "series": "1 h", "snapshots": "1 day", "seed": seed},
        more={"overhead_share": written.median / plain - 1},
    )
