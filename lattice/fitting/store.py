"""Sampled runs on disk, so that a command that was stopped does not repeat them."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lattice.fitting.sampled import sample
from lattice.fitting.structure import Problem
from lattice.io.files import replacing

SEEDS_APART = 10_000_000
"""Seeds of sampled runs begin here, so that data simulated with small seeds are not met again."""

SECONDS_BETWEEN_WRITES = 10.0

Tell = Callable[[str], None]


class SampleStore:
    """Sampled runs in a folder, each set under a name, with the point and the seeds that it belongs
    to; those of a set that have ended are there before it is complete. `runs` counts what was asked
    for, whether it was on disk or not. At most `jobs` runs at a time (None: as many as JAX has
    devices)."""

    def __init__(self, folder: Path, seed: int, tell: Tell, jobs: int | None = None) -> None:
        self.folder, self.seed, self.tell, self.jobs, self.runs = folder, seed, tell, jobs, 0
        folder.mkdir(exist_ok=True)

    def seeds(self, first: int, count: int) -> range:
        """Seeds first, first + 1, ... of the runs of this fit."""
        begin = SEEDS_APART * (1 + self.seed % 10**6) + first
        return range(begin, begin + count)

    def get(
        self, name: str, problem: Problem, u: Float[np.ndarray, "P"], seeds: Sequence[int]
    ) -> Float[np.ndarray, "N M"]:
        """The runs of this name if they were made at u with these seeds, else new ones."""
        self.runs += len(seeds) * len({d.condition for d in problem.data})
        path = self.folder / f"{name}.npz"
        made_of = np.array([*u, seeds[0], len(seeds)], float)
        found = _read(path, made_of)
        if found is not None and not np.isnan(found).any():
            return found
        self.tell(f"{name}: {len(seeds)} sampled runs of each condition")
        began = kept = time.monotonic()
        before = 0.0 if found is None else float(np.mean(~np.isnan(found)))
        ended: Float[np.ndarray, "N M"] | None = None

        def keep(found: Float[np.ndarray, "N M"]) -> None:
            nonlocal kept, ended
            ended = found
            now, done = time.monotonic(), float(np.mean(~np.isnan(found)))
            if now - kept > SECONDS_BETWEEN_WRITES and done < 1:
                _write(path, made_of, found)
                left = (now - began) * (1 - done) / (done - before)
                self.tell(f"{name}: {100 * done:.0f} % of the runs, {left:.0f} s left")
                kept = now

        try:
            sampled = sample(problem, u, seeds, jobs=self.jobs, known=found, keep=keep)
        except BaseException:
            if ended is not None:
                _write(path, made_of, ended)
            raise
        _write(path, made_of, sampled)
        return sampled


def _write(path: Path, made_of: np.ndarray, sampled: Float[np.ndarray, "N M"]) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, made_of=made_of, sampled=sampled)


def _read(path: Path, made_of: np.ndarray) -> np.ndarray | None:
    """Runs that were made of this point and these seeds, NaN where one is missing; None if none
    that can be read were."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["sampled"] if np.array_equal(file["made_of"], made_of) else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
