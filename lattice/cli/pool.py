"""Work that is shared by processes, each with a JAX of one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from lattice.model.errors import NumericalError

Task = TypeVar("Task")
Result = TypeVar("Result")

ONE_THREAD = {"OMP_NUM_THREADS": "1", "NPROC": "1"}
ONE_THREAD_FLAGS = "--xla_cpu_multi_thread_eigen=false"


def each(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    processes: int,
    prepare: Callable[..., None],
    arguments: tuple,
) -> Iterator[Result]:
    """Results of `work` as they come, in any order.

    `prepare(*arguments)` runs once in each process. The processes are started afresh and end with
    the loop. Raises NumericalError when one of them dies, and whatever `work` raises."""
    environment = {**ONE_THREAD, "XLA_FLAGS": _flags()}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)  # what a new process inherits
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(processes, context, _start, (prepare, arguments))
    try:
        waiting = {executor.submit(work, task) for task in tasks}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise NumericalError(
            "a process of the pool has died (out of memory?): what was finished is kept; "
            "repeat the command to go on, with fewer --processes"
        ) from None
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _flags() -> str:
    flags = os.environ.get("XLA_FLAGS", "")
    return flags if ONE_THREAD_FLAGS in flags else f"{flags} {ONE_THREAD_FLAGS}".strip()


def _start(prepare: Callable[..., None], arguments: tuple) -> None:
    # An interrupt of the terminal reaches all processes: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare(*arguments)
