"""What is built on the step: ensembles, gradients, checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.measure import Setting, compiled, cube, measured, timed
from benchmarks.record import Record
from benchmarks.whole_step import model_of
from lattice import run
from lattice.engine.simulation import Simulation
from lattice.inference.ensemble import sampled_course
from lattice.inference.relaxation import relaxation
from lattice.io.checkpoint import read_checkpoint, write_checkpoint
from lattice.model import load
from lattice.model.structure import Model

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DISH = CONFIGS / "fits" / "efferocytosis" / "model.toml"

DISH_EDGE, LARGE_DISH_EDGE = 10, 24
"""Edges of its lattice here: ensembles and relaxations serve small pieces."""

PARAMETERS = ("rule.die.rate", "rule.engulf.rate", "cytokine.TGFb.diffusion")
BONE_PARAMETERS = ("rule.die_aged.rate", "rule.engulf.rate", "cytokine.TGFb.diffusion")


def dish(edge: int = DISH_EDGE) -> Model:
    """The model that the example of a fit uses."""
    return load(DISH, overrides=[f"lattice.shape={list(cube(edge))}"])


def small_bone() -> Model:
    """The model of adult bone with trabeculae that fit into a piece as small as the dish."""
    edge = f"lattice.shape={list(cube(LARGE_DISH_EDGE))}"
    return load(CONFIGS / "adult.toml", overrides=[edge, 'geometry.thickness="20 um"'])


def ensemble(setting: Setting) -> Iterator[Record]:
    """Many seeds of a small lattice in one program (vmap), by their number: what a fit asks for."""
    model, steps = dish(), 48
    alone = None
    for count in (1, 8, 64):
        seeds = range(setting.drawn_from, setting.drawn_from + count)
        timing = timed(
            lambda seeds=seeds: sampled_course(
                model, {}, ["osteoblast"], [steps], list(seeds), None
            ),
            5,
        )
        alone = alone or timing.median
        yield measured(
            "ensemble",
            f"vmap over {count}",
            cube(DISH_EDGE),
            timing,
            updates=DISH_EDGE**3 * steps * count,
            parameters={"model": model.name, "steps": steps, "members": count},
            more={"speed_up_against_one": count * alone / timing.median},
        )


def gradient(setting: Setting) -> Iterator[Record]:
    """The mean-field relaxation, and its derivative by three numbers backwards in time, both with
    twelve iterations for each solve, as derivatives need them: a day of the dish and ten hours of
    bone."""
    for edge in (DISH_EDGE, LARGE_DISH_EDGE):
        yield from _gradient(setting, dish(edge), "osteoblast", PARAMETERS, 24.0)
    yield from _gradient(setting, small_bone(), "BV/TV", BONE_PARAMETERS, 10.0)


def _gradient(
    setting: Setting, model: Model, observable: str, parameters: tuple[str, ...], hours: float
) -> Iterator[Record]:
    function = relaxation(model, [observable], [hours], seed=setting.drawn_from)
    edge = model.lattice.shape[0]

    def course(values):
        return function(dict(zip(parameters, values, strict=True)))[0, 0]

    values = jnp.asarray([model.values[name] for name in parameters], jnp.float32)
    forward = None
    for method, traced in (("forward", course), ("gradient", jax.value_and_grad(course))):
        program, compile_s = compiled(traced, values)
        timing = timed(lambda program=program: program(values), 5)
        forward = forward or timing.median
        memory = program.memory_analysis()
        assert memory is not None
        yield measured(
            "gradient",
            method,
            cube(edge),
            timing,
            updates=edge**3 * round(hours / model.time.step),
            compile_s=compile_s,
            bytes_per_voxel=memory.temp_size_in_bytes / edge**3,
            parameters={"model": model.name, "hours": hours, "reading": "mean field"},
            more={"ratio_to_forward": timing.median / forward},
        )


def checkpoint(setting: Setting) -> Iterator[Record]:
    """A checkpoint of the whole step's state, written (with its sync to disk) and read (with the
    verification of every checksum)."""
    model = model_of(setting.grid)
    simulation = Simulation(model, setting.drawn_from, run.bone_of(model, setting.drawn_from))
    simulation.advance(1)
    state, ledger = simulation.host_state(), simulation.host_ledger()
    held = sum(a.nbytes for a in (*state.values(), *ledger.values()))
    with tempfile.TemporaryDirectory() as name:

        def write() -> Path:
            return write_checkpoint(
                Path(name), state=state, ledger=ledger, model=model, seed=simulation.seed,
                step=simulation.step, time_h=simulation.time_h, provenance={}, keep=1,
            )  # fmt: skip

        path = write()
        for method, function in (("write", write), ("read", lambda: read_checkpoint(path))):
            timing = timed(function, 5)
            yield measured(
                "checkpoint",
                method,
                setting.shape,
                timing,
                parameters={"cytokines": len(model.cytokines), "seed": setting.drawn_from},
                more={
                    "gb_per_s": 1e-9 * held / timing.median,
                    "file_bytes": path.stat().st_size,
                },
            )
