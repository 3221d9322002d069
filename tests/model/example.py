"""A small model text that the tests of this room change."""

BASE = """
schema = 1
name = "base"

[lattice]
shape = [8, 6, 4]
voxel = "10 um"

[geometry]
kind = "plate"
thickness = "20 um"

[time]
step = "15 min"
until = "2 day"

[[cytokine]]
name = "TNF"
diffusion = "30 um^2/s"
in_bone = 0.02
half_life = "78 min"
molar_mass = "17.4 kDa"

[[cytokine]]
name = "IL10"
diffusion = "1800 um^2/min"
decay = "0.0032 /min"

[[state]]
name = "M0"
seeding = { where = "marrow", fraction = 0.05 }

[[state]]
name = "M1"
secretes = { TNF = { rate = "8.3 fg/day", when = [
    { signal = "IL10", effect = "decreases", half = "0.025 ng/mL" },
] } }

[[state]]
name = "builder"
lives = "surface"
lays = "2 um/day"
when_filled = { builder = 0.8, buried = 0.2 }
seeding = [ { where = "surface", fraction = 0.2, age = "5 day" } ]

[[state]]
name = "buried"
lives = "bone"

[[state]]
name = "corpse"
takes_up = { TNF = "10 um^3/h" }

[[rule]]
name = "polarise"
from = "M0"
to = "M1"
rate = "0.6 /day"
when = [
    { signal = "TNF", effect = "increases", half = "0.01 ng/mL", power = 2 },
    { signal = "neighbours.M1", effect = "increases", shape = "linear", scale = 2 },
    { signal = "TNF", effect = "increases", shape = "threshold", above = "5 pM" },
]

[[rule]]
name = "engulf"
from = ["M0", "corpse"]
to = ["M1", "empty"]
rate = "0.167 /min"

[[rule]]
name = "die"
from = "builder"
to = "corpse"
after = "5 day"

[[rule]]
name = "crawl"
move = "M0"
speed = "0.5 um/min"
through = ["corpse"]
toward = { signal = "TNF", strength = 2.0 }

[[rule]]
name = "divide"
divide = "M0"
rate = "1 /day"

[[intervention]]
name = "pulse"
kill = { states = ["builder"], fraction = 0.2, into = "corpse" }
every = "3.5 day"

[[intervention]]
name = "block"
factor = { engulf = 0.1, "cytokine.TNF.decay" = 2 }
from = "1 day"
until = "2 day"

[sources]
"rule.*" = { source = "a guess", label = "assumed" }
"rule.engulf.rate" = { source = "a paper", doi = "10.1/2", label = "read" }
"""


def changed(old: str, new: str) -> str:
    """The text with one place changed; the place must be there."""
    assert BASE.count(old) == 1, old
    return BASE.replace(old, new)
