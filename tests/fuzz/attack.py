"""A process that gives a reader mangled files: `python -m tests.fuzz.attack KIND SEED COUNT`.

It ends with 0 if each file was read or refused in one sentence that names it. Whatever else a
reader does with one (another exception, a crash, a hang, more memory than `MEMORY`) ends it
otherwise, and the file stays behind in the present folder.
"""

from __future__ import annotations

import faulthandler
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from lattice.analysis.screen_file import read_screen
from lattice.calibration import load_calibration
from lattice.fitting.design import load_design
from lattice.fitting.reading import load_fit
from lattice.io.checkpoint import newest_checkpoint, read_checkpoint
from lattice.io.images import read_image
from lattice.io.runfile import RunFile
from lattice.model.errors import InputError, OsteolatticeError
from lattice.trial.reading import load_trial
from tests.fuzz import originals
from tests.fuzz.mutations import mutated

SECONDS = 20
"""A case that takes longer hangs."""
MEMORY = 400 << 10
"""KiB that the process may gain; the files have a few KiB."""


def read_run(path: Path) -> None:
    """All that commands read of a run file."""
    run = RunFile.open(path)
    run.check_parts()
    for index in range(len(run.times)):
        run.snapshot(index)
    assert (run.seed, run.provenance) is not None


def read_grey(path: Path) -> None:
    """An image with the size of its voxels as the file tells it, or else given."""
    try:
        read_image(path)
    except InputError:
        read_image(path, 10.0)


def read_study(path: Path) -> None:
    """A file that asks for many runs, as its command reads it."""
    kind = next(k for name, k in originals.STUDIES.items() if path.match(name))
    readers = {
        "trial": load_trial, "screen": read_screen,
        "calibration": load_calibration, "design": load_design,
    }  # fmt: skip
    readers[kind](path)


READERS: dict[str, tuple[Callable, Callable]] = {
    "checkpoint": (originals.checkpoints, read_checkpoint),
    "folder": (originals.checkpoints, lambda path: newest_checkpoint(path.parent)),
    "run": (originals.run_files, read_run),
    "image": (originals.images, read_grey),
    "fit": (originals.fits, load_fit),
    "study": (originals.studies, read_study),
}


def attack(kind: str, seed: int, count: int) -> None:
    """Gives the readers of a kind so many mangled files."""
    make, read = READERS[kind]
    draw = random.Random(seed)
    files = [(path, path.read_bytes(), target) for path, target in make(Path.cwd())]
    for _, _, target in files:
        read(target)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        path, whole, target = draw.choice(files)
        path.write_bytes(mutated(whole, draw))
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            read(target)
        except OsteolatticeError as error:
            sentence = str(error)
            assert "\n" not in sentence, sentence
            assert target.name in sentence or str(target.parent) in sentence, sentence
        finally:
            faulthandler.cancel_dump_traceback_later()
        path.write_bytes(whole)
    gained = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert gained < MEMORY, f"the readers have taken {gained} KiB"


if __name__ == "__main__":
    faulthandler.enable()
    attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
