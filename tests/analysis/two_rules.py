"""A model whose screening has a known answer: A turn into B, and a pulse kills half of A at once.

The expected number of A after a day is N exp(-turn), so that the treated arm ends with
-N/2 exp(-turn) against the reference: `fade` (of B) and `wake` (of a state that nobody is in) have
no effect whatsoever."""

from __future__ import annotations

import math
from pathlib import Path

VOXELS = 20**3

MODEL = """
schema = 1
[lattice]
shape = [20, 20, 20]
voxel = "10 um"
[time]
step = "1 h"
until = "3 day"
[[state]]
name = "A"
seeding = { where = "everywhere", fraction = 0.5 }
[[state]]
name = "B"
[[state]]
name = "sleeper"
[[rule]]
name = "turn"
from = "A"
to = "B"
rate = "1 /day"
[[rule]]
name = "fade"
from = "B"
to = "empty"
rate = "0.05 /day"
[[rule]]
name = "wake"
from = "sleeper"
to = "A"
rate = "1 /day"
[[intervention]]
name = "pulse"
at = ["0 h"]
kill = { states = ["A"], fraction = 0.5 }
"""

SCREEN = """
schema = 1
[screen]
model = "model.toml"
method = "morris"
trajectories = 4
levels = 4
samples = 64
seed = 3
replicates = 1
until = "1 day"
outcomes = ["A"]
[reference]
set = { "intervention.pulse.kill.fraction" = 0 }
[treated]
set = { "intervention.pulse.kill.fraction" = 0.5 }
[[parameter]]
name = "rule.turn.rate"
low = "0.1 /day"
high = "3 /day"
scale = "log"
[[parameter]]
name = "rule.fade.rate"
low = "0.01 /day"
high = "0.1 /day"
[[parameter]]
name = "rule.wake.rate"
low = "0.1 /day"
high = "1 /day"
"""


def expected_difference(turn: float) -> float:
    """Treated minus reference after a day, cells; `turn` in 1/hour."""
    return -0.25 * VOXELS * math.exp(-24 * turn)


def write_screen(folder: Path, *replacements: tuple[str, str]) -> Path:
    """The model and its screening, with some pieces of the latter's text replaced."""
    (folder / "model.toml").write_text(MODEL)
    text = SCREEN
    for old, new in replacements:
        text = text.replace(old, new, 1)
    path = folder / "screening.toml"
    path.write_text(text)
    return path
