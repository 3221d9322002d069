"""A trial that takes seconds: a plate of bone, osteoblasts that lay matrix, a kill, a blockade."""

from __future__ import annotations

from pathlib import Path

from lattice.trial.reading import load_trial
from lattice.trial.structure import Trial

MODEL = """
schema = 1
name = "tiny"
[lattice]
shape = [8, 8, 8]
voxel = "10 um"
[geometry]
kind = "plate"
thickness = "20 um"
axis = "z"
[time]
step = "1 h"
until = "2 day"
[output]
series = "2 h"
[matrix]
lag = "6 h"
initial_surface = "uniform"
[[state]]
name = "precursor"
seeding = { where = "marrow", fraction = 0.2 }
[[state]]
name = "osteoblast"
lives = "surface"
lays = "0.5 /day"
when_filled = { osteocyte = 0.4, osteoblast = 0.6 }
when_stranded = "precursor"
seeding = { where = "surface", fraction = 0.6 }
[[state]]
name = "osteocyte"
lives = "bone"
[[state]]
name = "apoptotic"
[[rule]]
name = "land"
from = "precursor"
to = "osteoblast"
rate = "0.5 /day"
"""

TRIAL = """
schema = 1
[trial]
name = "tiny trial"
model = "model.toml"
seed = 3
replicates = 3
dose_is = "fraction killed"
until = "14 h"
treated_from = "6 h"
reference = "vehicle"

[[outcome]]
name = "bone formed"
series = "matrix.formed"
reduce = "change"
[[outcome]]
name = "osteoblasts"
series = "osteoblast"
reduce = "mean"

[[arm]]
name = "vehicle"

[[arm]]
name = "kill 0"
curve = "kill"
dose = 0
[[arm.intervention]]
name = "kill"
kill = { states = ["osteoblast"], fraction = 0.0, into = "apoptotic" }
from = "6 h"
every = "4 h"

[[arm]]
name = "kill 0.6"
curve = "kill"
dose = 0.6
[[arm.intervention]]
name = "kill"
kill = { states = ["osteoblast"], fraction = 0.6, into = "apoptotic" }
from = "6 h"
every = "4 h"

[[finding]]
name = "F1"
claim = "a kill lowers the number of osteoblasts"
source = "by construction"
outcome = "osteoblasts"
arm = "kill 0.6"
expect = "down"

[[finding]]
name = "F2"
claim = "a kill of nothing does nothing"
outcome = ["bone formed", "osteoblasts"]
arm = "kill 0"
expect = "none"
margin = "1 %"
"""


def write_trial(folder: Path, *replacements: tuple[str, str]) -> Path:
    """The tiny trial and its model, with some pieces of the trial's text replaced."""
    text = TRIAL
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    (folder / "model.toml").write_text(MODEL)
    path = folder / "trial.toml"
    path.write_text(text)
    return path


def tiny_trial(folder: Path, *replacements: tuple[str, str], **options) -> Trial:
    """The same, loaded."""
    return load_trial(write_trial(folder, *replacements), **options)
