"""Independent runs, shared by the devices of this process: GPUs, or cores that are devices."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

import jax

__all__ = ["each_on_a_device", "local_devices"]

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
    have not begun never do."""
    found: dict[int, Result] = {}
    if len(devices) == 1 or len(tasks) <= 1:
        for place, task in enumerate(tasks):
            found[place] = work(task)
            tell(place, found[place])
        return [found[place] for place in range(len(tasks))]
    free: queue.SimpleQueue = queue.SimpleQueue()
    for device in devices:
        free.put(device)

    def on_free_device(task: Task) -> Result:
        device = free.get()
        try:
            with jax.default_device(device):
                return work(task)
        finally:
            free.put(device)

    with ThreadPoolExecutor(min(len(devices), len(tasks))) as threads:
        places = {threads.submit(on_free_device, task): k for k, task in enumerate(tasks)}
        try:
            for future in as_completed(places):
                place = places[future]
                found[place] = future.result()
                tell(place, found[place])
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[place] for place in range(len(tasks))]
