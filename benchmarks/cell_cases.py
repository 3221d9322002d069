"""Cells without fields: the time of a step by how many voxels hold one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Setting, measured
from benchmarks.record import Record
from benchmarks.whole_step import advance_timed
from lattice import run
from lattice.engine.simulation import Simulation, program_of
from lattice.model import load

MODEL = Path(__file__).with_name("cells.toml")
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
    model = load(MODEL, overrides=[f"lattice.shape=[{n}, {n}, {n}]"])
    bone = run.bone_of(model, seed)
    marrow = 1 - float(bone.mean())
    share = occupied / 2 / marrow
    names = ("macrophage", "precursor")
    model = load(
        MODEL,
        overrides=[
            f"lattice.shape=[{n}, {n}, {n}]",
            *(f"state.{name}.seeding.fraction={share}" for name in names),
        ],
    )
    simulation = Simulation(model, seed, bone)
    if method == "sparse":
        simulation._capacity = 0
        simulation._grow_capacity()
    capacity = simulation._capacity if method == "sparse" else n**3
    program = program_of(model, capacity).compile()
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
            "occupied_at_end": sum(row[s][0] for s in (*names, "apoptotic")) / n**3,
            "capacity": capacity,
        },
    )
