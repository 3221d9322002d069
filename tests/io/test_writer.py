"""Writing beside the computation."""

import threading

import pytest

from lattice.io.files import StorageError
from lattice.io.writer import Writer


def _fail() -> None:
    raise StorageError("the disk is full")


def test_calls_run_in_order_in_another_thread():
    seen = []
    with Writer(depth=2) as writer:
        for i in range(20):
            writer.submit(seen.append, i)
        writer.submit(lambda: seen.append(threading.current_thread()))
        writer.drain()
        assert seen[:-1] == list(range(20))
        assert seen[-1] is not threading.current_thread()


def test_a_full_queue_holds_the_computation_back():
    gate, done = threading.Event(), threading.Event()
    with Writer(depth=1) as writer:
        writer.submit(gate.wait)
        writer.submit(int)

        def third() -> None:
            writer.submit(int)
            done.set()

        thread = threading.Thread(target=third)
        thread.start()
        assert not done.wait(0.1)
        gate.set()
        assert done.wait(5)
        thread.join()


def test_an_error_surfaces_and_nothing_is_written_after_it():
    seen = []
    writer = Writer()
    writer.submit(seen.append, 1)
    writer.submit(_fail)
    with pytest.raises(StorageError, match="disk is full"):
        writer.drain()
    with pytest.raises(StorageError, match="disk is full"):
        writer.submit(seen.append, 2)
    writer.close()
    assert seen == [1]


def test_close_raises_an_error_that_nobody_has_seen():
    writer = Writer()
    writer.submit(_fail)
    with pytest.raises(StorageError, match="disk is full"):
        writer.close()
    writer.close()


def _compute_beside(writer: Writer) -> None:
    with writer:
        writer.submit(_fail)
        raise ZeroDivisionError


def test_an_error_of_the_computation_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        _compute_beside(Writer())
