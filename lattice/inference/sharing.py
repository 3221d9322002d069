"""Independent runs, shared by the devices of this process: GPUs, or cores that are devices."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import jax

__all__ = ["each_on_a_device", "local_devices", "runs_go_on"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def local_devices(most: int | None = None) -> list[Any]:
    """Devices of this process, at most so many (None: all)."""
    return jax.local_devices()[:most]


def each_on_a_device(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    devices: Sequence[Any],
    tell: Callable[[int, Result], None] = lambda place, result: None,
) -> list[Result]:
    """Results of `work`, in the order of `tasks`; one task at a time on each device.

    `work` uses JAX's default device. `tell` hears place and result of each task as they end, in
    this thread. What `work` raises first is raised here, when tasks that run have ended; those that
    have not begun never do. An interrupt is raised at once: tasks that run end unheard, or with the
    process (`runs_go_on`)."""
    found: dict[int, Result] = {}
    waiting, ended, stopped = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()
    for item in enumerate(tasks):
        waiting.put(item)
    threads = [_Runs(device, work, waiting, ended, stopped) for device in devices]
    try:
        for thread in threads:
            thread.start()
        for _ in tasks:
            place, result, error = ended.get()
            if error is not None:
                raise error
            found[place] = result
            tell(place, result)
    except BaseException as error:
        stopped.set()
        if isinstance(error, Exception):  # an interrupt waits for nobody
            for thread in threads:
                thread.join()
        raise
    return [found[place] for place in range(len(tasks))]


class _Runs(threading.Thread):
    """Does tasks (place, task) on one device until none waits, or one has failed, or it is stopped;
    what has ended is (place, result, what was raised)."""

    def __init__(
        self,
        device: Any,
        work: Callable[[Any], Any],
        waiting: queue.SimpleQueue,
        ended: queue.SimpleQueue,
        stopped: threading.Event,
    ) -> None:
        super().__init__(daemon=True)
        self.device, self.work = device, work
        self.waiting, self.ended, self.stopped = waiting, ended, stopped

    def run(self) -> None:
        with jax.default_device(self.device), suppress(queue.Empty):
            while not self.stopped.is_set():
                place, task = self.waiting.get_nowait()
                try:
                    self.ended.put((place, self.work(task), None))
                except BaseException as error:
                    self.stopped.set()
                    self.ended.put((place, None, error))


def runs_go_on() -> bool:
    """Whether this process has tasks of `each_on_a_device` that still run: after an interrupt."""
    return any(isinstance(thread, _Runs) for thread in threading.enumerate())
