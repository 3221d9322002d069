"""Who does which run: one process, or several that keep their compiled programs."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from lattice.model.errors import OsteolatticeError
from lattice.trial.environment import environment_of, inherited
from lattice.trial.folder import write_failure
from lattice.trial.worker import Job, Workshop, attempt, serve

__all__ = ["Standing", "carry_out", "choose"]

SECONDS_TO_STOP = 20.0


@dataclass
class Standing:
    """Where a trial stands. `work` is in voxel hours."""

    runs: int
    work: float
    finished: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    done_work: float = 0.0
    running: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def share(self) -> float:
        """How much of the work is done, from 0 to 1."""
        done = self.done_work + sum(self.running.values())
        return min(1.0, done / self.work) if self.work else 1.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the pace so far; None before there is one."""
        spent = time.monotonic() - self.began
        return spent * (1 / self.share - 1) if self.share > 0.005 and spent > 5 else None

    def at(self, job: Job, hours: float) -> None:
        begun = job.begun if job.begin is not None else 0.0
        whole = job.until - begun
        self.running[job.key] = job.work * (hours - begun) / whole if whole else 0.0

    def ended(self, job: Job, problem: str | None) -> None:
        self.running.pop(job.key, None)
        self.done_work += job.work
        if problem is not None:
            self.failed[job.key] = problem
        else:
            self.finished += 1


Show = Callable[[Standing], None]
Stop = Callable[[], str | None]


def carry_out(
    jobs: Sequence[Job], processes: int, show: Show, stop: Stop, gpus: tuple[str, ...] = ()
) -> Standing:
    """Does all jobs, those first that others need; returns where it stands at the end.

    `gpus`: names, as `visible_gpus` gives them; each process uses one, in turn. A job whose
    beginning failed fails with it. Raises OsteolatticeError for what would hit every run."""
    standing = Standing(len(jobs), sum((job.work for job in jobs), 0.0))
    waiting = list(jobs)
    processes = min(processes, len(jobs))
    if processes <= 1:
        _alone(waiting, standing, show, stop)
    else:
        with _Pool(processes, gpus) as pool:
            pool.work(waiting, standing, show, stop)
    show(standing)
    return standing


def _ready(waiting: Sequence[Job], standing: Standing) -> list[Job]:
    """Jobs that may begin: what they need is no longer waited for."""
    open_keys = {job.key for job in waiting} | set(standing.running)
    return [job for job in waiting if job.needs not in open_keys]


def _drop_orphans(waiting: list[Job], standing: Standing) -> None:
    for job in list(waiting):
        if job.needs in standing.failed:
            problem = f"its beginning failed: {standing.failed[job.needs]}"
            write_failure(job.folder, problem)
            waiting.remove(job)
            standing.ended(job, problem)


def _alone(waiting: list[Job], standing: Standing, show: Show, stop: Stop) -> None:
    workshop, programs = Workshop(), set()
    while waiting and stop() is None:
        job = choose(_ready(waiting, standing), programs, Counter())
        waiting.remove(job)
        programs.add(job.program)
        standing.running[job.key] = 0.0

        def tell(hours: float, job: Job = job) -> None:
            standing.at(job, hours)
            show(standing)

        state, problem = attempt(workshop, job, tell, lambda: stop() is not None)
        if state == "stopped":
            return
        standing.ended(job, problem if state == "failed" else None)
        _drop_orphans(waiting, standing)
        show(standing)


def choose(ready: Sequence[Job], programs: set[str], elsewhere: Counter[str]) -> Job:
    """The job for a worker: one whose step it has compiled; else one of those whose step fewest
    others have compiled and most jobs want."""
    wanted = Counter(job.program for job in ready)
    return max(
        ready,
        key=lambda j: (j.program in programs, -elsewhere[j.program], wanted[j.program]),
    )


@dataclass
class _Worker:
    process: Any
    connection: Connection
    programs: set[str] = field(default_factory=set)
    job: Job | None = None


class _Pool:
    """Persistent worker processes, each with JAX on one thread or on one GPU."""

    def __init__(self, processes: int, gpus: tuple[str, ...] = ()) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.stopped = self.context.Event()
        self.environments = [environment_of(k, gpus) for k in range(processes)]
        self.workers = [self._new(environment) for environment in self.environments]

    def _new(self, environment: Mapping[str, str]) -> _Worker:
        here, there = self.context.Pipe()
        process = self.context.Process(target=serve, args=(there, self.stopped), daemon=True)
        with inherited(environment):
            process.start()
        there.close()
        return _Worker(process, here)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for worker in self.workers:
            try:
                worker.connection.send(None)
            except OSError:
                continue
        until = time.monotonic() + SECONDS_TO_STOP
        for worker in self.workers:
            worker.process.join(max(0.1, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()

    def work(self, waiting: list[Job], standing: Standing, show: Show, stop: Stop) -> None:
        while True:
            if stop() is None:
                self._hand_out(waiting, standing)
            else:
                self.stopped.set()
            busy = {w.connection: w for w in self.workers if w.job is not None}
            if not busy:
                return
            for connection in wait(list(busy), timeout=0.5):
                self._hear(busy[connection], standing)  # type: ignore[index]
            _drop_orphans(waiting, standing)
            show(standing)

    def _hand_out(self, waiting: list[Job], standing: Standing) -> None:
        for worker in self.workers:
            ready = _ready(waiting, standing)
            if worker.job is not None or not ready:
                continue
            elsewhere = Counter(p for w in self.workers if w is not worker for p in w.programs)
            job = choose(ready, worker.programs, elsewhere)
            waiting.remove(job)
            standing.running[job.key] = 0.0
            worker.job = job
            worker.programs.add(job.program)
            worker.connection.send(job)

    def _hear(self, worker: _Worker, standing: Standing) -> None:
        job = worker.job
        assert job is not None
        try:
            kind, _, content = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            problem = f"its process ended (code {code}); is there enough memory for --jobs?"
            write_failure(job.folder, problem)
            standing.ended(job, problem)
            place = self.workers.index(worker)
            self.workers[place] = self._new(self.environments[place])
            return
        if kind == "at":
            standing.at(job, content)
            return
        worker.job = None
        if kind == "error":
            assert isinstance(content, OsteolatticeError)
            raise content
        if kind == "stopped":
            standing.running.pop(job.key, None)
        else:
            standing.ended(job, content if kind == "failed" else None)
