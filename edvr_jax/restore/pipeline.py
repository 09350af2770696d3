"""Read, restore and write the frames of a clip, each in a separate thread."""

import collections
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np

from edvr_jax.errors import InputError
from edvr_jax.media.read import pixels
from edvr_jax.media.read.source import Source
from edvr_jax.media.write.sink import Sink
from edvr_jax.restore import postprocess
from edvr_jax.restore.postprocess import OutputFormat
from edvr_jax.restore.recording import Recorder
from edvr_jax.restore.restorer import Restorer
from edvr_jax.restore.tiled_network import Observer

T = TypeVar("T")

ALL = range(sys.maxsize)  # frames of a clip
_END = object()


class Progress(Protocol):
    """Shows how far a restoration is."""

    def track(self, written: Iterator[Any], first: int, count: int | None) -> Iterator:
        """Pass on an item per written frame, after the first, of ``count`` in all."""
        ...

    def on_tile(self, index: int, num_tiles: int) -> None:
        """Note that a tile of the current frame begins."""


def restore_into(
    sink: Sink,
    source: Source,
    restorer: Restorer,
    output_format: OutputFormat,
    progress: Progress,
    observer: Observer,
    recorder: Recorder | None = None,
    frames: range = ALL,
) -> tuple[dict[str, float], InputError | None]:
    """Restore the frames that a sink does not have yet, of ``frames``.

    A recorder gets each of them as "model", and the enlarged input as "input". The clip
    is decoded from its beginning, so that they are the same frames at the same times.

    Returns:
        Seconds of work of each thread, and the error that ended the clip early, if
        any; the frames before it were restored.

    Raises:
        InputError: if a frame cannot be written.
        ResourceError: if memory does not suffice.
        Cancelled: if the observer was cancelled.
    """
    first, damage = sink.num_written, None
    decoding, restoring, encoding = _Stopwatch(), _Stopwatch(), _Stopwatch()
    inputs: collections.deque[np.ndarray] = collections.deque()
    needs_input = output_format.needs_input or recorder is not None

    def read() -> Iterator[np.ndarray]:
        nonlocal damage
        try:
            for index, frame in enumerate(source):
                if needs_input and index >= first:
                    inputs.append(frame)
                yield np.ascontiguousarray(frame[..., :3])
        except InputError as error:
            damage = error

    def restore() -> Iterator[np.ndarray]:
        images, only = restoring.exclude(decoded), range(first, frames.stop)
        return restorer(images, only=only, dtype=sink.dtype, observer=observer)

    def write() -> Iterator[int]:
        for image in encoding.exclude(restored):
            frame = inputs.popleft() if needs_input else None
            if recorder is not None and frame is not None:
                shown = pixels.resize(image, output_format.size)
                _record(recorder, sink.num_written, frame[..., :3], shown)
            before = frame if output_format.needs_input else None
            image = output_format.apply(image, before)
            sink.write(image, time=source.times[sink.num_written])
            yield sink.num_written
            if sink.num_written == frames.stop:
                break
        if damage is None:
            sink.finish()

    with (
        contextlib.closing(prefetch(decoding.include(read()))) as decoded,
        contextlib.closing(prefetch(restoring.include(restore()))) as restored,
        contextlib.closing(prefetch(encoding.include(write()))) as written,
    ):
        count = source.num_frames
        if count is not None:
            count = min(count, frames.stop) - frames.start
        for _ in progress.track(written, first - frames.start, count):
            pass
    watches = {"decode": decoding, "restore": restoring, "encode": encoding}
    is_complete = sink.num_written == frames.stop  # so that no later frame matters
    seconds = {name: watch.seconds for name, watch in watches.items()}
    return seconds, None if is_complete else damage


def _record(
    recorder: Recorder, index: int, frame: np.ndarray, image: np.ndarray
) -> None:
    recorder.add_input(index, frame)
    images = {"model": image, "input": postprocess.enlarge(frame, image)}
    recorder.add_result(index, images)


@contextlib.contextmanager
def cancel_on_interrupt() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets, so that the threads end in order.

    A second Ctrl-C ends the process at once. Outside the main thread signals keep
    their handlers.
    """
    cancelled = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield cancelled
        return

    def stop(number, frame):
        del frame
        # os.write, not print: a signal handler must not take a lock that the
        # interrupted code may hold.
        os.write(2, b"\nstopping after the current tile; Ctrl-C again stops at once\n")
        signal.signal(number, lambda *_: os._exit(128 + number))
        cancelled.set()

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield cancelled
    finally:
        signal.signal(signal.SIGINT, previous)


class _Stopwatch:
    """Measures the work of one thread, without the time it waits for another."""

    def __init__(self):
        self.seconds = 0.0

    def include(self, items: Iterable[T], sign: int = 1) -> Iterator[T]:
        """Yield items, and count the time until each comes."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            item = next(iterator, _END)
            self.seconds += sign * (time.perf_counter() - start)
            if item is _END:
                return
            yield item  # type: ignore[misc]

    def exclude(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items that another thread computes."""
        return self.include(items, -1)


def prefetch(items: Iterable[T]) -> Generator[T, None, None]:
    """Compute each item in another thread while the one before is used.

    Args:
        items: Drawn in one thread, in order. Its exceptions are raised here; if it is
            a generator, it is closed with this one.

    Yields:
        The items.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        try:
            future = pool.submit(next, iterator, _END)
            while (item := future.result()) is not _END:
                future = pool.submit(next, iterator, _END)
                yield item  # type: ignore[misc]
                del item  # a large frame must not wait here for the next one
        finally:
            if isinstance(iterator, Generator):
                pool.submit(iterator.close).result()
