"""What all tests share: small models written as model files."""

from __future__ import annotations

import numpy as np
import pytest

from lattice.model import loads
from lattice.model.structure import Model

HEAD = """
schema = 1
[lattice]
shape = {shape}
voxel = "10 um"
boundary = {boundary}
[time]
step = "{step}"
until = "{until}"
{time}
"""


def small_model(
    body: str,
    *,
    shape=(12, 10, 8),
    boundary="no-flux",
    step="30 min",
    until="1 day",
    time="",
    overrides=(),
) -> Model:
    """A model of some tables on a small lattice."""
    boundary = f'"{boundary}"' if isinstance(boundary, str) else list(boundary)
    head = HEAD.format(shape=list(shape), boundary=boundary, step=step, until=until, time=time)
    return loads(head + body, overrides=list(overrides))


def slab_of_bone(model: Model, planes: int = 3) -> np.ndarray:
    """Bone in the first planes along z."""
    bone = np.zeros(model.lattice.shape[::-1], np.uint8)
    bone[:planes] = 1
    return bone


@pytest.fixture(scope="session")
def tissue() -> str:
    """A model that uses every mechanism: fields, pairs, movement, division, ages, matrix, drugs."""
    return TISSUE


TISSUE = """
[geometry]
kind = "plate"
thickness = "30 um"
axis = "z"
[matrix]
lag = "1 day"
initial_surface = "uniform"
[[cytokine]]
name = "TNF"
diffusion = "30 um^2/s"
in_bone = 0.05
half_life = "78 min"
[[cytokine]]
name = "find_me"
diffusion = "9 um^2/s"
in_bone = 0.02
half_life = "30 min"
[[cytokine]]
name = "PTH"
systemic = true
half_life = "2 h"
initial = "0.1 ng/mL"
production = "0.02 ng/mL/h"
[[state]]
name = "macrophage"
seeding = { where = "marrow", fraction = 0.08, age = "2 day" }
[state.secretes.TNF]
rate = "5 fg/day"
when = [ { signal = "find_me", effect = "decreases", half = "0.1 ng/mL" } ]
[[state]]
name = "efferocyte"
takes_up = { TNF = "300 um^3/h" }
[[state]]
name = "precursor"
seeding = { where = "marrow", fraction = 0.12 }
[[state]]
name = "osteoblast"
lives = "surface"
lays = { rate = "0.5 /day", when = [ { signal = "TNF", effect = "decreases", half = "3 ng/mL" } ] }
takes_up = { PTH = "200 um^3/h" }
when_filled = { osteocyte = 0.4, osteoblast = 0.3, lining = 0.3 }
when_stranded = "precursor"
seeding = { where = "surface", fraction = 0.5, age = "3 day" }
[[state]]
name = "lining"
lives = "surface"
when_stranded = "precursor"
[[state]]
name = "osteocyte"
lives = "bone"
seeding = { where = "bone", fraction = 0.05 }
[[state]]
name = "apoptotic"
secretes = { find_me = "20 fg/day" }
[[state]]
name = "osteoclast"
lives = "surface"
resorbs = "2 /day"
when_stranded = "empty"
seeding = { where = "surface", fraction = 0.08 }
[[rule]]
name = "arrive"
from = "empty"
to = "macrophage"
rate = "0.01 /day"
when = [ { signal = "find_me", effect = "increases", half = "0.05 ng/mL", ceiling = 3.0 } ]
[[rule]]
name = "crawl"
move = "macrophage"
speed = "0.3 um/min"
through = ["precursor"]
toward = { signal = "find_me", strength = 4.0, half = "0.01 ng/mL" }
[[rule]]
name = "wander"
move = "precursor"
speed = "0.1 um/min"
[[rule]]
name = "engulf"
from = ["macrophage", "apoptotic"]
to = ["efferocyte", "empty"]
rate = "0.05 /min"
[[rule]]
name = "digest"
from = "efferocyte"
to = "macrophage"
after = "5 h"
[[rule]]
name = "divide"
divide = "precursor"
rate = "0.5 /day"
when = [ { signal = "density.precursor", shape = "linear", effect = "decreases", scale = 0.2 } ]
[[rule]]
name = "differentiate"
from = "precursor"
to = "osteoblast"
rate = "8 /day"
[[rule.when]]
signal = "neighbours.macrophage"
shape = "hill"
effect = "increases"
half = 1
power = 2
floor = 0.3
[[rule]]
name = "die"
from = "osteoblast"
to = "apoptotic"
rate = "0.3 /day"
[[rule.when]]
signal = "age"
shape = "threshold"
effect = "increases"
above = "2 day"
floor = 0.2
ceiling = 2.0
[[rule]]
name = "die_early"
from = "precursor"
to = "apoptotic"
rate = "0.5 /day"
[[intervention]]
name = "drug"
kill = { states = ["osteoblast"], fraction = 0.3, into = "apoptotic" }
every = "6 h"
from = "3 h"
[[intervention]]
name = "blockade"
factor = { engulf = 0.1 }
from = "12 h"
until = "18 h"
[[intervention]]
name = "infusion"
source = { cytokine = "TNF", rate = "0.5 ng/mL/h", where = "marrow" }
from = "2 h"
until = "9 h"
"""
