"""Read, restore and write the frames of a clip, each in a thread of its own."""

import collections
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from edvr_jax.errors import InputError
from edvr_jax.media.read import pixels
from edvr_jax.media.read.source import Source
from edvr_jax.media.write.sink import Sink
from edvr_jax.restore import postprocess
from edvr_jax.restore.postprocess import OutputFormat
from edvr_jax.restore.restorer import Restorer

T = TypeVar("T")

Progress = Callable[[Iterator[Any], int, int | None], Iterable[Any]]

_END = object()


def restore_into(
    sink: Sink,
    source: Source,
    restorer: Restorer,
    output_format: OutputFormat,
    progress: Progress,
) -> dict[str, float]:
    """Restore the frames that a sink does not have yet.

    Args:
        sink: Where they go; finished afterwards.
        source: The clip.
        restorer: The networks.
        output_format: Size of the output's frames.
        progress: See :meth:`Job.run`.

    Returns:
        Seconds that each kind of work took.

    Raises:
        InputError: if the clip is damaged, after the frames before were restored.
        Cancelled: after ``restorer.cancel()``.
    """
    decoding, waiting, restoring = _Stopwatch(), _Stopwatch(), _Stopwatch()
    given, encoding = _Stopwatch(), _Stopwatch()
    first = sink.num_written
    inputs: collections.deque[np.ndarray] = collections.deque()

    damage: list[InputError] = []

    def read() -> Iterator[np.ndarray]:
        try:
            for index, frame in enumerate(decoding.watch(source)):
                rgb = np.ascontiguousarray(frame[..., :3])
                if (
                    output_format.compare or output_format.with_alpha
                ) and index >= first:
                    inputs.append(rgb if output_format.compare else frame[..., 3])
                yield rgb
        except InputError as error:  # the frames before it are a clip
            damage.append(error)

    def write() -> Iterator[int]:
        for image in given.watch(restored):
            image = pixels.resize(image, output_format.size)
            if output_format.compare:
                image = postprocess.compare(
                    inputs.popleft(), image, output_format.compare
                )
            elif output_format.with_alpha:
                image = postprocess.add_alpha(image, inputs.popleft())
            sink.write(image, time=source.times[sink.num_written])
            yield sink.num_written

    frames = prefetch(read())
    only = range(first, sys.maxsize) if first else None
    outputs = restorer(waiting.watch(frames), only=only, dtype=sink.dtype)
    restored = prefetch(restoring.watch(outputs))
    written = prefetch(encoding.watch(write()))
    closing = contextlib.closing
    with closing(frames), closing(restored), closing(written):
        for _ in progress(written, first, source.num_frames):
            pass
    if damage:
        raise damage[0]
    start = time.perf_counter()
    sink.finish()
    finishing = time.perf_counter() - start
    return {
        "decode": decoding.seconds,
        "restore": restoring.seconds - waiting.seconds,
        "encode": encoding.seconds - given.seconds + finishing,
    }


@contextlib.contextmanager
def stoppable(restorer: Restorer) -> Iterator[None]:
    """Let Ctrl-C end the work before its next tile, inside the ``with``.

    The three threads then end in order, and nothing is lost. A second Ctrl-C ends the
    process at once. Outside the main thread signals stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        del frame
        # Nothing that another write on this thread could hold a lock of.
        os.write(2, b"\nstopping after what runs; Ctrl-C again stops at once\n")
        signal.signal(number, lambda *_: os._exit(128 + number))
        restorer.cancel()

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class _Stopwatch:
    """Adds up the seconds until items come."""

    def __init__(self):
        self.seconds = 0.0

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        iterator = iter(items)
        try:
            while True:
                start = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    self.seconds += time.perf_counter() - start
                yield item
        finally:
            if isinstance(iterator, Generator):
                iterator.close()


def prefetch(items: Iterable[T]) -> Generator[T, None, None]:
    """Draw each item in a thread of its own while the one before is used.

    Args:
        items: Drawn in one thread, in order; its exceptions are raised here. If it is
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
                del item  # large, and the next one takes its time
        finally:
            if isinstance(iterator, Generator):
                pool.submit(iterator.close).result()
