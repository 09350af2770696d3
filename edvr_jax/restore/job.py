"""One restoration from a clip to its output: reading, restoring and writing at once.

Frames are decoded, restored and encoded in three threads, some at a time. What is done
is kept in parts, so that a job which was stopped at any moment goes on from there and
ends with the same frames.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edvr_jax import files
from edvr_jax.errors import InputError, ResourceError
from edvr_jax.media.read.source import Source
from edvr_jax.media.write.encode import Encoding
from edvr_jax.media.write.image_folder import ImageFolder
from edvr_jax.media.write.mux import write_video
from edvr_jax.media.write.pipe import Pipe
from edvr_jax.media.write.segments import SegmentedVideo
from edvr_jax.media.write.stream_copy import StreamCopy
from edvr_jax.restore import pipeline
from edvr_jax.restore.job_folder import JobFolder
from edvr_jax.restore.pipeline import Progress
from edvr_jax.restore.postprocess import OutputFormat
from edvr_jax.restore.restorer import Restorer
from edvr_jax.restore.tiled_network import Cancelled


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
        can_resume: The job can go on from there.
    """

    def __init__(self, num_frames: int, partial: Path | None, *, can_resume: bool):
        super().__init__()
        self.num_frames, self.partial = num_frames, partial
        self.can_resume = can_resume


class Job:
    """A restoration whose output is a file or a folder."""

    def __init__(
        self,
        source: Source,
        output: Path,
        restorer: Restorer,
        output_format: OutputFormat,
        encoding: Encoding | None,
        *,
        image_format: str = ".png",
        original: StreamCopy | None = None,
    ):
        """Describe a job; nothing is written yet.

        Args:
            source: The clip.
            output: A video file, or a folder for images.
            restorer: The networks.
            output_format: Size of the output's frames.
            encoding: Of a video; None for a folder.
            image_format: Suffix of a folder's images.
            original: Where sound and all else is copied from; None copies nothing.
        """
        self._source, self._output, self._restorer = source, output, restorer
        self._output_format, self._encoding = output_format, encoding
        self._image_format, self._original = image_format, original
        self._folder = JobFolder(output)
        self._can_resume = not source.is_pipe

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
            settings: All that the restored frames depend on, ready for JSON.
            progress: Called with an iterator that yields after each frame, the number
                of frames that were there before, and that of all if it is known;
                passes the iterator on.
            resume: Go on with an unfinished job.
            overwrite: Replace the output, and an unfinished job.

        Raises:
            InputError: if the clip is damaged, or the output cannot be written.
            ResourceError: if memory or disk do not suffice; --resume goes on.
            Stopped: on Ctrl-C.
        """
        start = time.perf_counter()
        try:
            with pipeline.stoppable(self._restorer):
                remembered = self._folder.begin(
                    settings,
                    resume=resume,
                    overwrite=overwrite,
                    can_resume=self._can_resume,
                )
                try:
                    sink, first, stages = self._restore(remembered, progress)
                    self._finish(sink, overwrite=overwrite)
                except InputError as error:
                    if not (self._can_resume and self._folder.has_parts):
                        raise
                    raise type(error)(
                        f"{error}; what was restored is kept, --resume goes on with it"
                    ) from None
        finally:
            self._source.close()
            self._folder.end()
        seconds = time.perf_counter() - start
        return Result(sink.num_written, sink.num_written - first, seconds, stages)

    def _restore(
        self, remembered: dict[str, Any], progress: Progress
    ) -> tuple[SegmentedVideo | ImageFolder, int, dict[str, float]]:
        """Restore what is missing; what came before, and seconds of each kind."""
        self._restorer.set_plans(
            self._source.size, remembered.get("plans"), self._remember
        )
        self._remember()
        sink = self._open_sink()
        first = sink.num_written
        try:
            stages = pipeline.restore_into(
                sink, self._source, self._restorer, self._output_format, progress
            )
        except Cancelled:
            partial = self._keep_partial(sink)
            raise Stopped(
                sink.num_written, partial, can_resume=self._can_resume
            ) from None
        except InputError as error:
            can_go_on = isinstance(error, ResourceError) and self._can_resume
            if can_go_on or not sink.num_written or not self._has_times(sink):
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
        self._folder.remember({"plans": self._restorer.plans})

    def _open_sink(self) -> SegmentedVideo | ImageFolder:
        if self._encoding is None:
            return ImageFolder(
                self._folder.parts,
                self._output,
                self._source.names,
                self._image_format,
                is_high_bit_depth=self._source.dtype == np.uint16,
            )
        return SegmentedVideo(self._folder.parts, self._output, self._encoding)

    def _finish(self, sink: SegmentedVideo | ImageFolder, *, overwrite: bool) -> None:
        """Give the output its name; the parts stay until it has it."""
        if isinstance(sink, ImageFolder):
            finished = sink.folder
        else:
            finished = self._folder.finished
            self._write_video(sink, self._output, finished, self._original)
        if not overwrite:
            files.check_free(self._output)  # it may have been filled meanwhile
        self._move(finished, self._output)
        self._discard(self._folder.parts)
        self._discard(self._folder.partial)

    def _keep_partial(self, sink: SegmentedVideo | ImageFolder) -> Path | None:
        """Write a video of what was restored so far; a folder's frames lie there."""
        if not sink.num_written:
            return None
        if isinstance(sink, ImageFolder):
            return sink.folder if self._can_resume else self._give_up(sink)
        partial = self._folder.partial
        if not self._has_times(sink):
            return partial if partial.exists() else None
        sink.finish()
        original = self._original and dataclasses.replace(self._original, is_cut=True)
        self._write_video(sink, partial, self._folder.finished, original)
        self._move(self._folder.finished, partial)
        return partial

    def _has_times(self, sink: SegmentedVideo | ImageFolder) -> bool:
        """The clip was read again to where an earlier job had come."""
        return sink.num_written <= len(self._source.times)

    def _give_up(self, sink: SegmentedVideo | ImageFolder) -> Path:
        """Keep what was restored of a clip whose rest cannot be read."""
        if isinstance(sink, ImageFolder):
            self._move(sink.folder, self._folder.partial)
        else:
            self._keep_partial(sink)
        self._discard(self._folder.parts)
        return self._folder.partial

    def _move(self, finished: Path, path: Path) -> None:
        with files.report_failure(path):
            files.put_in_place(finished, path)

    def _discard(self, path: Path) -> None:
        with files.report_failure(self._output):
            files.remove(path)

    def _write_video(
        self,
        parts: SegmentedVideo,
        path: Path,
        temporary: Path,
        original: StreamCopy | None,
    ) -> None:
        timeline = self._source.timeline(parts.num_written)
        try:
            write_video(temporary, path, parts, timeline, original)
        except InputError:
            self._discard(temporary)  # the disk may be full
            raise


def restore_to_pipe(
    source: Source,
    file: BinaryIO,
    restorer: Restorer,
    output_format: OutputFormat,
    encoding: Encoding,
    progress: Progress,
) -> Result:
    """Restore a clip as YUV4MPEG2 to a pipe; see :class:`Job`.

    Raises:
        InputError: if the clip is damaged, or nobody reads the pipe.
        Stopped: on Ctrl-C.
    """
    start = time.perf_counter()
    sink = Pipe(file, encoding, source.time_base)
    try:
        with pipeline.stoppable(restorer):
            stages = pipeline.restore_into(
                sink, source, restorer, output_format, progress
            )
    except Cancelled:
        raise Stopped(sink.num_written, None, can_resume=False) from None
    finally:
        sink.close()
        source.close()
    seconds = time.perf_counter() - start
    return Result(sink.num_written, sink.num_written, seconds, stages)
