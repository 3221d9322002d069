"""Run by test_same_bits.py with eight devices. Arguments: a model, its shape and ends along x, y,
z, and layouts. Prints for each layout what thirty steps of the model give."""

from __future__ import annotations

import hashlib
import sys

from lattice.engine.simulation import Simulation
from lattice.io.checkpoint import digest
from tests.conftest import TISSUE, slab_of_bone, small_model

PREY = """
[[cytokine]]
name = "scent"
diffusion = "10 um^2/s"
half_life = "2 h"
[[cytokine]]
name = "warmth"
diffusion = "3 um^2/s"
half_life = "5 h"
[[state]]
name = "prey"
secretes = { scent = "1 pg/day" }
seeding = { where = "marrow", fraction = 0.2 }
[[state]]
name = "predator"
secretes = { warmth = "1 pg/day" }
seeding = { where = "marrow", fraction = 0.2 }
[[rule]]
name = "follow"
move = "predator"
speed = "1 um/min"
toward = { signal = "scent", strength = 2, half = "0.1 ng/mL" }
[[rule]]
name = "hunt"
from = ["predator", "prey"]
to = ["predator", "empty"]
rate = "0.05 /min"
[[rule]]
name = "breed"
divide = "prey"
rate = "2 /h"
when = [ { signal = "neighbours.predator", effect = "decreases", half = 1, power = 4 } ]
"""

UPTAKE = '\ntakes_up = { warmth = "300 um^3/h" }\nseeding'

MODELS = {
    "bone": TISSUE,
    "exact": PREY,  # what diffuses everywhere alike, and is not taken up, is solved exactly
    "prey": PREY.replace("\nseeding", UPTAKE, 1),
}


def main(name: str, shape: str, ends: str, *layouts: str) -> None:
    extents = tuple(map(int, shape.split("x")))
    model = small_model(MODELS[name], shape=extents, boundary=ends.split(","))
    bone = slab_of_bone(model, 5) if name == "bone" else None
    for layout in layouts:
        simulation = Simulation(model, 5, bone, devices=layout)
        row = simulation.advance(30, 10)[-1]
        ledger = simulation.host_ledger()
        totals = hashlib.sha256(b"".join(ledger[n].tobytes() for n in sorted(ledger))).hexdigest()
        found = digest(simulation.host_state())
        print("digest", found, totals, [row[n] for n in sorted(row)], flush=True)


main(*sys.argv[1:])
