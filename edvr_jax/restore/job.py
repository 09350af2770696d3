"""A restoration from a clip to its output: reads, restores and writes at once.

Frames are decoded, restored and encoded in three threads, a few at a time. Finished
parts are kept, so that a job that was stopped at any moment can be resumed and ends
with the same frames.
"""

import contextlib
import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edvr_jax import files
from edvr_jax.errors import INTERRUPTED, InputError, Stopped
from edvr_jax.media.read.source import Source
from edvr_jax.media.write.encode import Encoding
from edvr_jax.media.write.image_folder import ImageFolder
from edvr_jax.media.write.mux import write_video
from edvr_jax.media.write.pipe import Pipe
from edvr_jax.media.write.segments import SegmentedVideo, segment_length
from edvr_jax.media.write.sink import Sink
from edvr_jax.media.write.stream_copy import StreamCopy
from edvr_jax.restore import pipeline, shards
from edvr_jax.restore.job_folder import JobFolder, Plans
from edvr_jax.restore.pipeline import Progress
from edvr_jax.restore.postprocess import OutputFormat
from edvr_jax.restore.recording import Recorder
from edvr_jax.restore.restorer import Restorer
from edvr_jax.restore.shards import Shard
from edvr_jax.restore.tiled_network import Cancelled, Observer


@dataclasses.dataclass(frozen=True)
class Result:
    """What a job has done.

    Attributes:
        num_frames: Frames in the output, or in the share of it.
        num_restored: Those that this run has restored, not an earlier one.
        seconds: Duration of the run.
        busy_seconds: Seconds of work by thread (decode, restore, encode); they overlap.
    """

    num_frames: int
    num_restored: int
    seconds: float
    busy_seconds: dict[str, float]


def count_frames(count: int) -> str:
    """Write a number of frames."""
    return f"{count} frame{'' if count == 1 else 's'}"


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A restoration of a clip.

    Attributes:
        source: The clip.
        output: A video file, a folder for images, or - for a pipe.
        restorer: The networks.
        output_format: Size of the output's frames.
        encoding: Of a video; None for a folder.
        image_format: Of a folder's images: png, tif, webp or jpg.
        streams: Source of sound and all other streams; None copies nothing.
        recorder: Sees the frames that are restored, if it is given.
        shard: The share to restore; None restores all, or joins the shares.
    """

    source: Source
    output: Path
    restorer: Restorer
    output_format: OutputFormat
    encoding: Encoding | None
    image_format: str = "png"
    streams: StreamCopy | None = None
    recorder: Recorder | None = None
    shard: Shard | None = None

    @functools.cached_property
    def _folder(self) -> JobFolder:
        return self.shard.open_folder(self.output) if self.shard else self._whole

    @functools.cached_property
    def _whole(self) -> JobFolder:
        return JobFolder(self.output)

    @functools.cached_property
    def frames(self) -> range:
        """Indices of the frames to restore; the last share has no end.

        Raises:
            InputError: if nothing says how many frames the clip has, of which shares
                are parts.
        """
        if self.shard is None:
            return pipeline.ALL
        if self.source.num_frames is None:
            raise InputError(
                f"{self.source.path}: this file does not say how long it is, as shares "
                "need it; ffmpeg -i IN -map 0 -c copy OUT.mkv writes one that does"
            )
        segment = 1 if self.encoding is None else segment_length(self.encoding.size)
        return self.shard.select_frames(self.source.num_frames, segment)

    def run(
        self,
        settings: dict[str, Any],
        progress: Progress,
        *,
        resume: bool = False,
        overwrite: bool = False,
        join: bool = False,
    ) -> Result:
        """Restore the clip, or a share of it, or join the shares.

        Args:
            settings: Everything that the restored frames depend on, ready for JSON.
            progress: Shows how far the job is.
            resume: Continue an unfinished job.
            overwrite: Replace the output, and an unfinished job of other settings.
            join: Take the frames from the shares, which must be complete.

        Raises:
            InputError: if the clip is damaged, a share is not complete, or the output
                cannot be written.
            ResourceError: if memory or disk space runs out; the job can be resumed.
            Stopped: on Ctrl-C.
        """
        folder, shares = self._folder, []
        try:
            with pipeline.cancel_on_interrupt() as cancelled:
                if self.shard is not None:
                    self._begin_share(settings, resume=resume, overwrite=overwrite)
                elif join:
                    shares = self._take_shares(settings, overwrite=overwrite)
                else:
                    plans = folder.begin(settings, resume=resume, overwrite=overwrite)
                    self._set_plans(plans)
                observer = Observer(progress.on_tile, self._save_plans, cancelled)
                try:
                    result = self._run(progress, observer, overwrite=overwrite)
                except InputError as error:
                    if not folder.is_resumable:
                        raise
                    raise type(error)(
                        f"{error}; the restored frames are kept, --resume continues"
                    ) from None
                for share in shares:
                    share.remove()
                return result
        finally:
            self.source.close()
            folder.end()

    def _begin_share(
        self, settings: dict[str, Any], *, resume: bool, overwrite: bool
    ) -> None:
        assert self.shard is not None
        settings = {**settings, "shards": self.shard.count}
        options = {"resume": resume, "overwrite": overwrite}
        # One after the other, so that the plan of the first is known to the next.
        with self._whole.hold():
            self._set_plans(shards.begin(self._folder, self.shard, settings, **options))

    def _take_shares(
        self, settings: dict[str, Any], *, overwrite: bool
    ) -> list[JobFolder]:
        """Move the segments of all shares into the folder of the job."""
        shares, settings, plans = shards.find_complete(self.output, settings)
        self._folder.begin(settings, resume=True, overwrite=overwrite)
        self._set_plans(plans)
        for share in shares:
            share.move_parts(self._folder.parts)
        return shares

    def _set_plans(self, plans: Plans) -> None:
        self.restorer.set_plans(self.source.size, plans)
        self._save_plans()

    def _run(
        self, progress: Progress, observer: Observer, *, overwrite: bool
    ) -> Result:
        start = time.perf_counter()
        done = self._folder.num_complete
        if done is not None:
            return Result(done, 0, time.perf_counter() - start, {})
        with contextlib.closing(self._open_sink()) as sink:
            first = sink.num_written
            try:
                busy_seconds, damage = self._restore_into(sink, progress, observer)
            except Cancelled:
                can_resume = not self.source.is_pipe
                line = self._keep_partial(sink, can_resume=can_resume)
                raise Stopped(INTERRUPTED, line) from None
            if damage is not None and self.shard is None and self._has_times(sink):
                line = self._keep_partial(sink, can_resume=False)
                raise InputError(f"{damage}; {line}")
            if damage is not None:
                raise damage
            self._finish(sink, overwrite=overwrite)
        last, seconds = sink.num_written, time.perf_counter() - start
        return Result(last - self.frames.start, last - first, seconds, busy_seconds)

    def _restore_into(
        self, sink: Sink, progress: Progress, observer: Observer
    ) -> tuple[dict[str, float], InputError | None]:
        if sink.num_written == self.frames.stop:  # also if the share is empty
            return {}, None
        self.source.skip = max(0, sink.num_written - self.restorer.reach)
        return pipeline.restore_into(
            sink,
            self.source,
            self.restorer,
            self.output_format,
            progress,
            observer,
            self.recorder,
            self.frames,
        )

    def _save_plans(self) -> None:
        if not self.source.is_pipe:  # which cannot be read again
            self._folder.save(self.restorer.plans)

    def _open_sink(self) -> SegmentedVideo | ImageFolder:
        if self.encoding is None:
            return ImageFolder(
                self._folder.parts,
                self.output,
                self.source.names,
                f".{self.image_format}",
                is_high_bit_depth=self.source.dtype == np.uint16,
                first=self.frames.start,
            )
        first = self.frames.start if self.shard else None
        parts = self._folder.parts
        return SegmentedVideo(parts, self.output, self.encoding, first=first)

    def _finish(self, sink: SegmentedVideo | ImageFolder, *, overwrite: bool) -> None:
        """Give the output its name; the parts are deleted only after that."""
        if self.shard is not None:
            self._folder.complete(sink.num_written - self.frames.start)
            return
        if isinstance(sink, ImageFolder):
            finished = sink.folder
        else:
            finished = self._join(sink, self.output, self.streams)
        if not overwrite:
            files.check_free(self.output)  # another program may have written it
        self._move(finished, self.output)
        self._folder.discard(self._folder.parts, self._folder.partial)

    def _keep_partial(
        self, sink: SegmentedVideo | ImageFolder, *, can_resume: bool
    ) -> str:
        """Leave the frames restored so far as a partial output, and describe it."""
        partial = self._folder.partial
        num_frames = sink.num_written - self.frames.start
        if not num_frames:
            return "no frame was restored"
        if self.shard is not None:
            pass
        elif isinstance(sink, ImageFolder):
            if can_resume:
                partial = sink.folder
            else:
                self._move(sink.folder, partial)
        elif self._has_times(sink):
            sink.finish()
            streams = self.streams
            cut = streams and dataclasses.replace(streams, is_cut=True)
            self._move(self._join(sink, partial, cut), partial)
        line = f"{count_frames(num_frames)} restored"
        if partial.exists() and self.shard is None:
            line += f", in {partial}"
        if can_resume:
            return f"{line}; run the same command with --resume to continue"
        self._folder.discard(self._folder.parts)
        return line

    def _has_times(self, sink: SegmentedVideo | ImageFolder) -> bool:
        """Whether the clip was read as far as an earlier run had come."""
        return sink.num_written <= len(self.source.times)

    def _join(
        self, sink: SegmentedVideo, path: Path, streams: StreamCopy | None
    ) -> Path:
        """Write the video and the other streams to a file that is not named yet."""
        finished = self._folder.finished
        try:
            timeline = self.source.timeline(sink.num_written)
            write_video(finished, path, sink, timeline, streams)
        except InputError:
            self._folder.discard(finished)  # the disk may be full
            raise
        return finished

    def _move(self, finished: Path, path: Path) -> None:
        with files.report_failure(path):
            files.put_in_place(finished, path)

    def run_to_pipe(self, file: BinaryIO, progress: Progress) -> Result:
        """Restore the clip as YUV4MPEG2 to a pipe; nothing is kept for later.

        Raises:
            InputError: if the clip is damaged, or the reader has closed the pipe.
            ResourceError: if memory runs out.
            Stopped: on Ctrl-C.
        """
        assert self.encoding is not None
        start = time.perf_counter()
        sink = Pipe(file, self.encoding, self.source.time_base)
        with contextlib.closing(sink), contextlib.closing(self.source):
            try:
                with pipeline.cancel_on_interrupt() as cancelled:
                    observer = Observer(progress.on_tile, cancelled=cancelled)
                    busy_seconds, damage = self._restore_into(sink, progress, observer)
            except Cancelled:
                line = f"{count_frames(sink.num_written)} restored"
                raise Stopped(INTERRUPTED, line) from None
            if damage is not None:
                raise damage
        seconds = time.perf_counter() - start
        return Result(sink.num_written, sink.num_written, seconds, busy_seconds)
