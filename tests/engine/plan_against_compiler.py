"""Prints, as JSON lines, what the plan says a device needs and what the compiler says of the
program that a run really executes. Arguments: a model file, then SHAPE:DEVICES, or
SHAPE:A,B:DEVICES where the plan knows of two other numbers of devices only."""

from __future__ import annotations

import json
import sys

import jax.numpy as jnp
import numpy as np

from lattice.cli.planning import mesh_on_any, sampled
from lattice.engine.footprint import footprint, memory_on
from lattice.engine.layout import layout_for
from lattice.engine.plan import plan_of
from lattice.engine.simulation import LONGEST_CHUNK, Simulation, _compiled
from lattice.model import load
from lattice.run import bone_of


def of_a_run(model, devices: str) -> int:
    """Bytes on one device: what is there before, less what is reused, and what a step adds."""
    simulation = Simulation(model, 0, bone_of(model, 0), devices=devices)
    simulation._grow_capacity()
    plan = plan_of(model, simulation.region, simulation._capacity)
    due = np.zeros((LONGEST_CHUNK, len(model.interventions)), bool)
    one = jnp.int32(1)
    program = _compiled(plan, simulation.mesh, True)
    lowered = program.lower(simulation.numbers, simulation.state, due, one, one)
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    new = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return memory.argument_size_in_bytes + new + memory.temp_size_in_bytes


def main(path: str, *cases: str) -> None:
    for case in cases:
        shape, *known, devices = case.split(":")
        model = load(path, overrides=[f"lattice.shape=[{shape.replace('x', ', ')}]"])
        active = sampled(model).active
        if known:
            first, second = (
                footprint(model, active, mesh_on_any(layout_for(model.lattice, n)))
                for n in known[0].split(",")
            )
            said = memory_on(model.lattice, int(devices), (first, second))
        else:
            mesh = mesh_on_any(layout_for(model.lattice, devices))
            said = footprint(model, active, mesh).memory
        print(json.dumps({"plan": said, "run": of_a_run(model, devices)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
