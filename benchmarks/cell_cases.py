"""Cells without fields: the time of a step by how many voxels hold one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Setting, measured
from benchmarks.record import Record
from benchmarks.whole_step import advance_timed, model_of
from lattice import run
from lattice.engine.simulation import Simulation, program_of

MODEL = Path(__file__).with_name("cells.toml")
SEEDED = ("macrophage", "precursor")
OCCUPIED = (0.001, 0.01, 0.03, 0.1, 0.3)


def cells(setting: Setting) -> Iterator[Record]:
    """Two kinds of cells in equal parts, in lists ("sparse") and over all voxels ("dense")."""
    for occupied in OCCUPIED:
        for method in ("sparse", "dense"):
            yield of_occupancy(setting, occupied, method)


def of_occupancy(setting: Setting, occupied: float, method: str) -> Record:
    """A step where so much of the lattice holds a cell. Dense: the capacity of lists is the whole
    lattice, so that no list is made."""
    n, seed = setting.grid, setting.drawn_from
    bone = run.bone_of(model_of(n, path=MODEL), seed)
    share = occupied / len(SEEDED) / (1 - float(bone.mean()))
    seeding = [f"state.{name}.seeding.fraction={share:.6g}" for name in SEEDED]
    model = model_of(n, *seeding, path=MODEL)
    simulation = Simulation(model, seed, bone)
    capacity = n**3
    if method == "sparse":
        counts = {name: value for name, (value, _) in simulation.row().items()}
        capacity = int(1.5 * sum(counts[name] for name in SEEDED)) + 256
    program = program_of(model, capacity).lower().compile()
    timing = advance_timed(program, simulation, 10, steps=4)
    row = simulation.row()
    return measured(
        "cells",
        method,
        setting.shape,
        timing,
        updates=n**3,
        seconds_per_simulated_day=timing.median * 24 / model.time.step,
        parameters={"occupied": occupied, "seed": seed},
        more={
            "occupied_at_end": sum(row[s][0] for s in (*SEEDED, "apoptotic")) / n**3,
            "capacity": capacity,
        },
    )
