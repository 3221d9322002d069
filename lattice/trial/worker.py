"""One run of a trial, and the process that does one after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import jax

from lattice.engine.simulation import LONGEST_CHUNK, Simulation
from lattice.io import provenance
from lattice.io.checkpoint import digest, newest_checkpoint, write_checkpoint
from lattice.io.runfile import RunFile, RunWriter
from lattice.model.errors import NumericalError, OsteolatticeError
from lattice.model.structure import Model
from lattice.recording import cadence, check_state, next_event
from lattice.run import SECONDS_BETWEEN_LOOKS, bone_of
from lattice.trial.folder import empty, write_failure, write_measures, write_result
from lattice.trial.measures import measures_of

__all__ = ["Job", "Workshop", "serve"]


@dataclass(frozen=True)
class Job:
    """A run, or the common beginning of some.

    `needs`: the job that has to be done before; `begin`: its folder, from which this one goes on.
    Hours: the end `until` and the first step of the treatment `begun`. `program` stands for the
    compiled step. `measure_only`: the run has finished, only measures are missing.
    """

    key: str
    model: Model
    seed: int
    folder: Path
    until: float
    begun: float
    program: str
    needs: str | None = None
    begin: Path | None = None
    keeps_state: bool = False
    measures: tuple[str, ...] = ()
    measure_only: bool = False

    @property
    def work(self) -> float:
        """Voxels times hours that are left to simulate when it begins."""
        nx, ny, nz = self.model.lattice.shape
        begun = self.begun if self.begin is not None else 0.0
        return 0.0 if self.measure_only else nx * ny * nz * (self.until - begun)


class Workshop:
    """Does jobs one after the other and keeps what the next one can use."""

    def __init__(self) -> None:
        self._about: dict[str, object] = {}

    def do(self, job: Job, tell: Callable[[float], None], stop: Callable[[], bool]) -> bool:
        """Does a job; False if it was stopped before its end.

        `tell` hears the hours that are done, about once a second; `stop` is asked as often.
        Raises OsteolatticeError."""
        if not job.measure_only and not self._simulate(job, tell, stop):
            return False
        if job.measures:
            run = RunFile.open(job.folder)
            write_measures(job.folder, measures_of(run, job.model, job.measures))
        return True

    def _simulate(self, job: Job, tell, stop) -> bool:
        began, model = time.monotonic(), job.model
        empty(job.folder)
        if job.begin is None:
            bone = bone_of(model, job.seed)
            simulation = Simulation(model, job.seed, bone)
        else:
            start = newest_checkpoint(job.begin)
            state = {**start.state, **start.ledger}
            simulation = Simulation(model, job.seed, state=state)
        units = {name: unit for name, (_, unit) in simulation.row().items()}
        with RunWriter.create(
            job.folder, model, seed=job.seed, provenance=self._provenance(), units=units
        ) as writer:
            if job.begin is not None:
                _take_over(writer, RunFile.open(job.begin))
            if not _advance(simulation, job, writer, tell, stop):
                return False
            writer.finish()
        state = simulation.host_state()
        if job.keeps_state:
            write_checkpoint(
                job.folder,
                state=state,
                ledger=simulation.host_ledger(),
                model=model,
                seed=job.seed,
                step=simulation.step,
                time_h=simulation.time_h,
                provenance=self._provenance(),
                keep=1,
            )
        seconds = time.monotonic() - began
        result = {"seed": job.seed, "step": simulation.step, "digest": digest(state)}
        about = self._provenance()
        write_result(job.folder, {**result, "seconds": round(seconds, 3), "provenance": about})
        return True

    def _provenance(self) -> dict[str, object]:
        if not self._about:
            self._about = provenance.collect(jax.devices()[0].device_kind, 1)
        return self._about


def _take_over(writer: RunWriter, start: RunFile) -> None:
    """The rows of the common beginning."""
    for row, hours in enumerate(start.series_time):
        writer.add_row(hours, {name: v[row] for name, (v, _) in start.series.items()})


def _advance(simulation: Simulation, job: Job, writer: RunWriter, tell, stop) -> bool:
    """Steps until the end, with the rows and snapshots that are due; False if stopped."""
    model = job.model
    step = model.time.step
    end = math.ceil(job.until / step - 1e-6)
    every = cadence(model, model.output.series)
    assert every is not None, "a trial is refused without a series"
    labels = set() if job.keeps_state else {round(t / step) for t in model.output.label_times}
    events = {round(job.begun / step), end, *labels}

    def keep() -> None:
        now = simulation.step
        if now % every == 0 or now in events:
            row = simulation.row()
            values = {name: value for name, (value, _) in row.items() if name != "time"}
            writer.add_row(simulation.time_h, values)
        if now in labels or (now == end and not job.keeps_state):
            writer.add_snapshot(simulation.time_h, simulation.host_state())

    keep()
    chunk, looked = 1, time.monotonic()
    while simulation.step < end:
        now = simulation.step
        special = [s for s in events if s > now]
        target = min([next_event(now, end, every), now + chunk, *special])
        began = time.monotonic()
        simulation.advance(target - now)
        check_state(simulation, now)
        keep()
        took = time.monotonic() - began
        if took < SECONDS_BETWEEN_LOOKS / 2:
            chunk = min(2 * chunk, LONGEST_CHUNK)
        elif took > SECONDS_BETWEEN_LOOKS:
            chunk = max(1, chunk // 2)
        if time.monotonic() - looked > SECONDS_BETWEEN_LOOKS:
            looked = time.monotonic()
            tell(simulation.time_h)
        if simulation.step < end and stop():
            return False
    return True


def attempt(workshop: Workshop, job: Job, tell, stop) -> tuple[str, str]:
    """Does a job: ("done" | "stopped" | "failed", why). A failed run is marked in its folder.

    Raises OsteolatticeError for what would hit every other run too (input, storage)."""
    try:
        return ("done" if workshop.do(job, tell, stop) else "stopped"), ""
    except NumericalError as error:
        problem = str(error)
    except (RuntimeError, MemoryError) as error:  # XLA: out of memory, a device that is lost
        lines = str(error).splitlines() or ["out of memory"]
        problem = f"{type(error).__name__}: {lines[0]}"
    write_failure(job.folder, problem)
    return "failed", problem


def serve(connection: Connection, stopped) -> None:
    """The life of a worker: jobs arrive on the connection, words about them go back.

    `stopped` is an event that ends the present job early. The end of the other side ends this one.
    """
    import signal

    # The terminal sends Ctrl-C to every process; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workshop = Workshop()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = connection.recv()
            if job is None:
                return

            def tell(hours: float, key=job.key) -> None:
                connection.send(("at", key, hours))

            try:
                state, problem = attempt(workshop, job, tell, stopped.is_set)
                connection.send((state, job.key, problem))
            except OsteolatticeError as error:
                connection.send(("error", job.key, error))
