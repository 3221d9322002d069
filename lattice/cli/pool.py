"""Work that is shared by processes, each with a JAX of one thread."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from lattice.model.errors import NumericalError
from lattice.trial.environment import environment_of, inherited

Task = TypeVar("Task")
Result = TypeVar("Result")


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
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(processes, context, _start, (prepare, arguments))
    try:
        with inherited(environment_of(0, ())):
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


def _start(prepare: Callable[..., None], arguments: tuple) -> None:
    # An interrupt of the terminal reaches all processes: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare(*arguments)
