"""Decode video files (PyAV), frame by frame."""

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
_log = logging.getLogger(__name__)


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the mean frames per second that a video announces; 25 if it does not."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def count_frames(container: InputContainer, stream: VideoStream) -> int | None:
    """Return how many frames a video announces, by its list or its seconds, or None."""
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
        file: What to read instead: a pipe with YUV4MPEG2.
        index: Number of the video stream; by default as :func:`video_streams.choose`.

    Yields:
        The container and the video stream.

    Raises:
        InputError: if it is no video, or has no such stream.
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
            images.check_frames(path)
        stream = video_streams.choose(path, container, index)
        decodable.check(path, container, stream)
        # Threads change what comes of a damaged file: PyAV loses frames with threads
        # for frames, and FFmpeg conceals nothing with threads for slices.
        stream.thread_type = "NONE"
        yield container, stream


class _CountedPipe:
    """Counts the bytes that are read from a pipe."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.num_bytes = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.num_bytes += len(data)
        return data


def _num_bytes(container: InputContainer) -> int:
    file = getattr(container.file, "file", None)
    return file.num_bytes if isinstance(file, _CountedPipe) else container.size


def decode(path: Path) -> Iterator[VideoFrame]:
    """Decode a video file from its first frame; log what seems to be missing.

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
    """Decode an open video from where it is.

    Args:
        path: The file's name in messages.
        container: The open file.
        stream: Its video stream.
        monitor: Counts what is read, and what the decoder left out or guessed.
        decoder: See :func:`alpha.create_decoder`; None is the stream's.

    Raises:
        InputError: if it cannot be read past damage or has colours that cannot be read;
            the frames before were yielded.
    """
    refused: FFmpegError | None = None
    try:
        for packet in container.demux(stream):
            monitor.add_packet(packet)
            is_last = not packet.size and packet.pts is None and packet.dts is None
            if not packet.size and not is_last:
                continue  # the frame before is shown longer
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
                break  # PyAV fails behind it if streams appeared in mid file
        if not monitor.num_frames and decodable.is_scrambled(path, container):
            raise decodable.encrypted(path)
        if refused is not None and not monitor.num_frames:
            raise refused
    except FFmpegError as error:
        raise InputError(
            f"{path}: the video is damaged ({error.strerror}): {monitor.describe()}; "
            "repair or cut the file"
        ) from None
    monitor.finish(_num_bytes(container))
