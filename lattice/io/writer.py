"""Writing beside the computation, in one background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Writer:
    """Runs calls one after the other in a thread, in the order in which they were submitted.

    At most `depth` calls wait; `submit` blocks while the queue is full, so that a slow disk slows
    the run down instead of filling the memory. After an error no further call is run, and the
    error is raised by the next `submit`, `drain` or `close`; what was complete stays.

    Arrays given to `submit` must not change afterwards: copy what the computation reuses.
    """

    def __init__(self, depth: int = 1):
        self._tasks: queue.Queue[Callable[[], Any] | None] = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None
        self._reported = False
        self._thread = threading.Thread(target=self._work, name="lattice-writer", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                if self._error is None:
                    task()
            except BaseException as error:  # the thread must live on to empty the queue
                self._error = error
            finally:
                del task  # frees the arrays of this call before the next arrives
                self._tasks.task_done()
        self._tasks.task_done()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> None:
        """Queues a call. Raises the error of an earlier one, each time."""
        self._raise()
        self._tasks.put(lambda: function(*arguments, **named))

    def drain(self) -> None:
        """Returns when all calls are done. Raises the error of one of them."""
        self._tasks.join()
        self._raise()

    def close(self) -> None:
        """Finishes all calls and ends the thread. Raises an error that was not raised yet."""
        self._stop()
        if not self._reported:
            self._raise()

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._tasks.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            self._reported = True
            raise self._error

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        # An error of the computation itself is the one to report.
        if error is None and not self._reported:
            self._raise()
