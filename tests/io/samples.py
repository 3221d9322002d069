"""A small model and states of it, for the tests of files."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np

from lattice.engine.declare import MATRIX_ONE, declare
from lattice.model.setting import Geometry, Lattice, Output, Solver, Time
from lattice.model.structure import Cytokine, Matrix, Model, Parameter, State

SHAPE = (8, 10, 12)  # z, y, x: all different, so that a swap of axes shows
OUTPUT = Output(series=1.0, snapshots=1.0, checkpoints=1.0)


def cytokine(name: str, amount: str = "mass", systemic: bool = False) -> Cytokine:
    numbers = [f"cytokine.{name}.{key}" for key in ("d", "b", "k", "p", "i")]
    return Cytokine(name, amount, None, systemic, *numbers)


def model(**output) -> Model:
    return Model(
        schema=1,
        name="sample",
        lattice=Lattice(SHAPE[::-1], 10.0),
        geometry=Geometry("plate"),
        time=Time(0.25, 24.0, 0.25, 0.25),
        output=replace(OUTPUT, **output),
        solver=Solver(),
        cytokines=(cytokine("drug", systemic=True), cytokine("TNF"), cytokine("OPG", "mole")),
        states=tuple(State(name, frozenset()) for name in ("empty", "M0", "M1")),
        rules=(),
        reactions=(),
        interventions=(),
        matrix=Matrix(),
        parameters=(Parameter("rule.engulf.rate", 0.1, "1/hour", "0.1 /h"),),
        text='schema = 1\nname = "sample, in µm"\n',
    )


def state(seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "step": np.array(seed, np.int32),
        "seed": np.array([seed, 7], np.uint32),
        "cells": draw.integers(0, 3, SHAPE).astype(np.uint8),
        "since": draw.integers(-5, 900, SHAPE).astype(np.int32),
        "bone": draw.integers(0, 2, SHAPE).astype(np.uint8),
        "cytokines": (1e-9 * draw.random((*SHAPE, 2))).astype(np.float32),
        "systemic": draw.random(1).astype(np.float32),
        "osteoid": draw.integers(0, MATRIX_ONE // 3, (SHAPE[0], 3, *SHAPE[1:])).astype(np.int32),
        "mineral": draw.integers(0, MATRIX_ONE, SHAPE).astype(np.int32),
    }


def frame(seed: int) -> dict[str, np.ndarray]:
    """What a snapshot of `state(seed)` has to show."""
    fields = state(seed)
    return {
        "cells": fields["cells"],
        "bone": fields["bone"],
        "TNF": fields["cytokines"][..., 0],
        "OPG": fields["cytokines"][..., 1],
        "osteoid": (fields["osteoid"].sum(axis=1) / MATRIX_ONE).astype(np.float32),
        "mineral": (fields["mineral"] / MATRIX_ONE).astype(np.float32),
    }


def ledger() -> dict[str, np.ndarray]:
    return {
        "events": np.arange(4, dtype=np.uint32).reshape(2, 2),
        "matrix_flux": np.arange(4 * SHAPE[0], dtype=np.uint32).reshape(SHAPE[0], 2, 2),
    }


DIMS = {spec.name: spec.dims for spec in declare(model())}

Cuts = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Where blocks begin and end along z, y and x."""


def blocks(cuts: Cuts) -> list[dict[str, slice]]:
    """The voxels of each block along each axis."""
    along = [[slice(*ends) for ends in pairwise(places)] for places in cuts]
    return [dict(zip(("z", "y", "x"), block, strict=True)) for block in product(*along)]


def own(arrays: dict[str, np.ndarray], block: dict[str, slice]) -> dict[str, np.ndarray]:
    def part(dims: tuple[str, ...]) -> tuple[slice, ...]:
        return tuple(block.get(axis, slice(None)) for axis in dims)

    return {name: np.asarray(a[part(DIMS.get(name, ()))]) for name, a in arrays.items()}
