"""One restoration from a clip to its output: reading, restoring and writing at once.

Frames are decoded, restored and encoded in three threads, some at a time. What is done
is kept in parts, so that a job which was stopped at any moment goes on from there and
ends with the same frames.
"""

import collections
import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
from av.error import FFmpegError

from edvr_jax import files
from edvr_jax.errors import InputError, OutputError
from edvr_jax.restore import encoder, picture
from edvr_jax.restore.ahead import ahead
from edvr_jax.restore.copying import Original
from edvr_jax.restore.encoder import CONTAINERS, Encoding
from edvr_jax.restore.parts import FrameParts, VideoParts
from edvr_jax.restore.picture import Compare
from edvr_jax.restore.remux import write_video
from edvr_jax.restore.source import Source
from edvr_jax.restore.stream import Restorer
from edvr_jax.restore.work import WorkFolder

T = TypeVar("T")

Progress = Callable[[Iterator[Any], int, int | None], Iterable[Any]]


@dataclasses.dataclass(frozen=True)
class Look:
    """What the output looks like.

    Attributes:
        size: Height and width of the restored frames.
        compare: Show the input beside them.
    """

    size: tuple[int, int]
    compare: Compare | None = None

    @property
    def written_size(self) -> tuple[int, int]:
        """Height and width of the frames of the output."""
        height, width = self.size
        return (height, 2 * width) if self.compare == "side" else (height, width)


@dataclasses.dataclass(frozen=True)
class Result:
    """What was done.

    Attributes:
        num_frames: Frames in the output.
        num_restored: Of these, the ones that were restored now, not before.
        seconds: For all of it.
        stages: Seconds that each kind of work took; they overlap.
    """

    num_frames: int
    num_restored: int
    seconds: float
    stages: dict[str, float]


class Stopped(Exception):
    """Ctrl-C; what was restored so far is kept.

    Attributes:
        num_frames: Restored so far.
        partial: File with them; None if there is none.
    """

    def __init__(self, num_frames: int, partial: Path | None):
        super().__init__()
        self.num_frames, self.partial = num_frames, partial


class _Sink(Protocol):
    """Where frames go; see VideoParts."""

    @property
    def num_frames(self) -> int: ...

    @property
    def num_written(self) -> int: ...

    def write(self, image: np.ndarray, *, time: int) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class Job:
    """A restoration whose output is a file or a folder."""

    def __init__(
        self,
        source: Source,
        output: Path,
        restorer: Restorer,
        look: Look,
        encoding: Encoding | None,
        *,
        image_format: str = ".png",
        original: Original | None = None,
    ):
        """Describe a job; nothing is written yet.

        Args:
            source: The clip.
            output: A video file, or a folder for images.
            restorer: The networks.
            look: Size of the output's frames.
            encoding: Of a video; None for a folder.
            image_format: Suffix of a folder's images.
            original: Where sound and all else is copied from; None copies nothing.
        """
        self._source, self._output, self._restorer = source, output, restorer
        self._look, self._encoding = look, encoding
        self._image_format, self._original = image_format, original
        self._work = WorkFolder(output)

    def run(
        self,
        settings: dict[str, Any],
        progress: Progress,
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> Result:
        """Restore the clip.

        Args:
            settings: All that the output depends on, ready for JSON.
            progress: Called with an iterator that yields after each frame, the number
                of frames that were there before, and that of all if it is known;
                passes the iterator on.
            resume: Go on with an unfinished job.
            overwrite: Replace the output, and an unfinished job.

        Raises:
            InputError: if the clip is damaged, or the output cannot be written.
            Stopped: on Ctrl-C.
        """
        start = time.perf_counter()
        remembered = self._work.begin(settings, resume=resume, overwrite=overwrite)
        try:
            sink, first, stages = self._restore(remembered, progress)
            self._finish(sink)
        except OutputError as error:
            if not self._work.has_parts:
                raise
            raise OutputError(
                f"{error}; what was restored is kept, --resume goes on with it"
            ) from None
        finally:
            self._source.close()
            self._work.remove_if_empty()
        seconds = time.perf_counter() - start
        return Result(sink.num_written, sink.num_written - first, seconds, stages)

    def _restore(
        self, remembered: dict[str, Any], progress: Progress
    ) -> tuple[VideoParts | FrameParts, int, dict[str, float]]:
        """Restore what is missing; what came before, and seconds of each kind."""
        self._restorer.set_plans(
            self._source.size, remembered.get("plans"), self._remember
        )
        self._remember()
        sink = self._open_sink()
        first = sink.num_frames
        try:
            stages = restore_into(
                sink, self._source, self._restorer, self._look, progress
            )
        except KeyboardInterrupt:
            raise Stopped(sink.num_written, self._keep_partial(sink)) from None
        except OutputError:
            raise
        except InputError as error:
            if not sink.num_written:
                raise
            partial = self._give_up(sink)
            raise InputError(
                f"{error}; the {sink.num_written} restored frames before are in "
                f"{partial}"
            ) from None
        finally:
            sink.close()
        return sink, first, stages

    def _remember(self) -> None:
        self._work.remember({"plans": self._restorer.plans})

    def _open_sink(self) -> VideoParts | FrameParts:
        if self._encoding is None:
            return FrameParts(
                self._work.parts, self._output, self._source.names, self._image_format
            )
        return VideoParts(
            self._work.parts,
            self._output,
            encoder.of_parts(self._output, self._encoding),
            self._look.written_size,
            fps=self._source.fps,
            time_base=self._source.time_base,
        )

    def _finish(self, sink: VideoParts | FrameParts) -> None:
        with files.replacing(self._output) as temporary:
            if isinstance(sink, FrameParts):
                with files.report_failure(self._output):
                    sink.folder.rename(temporary)
            else:
                self._write_video(sink, self._output, temporary, self._original)
        self._work.remove()

    def _keep_partial(self, sink: VideoParts | FrameParts) -> Path | None:
        """Write a video of what was restored so far; a folder's frames lie there."""
        if not sink.num_written:
            return None
        if isinstance(sink, FrameParts):
            return sink.folder
        sink.finish()
        original = self._original and dataclasses.replace(self._original, is_cut=True)
        with files.replacing(self._work.partial) as temporary:
            self._write_video(sink, self._work.partial, temporary, original)
        return self._work.partial

    def _give_up(self, sink: VideoParts | FrameParts) -> Path:
        """Keep what was restored of a clip whose rest cannot be read."""
        if isinstance(sink, FrameParts):
            with files.replacing(self._work.partial) as temporary:
                sink.folder.rename(temporary)
        else:
            self._keep_partial(sink)
        self._work.remove(keep_partial=True)
        return self._work.partial

    def _write_video(
        self,
        parts: VideoParts,
        path: Path,
        temporary: Path,
        original: Original | None,
    ) -> None:
        assert self._encoding is not None
        timeline = self._source.timeline(parts.num_written)
        write_video(temporary, path, parts, self._encoding, timeline, original)


class Pipe:
    """Writes YUV4MPEG2 to a pipe as frames come."""

    def __init__(self, file: BinaryIO, encoding: Encoding, look: Look, fps: Fraction):
        self.num_frames = 0
        self.num_written = 0
        self._encoding, self._fps = encoding, fps
        with _report_pipe():
            self._container = encoder.open_output(file, CONTAINERS[".y4m"])
        self._stream = encoder.add_stream(
            self._container, encoding, look.written_size, fps=fps, time_base=1 / fps
        )

    def write(self, image: np.ndarray, *, time: int) -> None:
        """Write a frame; the format has no times, only a rate."""
        del time
        with _report_pipe():
            packets = encoder.encode(
                self._stream,
                image,
                colors=self._encoding.colors,
                time=self.num_written,
                time_base=1 / self._fps,
            )
            self._container.mux(packets)
        self.num_written += 1

    def finish(self) -> None:
        """Write what is left."""
        with _report_pipe():
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def close(self) -> None:
        """Let go of the pipe."""
        with contextlib.suppress(OSError, FFmpegError):
            self._container.close()


def _report_pipe() -> contextlib.AbstractContextManager[None]:
    return files.report_failure(Path("the output pipe"), FFmpegError)


def restore_into(
    sink: _Sink, source: Source, restorer: Restorer, look: Look, progress: Progress
) -> dict[str, float]:
    """Restore the frames that a sink does not have yet.

    Args:
        sink: Where they go; finished afterwards.
        source: The clip.
        restorer: The networks.
        look: Size of the output's frames.
        progress: See :meth:`Job.run`.

    Returns:
        Seconds that each kind of work took.

    Raises:
        InputError: if the clip is damaged, after the frames before were restored.
    """
    decoding, waiting, restoring = _Stopwatch(), _Stopwatch(), _Stopwatch()
    given, encoding = _Stopwatch(), _Stopwatch()
    first = sink.num_frames
    inputs: collections.deque[np.ndarray] = collections.deque()

    damage: list[InputError] = []

    def read() -> Iterator[np.ndarray]:
        try:
            for index, frame in enumerate(decoding.watch(source)):
                if look.compare and index >= first:
                    inputs.append(frame)
                yield frame
        except InputError as error:  # the frames before it are a clip
            damage.append(error)

    def write() -> Iterator[int]:
        for image in given.watch(restored):
            image = picture.resize(image, look.size)
            if look.compare:
                image = picture.compare(inputs.popleft(), image, look.compare)
            sink.write(image, time=source.times[sink.num_written])
            yield sink.num_written

    frames = ahead(read())
    only = range(first, sys.maxsize) if first else None
    restored = ahead(restoring.watch(restorer(waiting.watch(frames), only=only)))
    # Not in this thread, so that Ctrl-C strikes between two frames.
    written = ahead(encoding.watch(write()))
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
            if hasattr(iterator, "close"):
                iterator.close()  # pyright: ignore[reportAttributeAccessIssue]
