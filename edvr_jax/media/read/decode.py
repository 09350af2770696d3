"""Decode video files with PyAV, frame by frame."""

import contextlib
import functools
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edvr_jax.errors import InputError
from edvr_jax.media.read import decodable, frame_rgb, images, video_streams
from edvr_jax.media.read.truncation import (
    DecodeMonitor,
    announced_end,
    announced_frames,
)

_PIPE = "yuv4mpegpipe"
_SEEKABLE = ("mp4", "matroska")  # where seeking finds the key frame before a time
_log = logging.getLogger(__name__)


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the mean frames per second that a video announces; 25 if it does not."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def count_frames(container: InputContainer, stream: VideoStream) -> int | None:
    """Return how many frames a video announces, by a list or a duration, or None."""
    num_frames = announced_frames(container, stream)
    if num_frames is not None:
        return num_frames
    unit = stream.time_base or Fraction(0)
    seconds = announced_end(container, stream)
    if seconds is not None:
        seconds -= (stream.start_time or 0) * unit
    elif stream.duration:
        seconds = stream.duration * unit
    elif container.duration:
        seconds = Fraction(container.duration, av.time_base)
    return None if seconds is None else max(1, round(seconds * frame_rate(stream)))


@contextlib.contextmanager
def open_container(
    path: Path, file: BinaryIO | None = None, *, index: int | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video file, and close it after the ``with``.

    Args:
        path: The file, or its name in messages.
        file: Read YUV4MPEG2 from this pipe instead.
        index: Number of the video stream; None chooses, see :mod:`video_streams`.

    Yields:
        The container and the video stream.

    Raises:
        InputError: if it is not a video that can be decoded, or has no such stream.
    """
    if file is None and not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    try:
        if file is None:
            # FFmpeg would take a relative name such as "a-12:30.mp4" for a protocol's.
            target, muxer = str(path.absolute()), None
        else:
            target, muxer = _CountedPipe(file), _PIPE
        container = av.open(target, "r", format=muxer, metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        reason = error.strerror or "unknown format"
        hint = "give a complete video file or a folder of frames"
        if file is not None:
            hint = "a pipe must hold what ffmpeg -i IN -f yuv4mpegpipe - writes"
        raise InputError(
            f"{path}: not a video that can be read ({reason}); {hint}"
        ) from None
    with container:
        if container.format.name.endswith(("_pipe", "image2")):
            images.refuse_image(path)
        stream = video_streams.choose(path, container, index)
        decodable.check(path, container, stream)
        # Threads change the result for damaged files: PyAV loses frames with threads
        # for frames, and FFmpeg conceals nothing with threads for slices.
        stream.thread_type = "NONE"
        yield container, stream


class _CountedPipe:
    """A pipe that counts the bytes read from it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.num_bytes = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.num_bytes += len(data)
        return data


def seek_before(container: InputContainer, stream: VideoStream, time: Fraction) -> None:
    """Seek to the key frame before a time on the file's clock, if the format can."""
    beginning = Fraction(container.start_time or 0, av.time_base)
    is_seekable = any(name in container.format.name for name in _SEEKABLE)
    if is_seekable and time > beginning and stream.time_base:
        container.seek(int(time / stream.time_base), stream=stream)


def decode(path: Path) -> Iterator[VideoFrame]:
    """Decode a video file from its first frame; log once if frames seem to be missing.

    Raises:
        InputError: as :func:`decode_stream`.
    """
    with open_container(path) as (container, stream):
        monitor = DecodeMonitor(container, stream)
        yield from decode_stream(path, container, stream, monitor)
        for warning in monitor.warnings():
            _warn_once(f"{path} {warning}")


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning(message)


def decode_stream(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    monitor: DecodeMonitor,
    decoder: VideoCodecContext | None = None,
) -> Iterator[VideoFrame]:
    """Decode an open video from its current position.

    Args:
        path: The file's name in messages.
        container: The open file.
        stream: Its video stream.
        monitor: Counts packets and frames.
        decoder: See :func:`alpha.create_decoder`; None is the stream's.

    Raises:
        InputError: if an error cannot be read past, or the colors cannot be converted;
            the frames before it were yielded.
    """
    refused: FFmpegError | None = None
    try:
        for packet in container.demux(stream):
            monitor.add_packet(packet)
            is_last = not packet.size and packet.pts is None and packet.dts is None
            if not packet.size and not is_last:
                continue  # repeats the frame before
            if packet.has_sidedata("encryption_info"):
                raise decodable.encrypted(path)
            try:
                frames = (decoder or stream).decode(packet)
            except MemoryError:
                raise
            except FFmpegError as error:  # decoders use any of FFmpeg's codes
                refused, frames = error, []
                monitor.add_refused(packet)
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                decodable.check_matrix(path, frame_rgb.matrix_of(frame))
                monitor.add_frame(frame)
                yield frame
            if is_last:
                break  # PyAV fails after it if streams appeared in mid file
        if not monitor.num_frames and decodable.is_scrambled(path, container):
            raise decodable.encrypted(path)
        if refused is not None and not monitor.num_frames:
            raise refused
    except FFmpegError as error:
        raise InputError(
            f"{path}: the video is damaged ({error.strerror}): {monitor.describe()}; "
            "repair or cut the file"
        ) from None
    pipe = getattr(container.file, "file", None)
    is_pipe = isinstance(pipe, _CountedPipe)
    monitor.finish(pipe.num_bytes if is_pipe else container.size)
