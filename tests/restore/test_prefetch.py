"""Items that are made in a thread of their own."""

import threading
import time

import pytest

from edvr_jax.restore.pipeline import prefetch


def test_items_keep_their_order_and_are_made_elsewhere():
    threads = []

    def items():
        for i in range(20):
            threads.append(threading.current_thread().name)
            yield i

    assert list(prefetch(items())) == list(range(20))
    assert all(name.startswith("prefetch") for name in threads)
    assert list(prefetch([])) == []


def test_one_item_is_made_while_another_is_used():
    made = []

    def items():
        for i in range(3):
            made.append(i)
            yield i

    stream = prefetch(items())
    assert next(stream) == 0
    deadline = time.monotonic() + 10
    while made != [0, 1] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert made == [0, 1]
    assert list(stream) == [1, 2]


def test_errors_come_after_the_items_before_them():
    def items():
        yield 1
        raise ValueError("broken")

    stream = prefetch(items())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken"):
        next(stream)


def test_closing_closes_the_generator_behind_it():
    closed = []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread().name)

    stream = prefetch(items())
    next(stream)
    stream.close()
    assert len(closed) == 1
