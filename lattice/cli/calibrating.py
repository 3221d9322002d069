"""`osteolattice calibrate`: steer numbers of a model until a run holds its targets."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from lattice.cli.jax_setup import prepare_jax
from lattice.io.files import replacing
from lattice.model.errors import InputError


def command_calibrate(options: argparse.Namespace) -> int:
    """Carry out a calibration; print it as it goes and write a table."""
    out = options.out or Path("runs") / f"{options.config.stem}.csv"
    if out.exists():
        raise InputError(f"{out} is there already; write --out with another name")
    prepare_jax()
    from lattice.calibration import calibrate, load_calibration

    plan = load_calibration(options.config)
    titles = [c.measure if c.per is None else f"{c.measure} / {c.per}" for c in plan.controls]
    for title, control in zip(titles, plan.controls, strict=True):
        print(f"{title}, to be {control.target:g}, by {', '.join(control.numbers)}")
    print("time        " + "   ".join(titles))

    def show(reading) -> None:
        values = "   ".join(f"{v:.4g}" for v in reading.measured)
        print(f"{reading.time_h / 24:6.1f} day  {values}", flush=True)

    readings, simulation = calibrate(plan, show)
    names = [n for c in plan.controls for n in c.numbers]
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time_h", *titles, *names])
        for r in readings:
            kept = [r.numbers.get(n, plan.model.values[n]) for n in names]
            writer.writerow([r.time_h, *r.measured, *kept])
    units = {p.name: (p.unit, p.value) for p in plan.model.parameters}
    print("numbers at the end:")
    for name in names:
        unit, before = units[name]
        value = readings[-1].numbers.get(name, before)
        print(f"  {name:<40} {value:.6g} {unit}   ({value / before:.3f} of what the file says)")
    print("cells per voxel of the lattice at the end:")
    row = simulation.row()
    voxels = 1
    for n in plan.model.lattice.shape:
        voxels *= n
    for state in plan.model.states[1:]:
        print(f"  {state.name:<40} {row[state.name][0] / voxels:.5g}")
    print(f"written to {out}")
    return 0
