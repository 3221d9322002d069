"""Laws 1 and 3 for random models, in a process with several devices. Argument: how many models.

Prints as JSON what happened in them. A law that does not hold ends the process with the model."""

from __future__ import annotations

import json
import sys
from collections import Counter

import jax
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lattice.engine.simulation import Simulation
from lattice.io.checkpoint import digest
from lattice.io.vtkhdf import frame
from lattice.model import loads
from lattice.run import bone_of
from tests.laws.random_models import SILENT, RandomModel, models

STEPS, CUT = 8, 3
LAYOUTS = ("2", "4", "4x1x1", "2x1x2", "1x2x1", "1x2x2", "2x2", "1x1x3")
happened: Counter[str] = Counter()


def started(text: str, devices: str = "1") -> Simulation:
    model = loads(text)
    return Simulation(model, 9, bone_of(model, 9), devices=devices)


def whole(simulation: Simulation) -> tuple[str, list[bytes]]:
    """All that a simulation holds: digest of the state, bytes of the ledger."""
    ledger = simulation.host_ledger()
    return digest(simulation.host_state()), [ledger[name].tobytes() for name in sorted(ledger)]


def in_pieces(text: str, devices: str) -> Simulation:
    """Cut, and gone on with from host arrays, as from a checkpoint."""
    first = started(text)
    first.advance(CUT)
    arrays = {k: np.array(v) for k, v in {**first.host_state(), **first.host_ledger()}.items()}
    second = Simulation(first.model, 9, state=arrays, devices=devices)
    second.advance(STEPS - CUT)
    return second


def visible(simulation: Simulation) -> dict[str, np.ndarray]:
    """What a run file shows, cells by the names of their states, and the row of the series."""
    arrays = frame(simulation.model, {k: np.array(v) for k, v in simulation.host_state().items()})
    names = np.array([s.name for s in simulation.model.states])
    rows = {f"row {name}": np.array(value) for name, (value, _) in simulation.row().items()}
    return {**arrays, "cells": names[arrays["cells"]], **rows}


def law_1(model: RandomModel, straight: Simulation, devices: str) -> None:
    """Same bits, however the run is cut and by which devices it is shared."""
    assert whole(in_pieces(model.text(), devices)) == whole(straight), f"--devices {devices}"


def law_3(model: RandomModel, straight: Simulation) -> None:
    """What does nothing changes no bit: other units, another order, additions."""
    before = visible(straight)
    for text in (model.text(1), model.text(backwards=True), model.text(added=tuple(SILENT))):
        other = started(text)
        other.advance(STEPS)
        after = visible(other)
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array, err_msg=name)


def note(model: RandomModel, straight: Simulation) -> None:
    happened["models"] += 1
    for name, (value, _) in straight.row().items():
        if name.startswith("events.") or name.startswith("matrix."):
            happened[name.split(".")[0]] += int(value != 0)
    for word in ("[matrix]", "[[cytokine]]", "move =", "divide =", "kill =", "source =", "when ="):
        happened[word] += word in model.text()


def check(model: RandomModel, devices: str) -> None:
    """Both laws for one model."""
    straight = started(model.text())
    straight.advance(STEPS)
    note(model, straight)
    law_1(model, straight, devices)
    law_3(model, straight)
    jax.clear_caches()


def main(examples: int) -> None:
    settled = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    settled(given(models(), st.sampled_from(LAYOUTS))(check))()
    print(json.dumps(happened))


if __name__ == "__main__":
    main(int(sys.argv[1]))
