"""Runs: a simulation with its output, from the model to the finished run folder.

`simulate` keeps everything in memory; `start` and `resume` write a run folder (ARCHITECTURE.md
shows its layout) beside the computation, in a background thread.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import numpy as np

from lattice.analysis.histomorphometry import PARTS, Measure, histomorphometry
from lattice.analysis.series import Series
from lattice.engine import processes
from lattice.engine.layout import Devices
from lattice.engine.simulation import LONGEST_CHUNK, Simulation
from lattice.io import images, provenance
from lattice.io.checkpoint import (
    Checkpoint,
    checkpoint_at,
    digest,
    newest_checkpoint,
    read_checkpoint,
    stored_digest,
)
from lattice.io.runfile import RunWriter, refuse_occupied
from lattice.io.vtkhdf import frame
from lattice.model import load, loads
from lattice.model.errors import InputError
from lattice.model.geometry import synthetic_planes, temporary_bytes
from lattice.model.planes import BYTES_PER_VOXEL, Planes, Workspace
from lattice.model.structure import Model
from lattice.recording import Keeper, cadence, check_state, copied, label_steps, next_event

SECONDS_BETWEEN_LOOKS = 1.0
"""How often a run looks up from computing: for a signal to stop, the wall time, the progress."""


CHANGEABLE = (
    "solver.iterations",
    "output.series",
    "output.snapshots",
    "output.checkpoints",
    "output.keep",
)
"""What may change when a run goes on: how well fields are solved, and what is written when."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands; `seconds_left` is None until it can be estimated."""

    step: int
    steps: int
    time_h: float
    until_h: float
    seconds_left: float | None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `stopped` tells why it ended early, or is None."""

    folder: Path
    step: int
    time_h: float
    digest: str
    seconds: float
    stopped: str | None
    row: dict[str, tuple[float, str]]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A simulation that was kept in memory."""

    model: Model
    seed: int
    series: dict[str, Series]
    state: dict[str, np.ndarray]
    """The last state, as declared in `lattice.engine.declare`: arrays [z, y, x]."""
    labelled: dict[float, dict[str, np.ndarray]] = field(default_factory=dict)
    """Hours -> snapshot, at the times of the virtual labels (`output.labels`)."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """The last state as a run file holds it: cells, osteoid, mineral and cytokines by name."""
        return frame(self.model, self.state)

    def histomorphometry(self, parts: Collection[str] = PARTS) -> dict[str, Measure]:
        """The measures of `lattice.analysis.histomorphometry` at the end of the run."""
        hours = next(iter(self.series.values())).time
        ledger = {name: s.values for name, s in self.series.items()} | {"time": hours}
        snapshots = self.labelled | {float(hours[-1]): self.snapshot()}
        return histomorphometry(self.model, snapshots, ledger, parts=parts)

    @property
    def digest(self) -> str:
        """SHA-256 of the last state."""
        return digest(self.state)


def bone_of(model: Model, seed: int) -> np.ndarray:
    """The bone that a run starts with, uint8 [z, y, x]: synthetic, or segmented from an image."""
    return bone_in_planes(model, seed, Workspace()).whole()


def bone_in_planes(model: Model, seed: int, workspace: Workspace) -> Planes:
    """The same bone, made or read slab by slab: large ones lie in a temporary file."""
    if model.geometry.kind == "image":
        return images.planes_from_image(model.geometry, model.lattice, workspace)
    return synthetic_planes(model.geometry, model.lattice, seed, workspace)


def making(model: Model) -> tuple[int, int]:
    """The most bytes of memory and of temporary files that making the bone of a run takes, both in
    the first process alone. Raises InputError."""
    workspace, (nx, ny, nz) = Workspace(), model.lattice.shape
    count = images.temporary_bytes if model.geometry.kind == "image" else temporary_bytes
    stored = count(model.geometry, model.lattice, workspace)
    return min(workspace.memory, BYTES_PER_VOXEL * nx * ny * nz), stored


def _beside(folder: Path) -> Path | None:
    """Where a run that will be written into a folder keeps temporary files: on the same disk, or,
    if it may not write there, where temporary files go."""
    above = next(path for path in folder.absolute().parents if path.is_dir())
    return above if os.access(above, os.W_OK) else None


def steps_until(model: Model, hours: float | None = None) -> int:
    """Whole steps that a run of at least so many hours (default: as the model says) takes."""
    hours = model.time.until if hours is None else hours
    return math.ceil(hours / model.time.step - 1e-9)


def simulate(
    model: Model | str | Path, *, seed: int = 0, until: str | None = None, devices: Devices = 1
) -> Run:
    """Run a model in memory.

    `until` replaces the model's own end, e.g. "35 day". `devices` share the lattice: a number of
    them, or how many blocks lie along z, y and x, as "2x2x1" or (2, 2, 1); the bits are the same.
    Raises InputError for a model file that cannot be used, or devices that cannot share its
    lattice, NumericalError when the computation leaves its range.
    """
    overrides = [] if until is None else [f"time.until={until}"]
    if not isinstance(model, Model):
        model = load(model, overrides=overrides)
    elif overrides:
        model = loads(model.text, overrides=overrides).with_values(**model.values)
    simulation = Simulation(model, seed, bone_of(model, seed), devices=devices)
    every = cadence(model, model.output.series)
    rows = [simulation.row()]
    end, marks = steps_until(model), label_steps(model)
    labelled = {}
    while simulation.step < end:
        since = simulation.step
        target = next_event(since, end, marks=marks)
        found = simulation.advance(min(LONGEST_CHUNK, target - since), every)
        check_state(simulation, since)
        step = simulation.step
        if (step == end or step in marks) and (every is None or step % every):
            found.append(simulation.row())
        rows += found
        if step in marks:
            labelled[simulation.time_h] = frame(model, copied(simulation.host_state()))
    hours = np.array([row["time"][0] for row in rows])
    series = {
        name: Series(name, hours, np.array([row[name][0] for row in rows]), unit)
        for name, (_, unit) in rows[0].items()
        if name != "time"
    }
    return Run(model, seed, series, copied(simulation.host_state()), labelled)


def start(
    model: Model,
    folder: Path,
    *,
    seed: int = 0,
    devices: Devices = 1,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], str | None] = lambda: None,
    max_seconds: float | None = None,
) -> Outcome:
    """Start a run in a new folder and carry it to its end.

    `stop` is asked about once a second and returns a reason to stop after a checkpoint.
    Raises InputError (also for a folder that is not empty), NumericalError, StorageError.
    """
    processes.first_does(lambda: refuse_occupied(folder))
    bone = partial(bone_in_planes, model, seed, Workspace(folder=_beside(folder)))
    simulation = Simulation(model, seed, bone, devices=devices)
    return record_run(simulation, folder, progress=progress, stop=stop, max_seconds=max_seconds)


def record_run(
    simulation: Simulation,
    folder: Path,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], str | None] = lambda: None,
    max_seconds: float | None = None,
) -> Outcome:
    """Carry a simulation to its end and record it, from its present step, in a new run folder."""
    row = simulation.row()
    units = {name: unit for name, (_, unit) in row.items()}
    about = _about(simulation)
    model, seed = simulation.model, simulation.seed
    made = processes.first_does(
        lambda: RunWriter.create(folder, model, seed=seed, provenance=about, units=units)
    )
    with made or nullcontext() as writer:
        keeper = Keeper(simulation, writer, folder, about)
        keeper.begin(row)
        return _carry_on(simulation, keeper, progress, stop, max_seconds, ())


def resume(
    folder: Path,
    *,
    until: str | None = None,
    overrides: Sequence[str] = (),
    devices: Devices = 1,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], str | None] = lambda: None,
    max_seconds: float | None = None,
) -> Outcome:
    """Go on from the newest good checkpoint of a run folder, to the same bits.

    `overrides`: texts "key=value" of `CHANGEABLE` that hold from here on.

    Raises InputError, DamagedFileError, NumericalError, StorageError."""
    checkpoint = _newest_for_all(folder)
    _refuse_another_model(overrides)
    ending = [] if until is None else [f"time.until={until}"]
    model = model_of(checkpoint, [*overrides, *ending])
    if steps_until(model) < checkpoint.step:
        raise InputError(
            f"{folder} has reached {checkpoint.time_h:g} h already; write a later --until, or none"
        )
    state = {**checkpoint.state, **checkpoint.ledger}
    simulation = Simulation(model, checkpoint.seed, state=state, devices=devices)
    about = _about(simulation)
    hours = checkpoint.time_h
    made = processes.first_does(
        lambda: RunWriter.resume(folder, model, time_h=hours, provenance=about)
    )
    with made or nullcontext() as writer:
        keeper = Keeper(simulation, writer, folder, about)
        keeper.last = checkpoint.path
        return _carry_on(simulation, keeper, progress, stop, max_seconds, checkpoint.skipped)


def _refuse_another_model(overrides: Sequence[str]) -> None:
    for text in overrides:
        key = text.partition("=")[0].strip()
        if key not in CHANGEABLE:
            raise InputError(
                f"--set {text}: a run goes on with its own model; start another one with "
                f"`osteolattice run`, or change one of {', '.join(CHANGEABLE)}"
            )


def _newest_for_all(folder: Path) -> Checkpoint:
    """The newest good checkpoint: the first of several processes verifies and chooses it, and each
    reads its own block when it needs it."""
    if not processes.several():
        return newest_checkpoint(folder)
    found = processes.first_does(lambda: newest_checkpoint(folder, stored=True))
    (step,) = processes.agreed(0 if found is None else found.step)
    return found or read_checkpoint(checkpoint_at(folder, step), stored=True)


def model_of(checkpoint: Checkpoint, overrides: list[str]) -> Model:
    """The model that a checkpoint belongs to."""
    model = loads(checkpoint.config, overrides=overrides)
    known = {k: v for k, v in checkpoint.values.items() if k in model.values}
    return model.with_values(**known)


def _carry_on(simulation, keeper, progress, stop, max_seconds, skipped) -> Outcome:
    """Steps until the end, or until there is a reason to stop."""
    began, end = time.monotonic(), steps_until(simulation.model)
    chunk, reason, compiled = 1, None, None
    with keeper.writer:
        while simulation.step < end and reason is None:
            # Rows are collected on the way; only what needs the whole state ends a chunk.
            event = next_event(simulation.step, end, *keeper.cadences[1:], marks=keeper.marks)
            looked = time.monotonic()
            keeper.advance(min(event - simulation.step, chunk), end)
            now = time.monotonic()
            if now - looked < SECONDS_BETWEEN_LOOKS / 2:
                chunk = min(2 * chunk, LONGEST_CHUNK)
            elif now - looked > SECONDS_BETWEEN_LOOKS:
                chunk = max(1, chunk // 2)
            compiled = compiled or (simulation.step, now)
            if processes.is_first():
                progress(_progress(simulation, compiled, end))
            reason = stop()
            if reason is None and max_seconds is not None and now - began >= max_seconds:
                reason = "the wall time that --max-walltime allows is used up"
            (chunk,) = processes.agreed(chunk)
            if processes.any_of(reason is not None):
                reason = reason or "another process was told to stop"
        finished = simulation.step >= end
        if not finished:
            keeper.keep(snapshot=False, checkpoint=True)
        elif not keeper.row:
            keeper.row = simulation.row()
        keeper.writer.drain()
        if finished and keeper.run is not None:
            keeper.writer.submit(keeper.run.finish)
            keeper.writer.drain()
    return Outcome(
        keeper.folder,
        simulation.step,
        simulation.time_h,
        _last_digest(simulation, keeper),
        time.monotonic() - began,
        None if finished else reason,
        keeper.row,
        skipped,
    )


def _last_digest(simulation: Simulation, keeper: Keeper) -> str:
    """The digest of the last state. The first of several processes reads it from the checkpoint
    just written, a block of planes at a time; the others do not know it."""
    if not processes.several():
        return digest(simulation.host_state())
    return "" if keeper.last is None else stored_digest(keeper.last)


def _progress(simulation: Simulation, compiled: tuple[int, float], end: int) -> Progress:
    """`compiled`: the step and the moment at which the first chunk, and compilation, were done."""
    done, left = simulation.step - compiled[0], end - simulation.step
    estimate = (time.monotonic() - compiled[1]) / done * left if done else None
    step = simulation.model.time.step
    return Progress(simulation.step, end, simulation.time_h, end * step, estimate)


def _about(simulation: Simulation) -> dict[str, object]:
    device = jax.devices()[0]
    count = 1 if simulation.mesh is None else simulation.mesh.devices.size
    return provenance.collect(device.device_kind, count)


def free_folder(base: Path) -> Path:
    """`base`, or the first of base-2, base-3, ... that does not exist."""
    candidate, number = base, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = base.with_name(f"{base.name}-{number}")
    return candidate


def require_folder(folder: Path) -> Path:
    """The folder itself. Raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a run folder; give the folder that `run --out` named")
    return folder


__all__ = [
    "Outcome",
    "Progress",
    "Run",
    "bone_of",
    "free_folder",
    "resume",
    "simulate",
    "start",
]
