"""The whole step: cells, fields and matrix together, and what writing a run costs."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.record import copy_seconds, peak_bytes, record
from lattice import run
from lattice.engine.simulation import LONGEST_CHUNK, Simulation, program_of
from lattice.model import load
from lattice.model.structure import Model

MODEL = Path(__file__).with_name("whole_step.toml")
DYNAMIC = ("macrophage", "resolving", "precursor", "osteoblast", "osteoclast", "apoptotic")


def model_of(grid: int, *overrides: str) -> Model:
    """The benchmark's model on a cube."""
    return load(MODEL, overrides=[f"lattice.shape=[{grid}, {grid}, {grid}]", *overrides])


def whole_step(grid: int = 128, seed: int = 0, chunks: int = 10) -> dict:
    """Time, compilation and memory of a step. `median_s` is over chunks of eight steps, per step.

    `bytes_counted` are those of the state, read and written once; the solver's own traffic is not
    counted, so `copy_fraction` is a lower bound on the use of the memory bus.
    """
    model = model_of(grid)
    simulation = Simulation(model, seed, run.bone_of(model, seed))
    simulation._grow_capacity()
    start = time.perf_counter()
    compiled = program_of(model, simulation._capacity).lower().compile()
    compile_s = time.perf_counter() - start
    memory = compiled.memory_analysis()
    assert memory is not None
    due = jnp.zeros((LONGEST_CHUNK, 0), bool)
    never = jnp.int32(2**30)

    def advance(steps):
        simulation.state, _ = compiled(
            simulation.numbers, simulation.state, due, jnp.int32(steps), never
        )
        jax.block_until_ready(simulation.state)

    chunk = 8
    # The first solves follow the switching on of all sources; they are not typical.
    advance(3)
    times = []
    for _ in range(chunks):
        start = time.perf_counter()
        advance(chunk)
        times.append((time.perf_counter() - start) / chunk)
    low, median, high = np.percentile(times, (25, 50, 75))
    voxels = grid**3
    row = simulation.row()
    state_bytes = memory.argument_size_in_bytes
    moved = 2 * state_bytes
    copy = copy_seconds(voxels * len(model.cytokines))
    copy_bandwidth = 8 * voxels * len(model.cytokines) / copy
    return record(
        case="whole-step",
        parameters={
            "grid": grid,
            "cytokines": len(model.cytokines),
            "contrast": 1 / model.values["cytokine.c1.in_bone"],
            "step_minutes": 60 * model.time.step,
            "dynamic_fraction": sum(row[name][0] for name in DYNAMIC) / voxels,
            "seed": seed,
        },
        method=model.solver.scheme,
        seconds_per_simulated_day=float(median) * 24 / model.time.step,
        median_s=float(median),
        iqr_s=float(high - low),
        mlups=voxels / float(median) / 1e6,
        bytes_counted=moved,
        copy_fraction=moved / float(median) / copy_bandwidth,
        compile_s=compile_s,
        peak_bytes=peak_bytes(),
        bytes_per_voxel=(memory.temp_size_in_bytes + state_bytes) / voxels,
        copies_per_step=float(median) / copy,
    )


def output_share(grid: int = 64, seed: int = 0, days: int = 4) -> dict:
    """What writing costs: a run with output at the default cadence against one without any.

    `overhead` is the additional share of the wall time, both after compilation."""
    quiet = ["output.snapshots=never", "output.checkpoints=never"]
    default = ["output.series=1 h", "output.snapshots=1 day", "output.checkpoints=1 day"]
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
    plain, written = float(np.median(times["without"])), float(np.median(times["with"]))
    return record(
        case="output",
        parameters={"grid": grid, "days": days, "series": "1 h", "snapshots": "1 day"},
        method="background thread",
        median_s=written,
        seconds_per_simulated_day=written / days,
        peak_bytes=peak_bytes(),
        overhead=written / plain - 1,
    )
