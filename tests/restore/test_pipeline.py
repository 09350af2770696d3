"""Threads that read, restore and write at once: order, errors, time of each."""

import threading
import time

import numpy as np
import pytest

from edvr_jax.errors import InputError
from edvr_jax.restore.pipeline import prefetch, restore_into
from edvr_jax.restore.postprocess import OutputFormat
from edvr_jax.restore.tiled_network import Observer


class Clip:
    """Frames that take their time, and damage after the last one if there is any."""

    def __init__(self, count, seconds=0.0, damage=None):
        self.num_frames, self.times = count, list(range(count))
        self.seconds, self.damage = seconds, damage

    def __iter__(self):
        for index in range(self.num_frames):
            time.sleep(self.seconds)
            yield np.full((4, 6, 3), index, np.uint8)
        if self.damage:
            raise self.damage


class List:
    """A sink that keeps what is written."""

    dtype = np.dtype(np.uint8)

    def __init__(self, seconds=0.0, count=0):
        self.written, self.seconds, self.is_finished = [None] * count, seconds, False

    @property
    def num_written(self):
        return len(self.written)

    def write(self, image, *, time):
        self.written.append((int(image[0, 0, 0]), time))

    def finish(self):
        time.sleep(self.seconds)
        self.is_finished = True

    def close(self):
        pass


class Passing:
    """Progress that shows nothing."""

    def track(self, written, first, count):
        del first, count
        yield from written

    def on_tile(self, index, num_tiles):
        pass


def restorer(seconds=0.0):
    def restore(frames, *, only, dtype, observer):
        del dtype, observer
        for index, frame in enumerate(frames):
            if only is None or index in only:
                time.sleep(seconds)
                yield frame

    return restore


def run(sink, clip, *, seconds=0.0):
    return restore_into(
        sink, clip, restorer(seconds), OutputFormat((4, 6)), Passing(), Observer()
    )


@pytest.mark.parametrize("slow", ["decode", "restore", "encode"])
def test_each_thread_times_only_its_own_work(slow):
    seconds = {name: 0.5 * (name == slow) for name in ("decode", "restore", "encode")}
    clip, sink = Clip(2, seconds["decode"]), List(seconds["encode"])
    busy, damage = run(sink, clip, seconds=seconds["restore"])
    assert damage is None
    assert sink.is_finished
    assert busy[slow] >= 0.5
    assert sum(busy.values()) - busy[slow] < 0.4


def test_frames_that_a_sink_has_are_not_written_again():
    sink = List(count=2)
    run(sink, Clip(4))
    assert sink.written[2:] == [(2, 2), (3, 3)]


def test_damage_ends_the_clip_after_the_frames_before_it():
    sink, error = List(), InputError("broken")
    _, damage = run(sink, Clip(3, damage=error))
    assert damage is error
    assert [number for number, _ in sink.written] == [0, 1, 2]
    assert not sink.is_finished  # the job decides what becomes of it


def test_items_keep_their_order_and_come_from_another_thread():
    threads = []

    def items():
        for i in range(20):
            threads.append(threading.current_thread().name)
            yield i

    assert list(prefetch(items())) == list(range(20))
    assert all(name.startswith("prefetch") for name in threads)
    assert list(prefetch([])) == []


def test_one_item_is_computed_while_another_is_used():
    computed = []

    def items():
        for i in range(3):
            computed.append(i)
            yield i

    stream = prefetch(items())
    assert next(stream) == 0
    deadline = time.monotonic() + 10
    while computed != [0, 1] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert computed == [0, 1]
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
