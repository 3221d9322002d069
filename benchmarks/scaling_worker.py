"""One measurement of `process_cases.scaling`, in a process that owns its cores and devices."""

from __future__ import annotations

import json
import os
import sys
import time

from lattice.cli.launcher import reexec_with_allocator_settings


def main() -> None:
    """Reads what to measure from the first argument and prints the result, both as JSON."""
    told = json.loads(sys.argv[1])
    # Before JAX counts the cores: its pool of threads is as large as their number.
    os.sched_setaffinity(0, told["cores"])
    reexec_with_allocator_settings(any_program=True)
    print(json.dumps(measure(told)))


def measure(told: dict) -> dict:
    """Times of a step, and the digest of the state after all of them."""
    import jax

    from benchmarks.measure import Timing
    from benchmarks.whole_step import model_of
    from lattice import run
    from lattice.engine.simulation import Simulation
    from lattice.io.checkpoint import digest

    seed = told["seed"]
    model = model_of(told["grid"], planes=told["planes"])
    bone = run.bone_of(model, seed)
    simulation = Simulation(model, seed, bone, devices=told["devices"])
    start = time.perf_counter()
    simulation.advance(3)
    jax.block_until_ready(simulation.state)
    compile_s = time.perf_counter() - start
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        simulation.advance(2)
        jax.block_until_ready(simulation.state)
        seconds.append(time.perf_counter() - start)
    timing = Timing.of(seconds, 2)
    return {
        "median_s": timing.median,
        "iqr_s": timing.iqr,
        "repeats": timing.repeats,
        "compile_s": compile_s,
        "digest": digest(simulation.host_state()),
    }


if __name__ == "__main__":
    main()
