"""Work that is shared by processes, each with a JAX of one thread or of one GPU."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
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
    gpus: tuple[str, ...] = (),
) -> Iterator[Result]:
    """Results of `work` as they come, in any order.

    `prepare(*arguments)` runs once in each process. The processes are started afresh and end with
    the loop. `gpus`: names, as `visible_gpus` gives them; each process sees one, in turn. Raises
    NumericalError when a process dies, and whatever `work` raises."""
    context = multiprocessing.get_context("spawn")
    # One executor for each process: those of one executor all inherit the same environment.
    executors = [
        ProcessPoolExecutor(1, context, initializer=_start, initargs=(prepare, arguments))
        for _ in range(processes)
    ]
    left, working = iter(tasks), dict[Future[Result], int]()

    def hand_out(place: int) -> None:
        for task in islice(left, 1):
            with inherited(environment_of(place, gpus)):
                working[executors[place].submit(work, task)] = place

    try:
        for place in range(processes):
            hand_out(place)
        while working:
            for future in wait(working, return_when=FIRST_COMPLETED).done:
                result = future.result()
                hand_out(working.pop(future))
                yield result
    except BrokenProcessPool:
        raise NumericalError(
            "a process of the pool has died (out of memory?): what was finished is kept; "
            "repeat the command to go on, with fewer --processes"
        ) from None
    finally:
        for executor in executors:
            executor.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()


def _start(prepare: Callable[..., None], arguments: tuple) -> None:
    # An interrupt of the terminal reaches all processes: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare(*arguments)
