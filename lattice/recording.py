"""What is written of a run and when: rows, snapshots and checkpoints, in a background thread."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lattice.engine import processes
from lattice.engine.simulation import Row, Simulation
from lattice.io.checkpoint import write_checkpoint
from lattice.io.runfile import RunWriter, write_block
from lattice.io.runread import PARTS
from lattice.io.shards import Share, await_files
from lattice.io.writer import Writer
from lattice.model.errors import NumericalError
from lattice.model.structure import Model

CHECKPOINT_SHARE = 0.01
"""Of the time of a run that may go into checkpoints whose cadence nobody has chosen."""

LONGEST_WITHOUT = 1800.0
"""Seconds after which one that is due is written whatever it costs."""


def cadence(model: Model, hours: float | None) -> int | None:
    """A cadence in steps, at least one."""
    return None if hours is None else max(1, round(hours / model.time.step))


def label_steps(model: Model) -> tuple[int, ...]:
    """The steps at which virtual labels begin and end: a snapshot is taken there."""
    if model.matrix is None:
        return ()
    return tuple(round(hours / model.time.step) for hours in model.output.label_times)


def next_event(step: int, end: int, *cadences: int | None, marks: tuple[int, ...] = ()) -> int:
    """The first step after `step` at which something is to be written, or the end."""
    due = [every * (step // every + 1) for every in cadences if every is not None]
    return min([end, *due, *(mark for mark in marks if mark > step)])


def check_state(
    simulation: Simulation, since: int, kept: Callable[[], Path | None] = lambda: None
) -> None:
    """Refuse a state that cannot be right: not a number, negative, more matrix than a voxel holds.

    `since` is the step at which the state was sound; `kept` tells the last good checkpoint. Raises
    NumericalError naming field, voxel, step, likely cause and that checkpoint."""
    fault = simulation.fault()
    if fault is None:
        return
    path = kept()
    good = f"the last good checkpoint is {path}" if path else "no checkpoint was kept"
    raise NumericalError(
        f"{fault}, at step {simulation.step} ({simulation.time_h:g} h; sound at step {since}): "
        f"{fault.cause} ({good})"
    )


class Keeper:
    """Writes rows, snapshots and checkpoints of a run in a background thread.

    Without a `run` (in all processes but the first) it writes its part of each snapshot and
    checkpoint.
    """

    def __init__(
        self, simulation: Simulation, run: RunWriter | None, folder: Path, about: dict
    ) -> None:
        self.simulation, self.run, self.folder, self.about = simulation, run, folder, about
        self.writer = Writer(depth=4)
        self._waiting: deque[tuple[float, dict[str, float]]] = deque()
        output, model = simulation.model.output, simulation.model
        self.cadences = tuple(
            cadence(model, h) for h in (output.series, output.snapshots, output.checkpoints)
        )
        self.marks = label_steps(model)
        self.last: Path | None = None
        self.row: Row = {}
        self._began = self._written = time.monotonic()
        self._spent = 0.0
        # Parts of a checkpoint are told from those of an earlier attempt at the same step by this.
        (self._attempt,) = processes.agreed(secrets.randbits(31))

    def begin(self, row: Row) -> None:
        """The first row, snapshot and checkpoint: a run can be resumed from its first second.

        Raises NumericalError."""
        check_state(self.simulation, self.simulation.step)
        self.add(row)
        self.keep(snapshot=self.cadences[1] is not None, checkpoint=True)

    def advance(self, steps: int, end: int) -> None:
        """Go on by some steps and write what is due on the way and after them.

        Raises NumericalError, and then writes nothing of these steps."""
        simulation, since = self.simulation, self.simulation.step
        rows = simulation.advance(steps, self.cadences[0])
        check_state(simulation, since, self._kept)
        for row in rows:
            self.add(row)
        step, every, marked = simulation.step, self.cadences[0], simulation.step in self.marks
        wanted = marked or (step == end and every is not None)
        if wanted and (every is None or step % every):
            self.add(simulation.row())
        _, snapshot, checkpoint = (
            every is not None and (step % every == 0 or step == end) for every in self.cadences
        )
        last = step == end
        self.keep(
            snapshot=snapshot or marked or (last and bool(self.marks)),
            checkpoint=last or (checkpoint and not self._saves_time()),
        )

    def _saves_time(self) -> bool:
        """Whether a checkpoint that is due is left out: all processes decide alike."""
        if not self.simulation.model.output.sparing:
            return False
        now = time.monotonic()
        dear = self._spent > CHECKPOINT_SHARE * (now - self._began)
        return processes.any_of(dear and now - self._written < LONGEST_WITHOUT)

    def _kept(self) -> Path | None:
        """The last checkpoint, once those that wait are written."""
        self.writer.drain()
        return self.last

    def add(self, row: Row) -> None:
        """A row of the series."""
        self.row = row
        if self.run is None:
            return
        values = {name: value for name, (value, _) in row.items() if name != "time"}
        self._waiting.append((row["time"][0], values))
        # One call takes all rows that wait, so that rows never fill the queue of the thread.
        if len(self._waiting) == 1:
            self.writer.submit(self._write_rows)

    def _write_rows(self) -> None:
        # A row leaves the line after it was written: `add` counts on that.
        assert self.run is not None
        while self._waiting:
            self.run.add_row(*self._waiting[0])
            self._waiting.popleft()

    def keep(self, *, snapshot: bool, checkpoint: bool) -> None:
        """Copy what is to be written of the present state and hand it to the thread."""
        if not (snapshot or checkpoint):
            return
        simulation = self.simulation
        hours = simulation.time_h
        if checkpoint and self.row.get("time", (None,))[0] != hours:
            self.row = simulation.row()
        first, state, ledger = simulation.own_part()
        share = self._share(first)
        if snapshot:
            self.writer.submit(self._snapshot, simulation.step, hours, state, share)
        if checkpoint:
            self.writer.submit(self._checkpoint, simulation.step, hours, state, ledger, share)

    def _snapshot(self, step: int, hours: float, state, share: Share | None) -> None:
        if share is not None:
            planes = self.simulation.region.block[0]
            write_block(self.folder, share, step, self.simulation.model, state, planes)
        if self.run is not None and share is not None:
            self.run.add_blocks(hours, await_files(self.folder / PARTS, share, step))
        elif self.run is not None:
            self.run.add_snapshot(hours, state)

    def _share(self, first: tuple[int, ...]) -> Share | None:
        """This process's share of a checkpoint; None where it holds everything."""
        if not processes.several():
            return None
        shape = self.simulation.region.shape
        return Share(*processes.place(), first, shape, self._attempt)

    def _checkpoint(self, step: int, hours: float, state, ledger, share: Share | None) -> None:
        began = time.monotonic()
        # A run that is resumed here must find every earlier row.
        if self.run is not None:
            self._write_rows()
            self.run.flush()
        model = self.simulation.model
        path = write_checkpoint(
            self.folder,
            state=state,
            ledger=ledger,
            model=model,
            seed=self.simulation.seed,
            step=step,
            time_h=hours,
            provenance=self.about,
            keep=model.output.keep,
            share=share,
        )
        if self.run is not None:
            self.last = path
        self._written = time.monotonic()
        self._spent += self._written - began


def copied(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of our own: those of the device are reused by the next step."""
    return {name: np.array(array) for name, array in arrays.items()}
