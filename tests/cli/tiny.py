"""One tiny model for all commands, and how they are called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TINY = """
schema = 1
[lattice]
shape = [8, 8, 8]
voxel = "10 um"
[geometry]
kind = "plate"
thickness = "20 um"
axis = "z"
[time]
step = "30 min"
until = "10 h"
[output]
series = "1 h"
snapshots = "5 h"
checkpoints = "2 h"
[[cytokine]]
name = "TNF"
diffusion = "30 um^2/s"
half_life = "78 min"
[[state]]
name = "M0"
seeding = { where = "marrow", fraction = 0.2 }
[[state]]
name = "M1"
secretes = { TNF = "8 fg/day" }
[[rule]]
name = "polarise"
from = "M0"
to = "M1"
rate = "0.6 /day"
when = [ { signal = "TNF", effect = "decreases", half = "0.01 ng/mL" } ]
[[intervention]]
name = "pulse"
kill = { states = ["M0"], fraction = 0.1 }
every = "3 h"
"""

ROOT = Path(__file__).parents[2]


def write_model(folder: Path, *replacements: tuple[str, str], name: str = "tiny.toml") -> Path:
    """The tiny model, with some pieces of its text replaced."""
    text = TINY
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = folder / name
    path.write_text(text)
    return path


def command(*arguments: object) -> list[str]:
    """The command line of `osteolattice` for `subprocess`."""
    return [sys.executable, "-m", "lattice.cli.main", *map(str, arguments)]


def environment() -> dict[str, str]:
    """This environment without settings that change what a command does."""
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return {**kept, "PYTHONPATH": str(ROOT)}


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `osteolattice` in a process of its own."""
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, check=False
    )
