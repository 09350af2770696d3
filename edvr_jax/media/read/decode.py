"""Read clips, one frame at a time: video files (PyAV) and folders of frames (OpenCV).

Frames are RGB, [H, W, 3], upright (the turn and the mirroring that phones store beside
the picture are applied), uint8 unless more bits are asked for. YUV becomes RGB by the
matrix and range that the file is tagged with; an untagged file is taken as BT.709 if it
is high definition, else as BT.601, as players do.
"""

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import SideDataContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from edvr_jax.errors import InputError
from edvr_jax.media.read import alpha, decodable, images, video_streams, yuv
from edvr_jax.media.read.truncation import (
    DecodeMonitor,
    announced_end,
    announced_frames,
)
from edvr_jax.media.read.yuv import SWSCALE_FLAGS, bit_depth

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".apng", ".y4m"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"),
)
_PIPE = "yuv4mpegpipe"
_RGB_COLORSPACE = 0  # AVCOL_SPC_RGB
_UNSPECIFIED_COLORSPACE = 2  # AVCOL_SPC_UNSPECIFIED
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip on disk; each iteration reads it again from its first frame.

    Attributes:
        path: The video file or the folder of frames.
        size: Height and width of every frame, in pixels.
        fps: Frames per second of a video; None for a folder of frames.
        num_frames: Number of frames: exact for a folder, what the container announces
            for a video, None if it announces nothing.
        frame_paths: The image files of a folder in natural order; empty for a video.
    """

    path: Path
    size: tuple[int, int]
    fps: Fraction | None = None
    num_frames: int | None = None
    frame_paths: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Folder name, or file name without suffix."""
        return self.path.name if self.frame_paths else self.path.stem

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield uint8 RGB frames, [H, W, 3]: all that the decoder delivers.

        A warning is logged, once, if the container announced more.

        Raises:
            InputError: if a frame has another size, an image is corrupt, or a video
                cannot be read past damage; the frames before it were yielded.
        """
        if self.frame_paths:
            named = ((path.name, images.read_image(path)) for path in self.frame_paths)
        else:
            frames = enumerate(decode(self.path))
            named = ((f"frame {index}", to_rgb(frame)) for index, frame in frames)
        for name, frame in named:
            images.check_size(frame.shape, self.size, f"{self.path}: {name}")
            yield frame


def open_clip(path: str | Path) -> Clip:
    """Open a video file or a folder of frames; only the first frame is read.

    Args:
        path: A video file, or a folder whose images are the frames in natural
            order (frame2.png before frame10.png).

    Raises:
        InputError: if there is nothing there that can be read as a clip.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    return _open_video(path)


def list_clips(folder: str | Path) -> list[Path]:
    """List the clips of a folder for :func:`open_clip`, in natural order.

    Args:
        folder: A folder of video files and of folders of frames; or itself a folder
            of frames or a video file, which then is the only clip.

    Raises:
        InputError: if the folder does not exist or holds no clip.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; check the path")
    if folder.is_file() or images.list_images(folder):
        return [folder]
    clips = [path for path in images.list_visible(folder) if _is_clip(path)]
    if not clips:
        raise InputError(
            f"{folder}: no clips in this folder; put video files or folders of "
            "frames there"
        )
    return clips


def _is_clip(path: Path) -> bool:
    if path.is_dir():
        return bool(images.list_images(path))
    return path.suffix.lower() in VIDEO_SUFFIXES


def _open_folder(path: Path) -> Clip:
    frame_paths = tuple(images.list_images(path))
    if not frame_paths:
        entries = images.list_visible(path)
        what = "no images in this folder" if entries else "this folder is empty"
        raise InputError(
            f"{path}: {what}; it must hold the frames of one clip as "
            f"{', '.join(s[1:] for s in images.IMAGE_SUFFIXES)}"
        )
    size = images.read_image(frame_paths[0]).shape[:2]
    return Clip(path, size, num_frames=len(frame_paths), frame_paths=frame_paths)


def _open_video(path: Path) -> Clip:
    with open_container(path) as (container, stream):
        fps, num_frames = frame_rate(stream), count_frames(container, stream)
    for first in decode(path):
        return Clip(path, to_rgb(first).shape[:2], fps, num_frames)
    raise InputError(f"{path}: the video has no frames; is the file complete?")


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
                decodable.check_matrix(path, matrix_of(frame))
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


def side_data(frame: VideoFrame) -> dict[str, Any]:
    """Return what a frame carries beside its picture, by FFmpeg's names.

    Nothing if PyAV does not know one of the kinds, such as the EXIF of a JPEG.
    """
    try:
        # frame.side_data would keep the frame alive: each would hold the other.
        return {item.type.name: item for item in SideDataContainer(frame)}  # pyright: ignore
    except ValueError:
        return {}


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Return how to show a decoded frame, by its display matrix.

    It takes (x, y), y pointing down, to (a x + c y, b x + d y), and is stored as
    (a, b, u), (c, d, v), (x, y, w). Source: FFmpeg, libavutil/display.h.

    Returns:
        Quarter turns counterclockwise, 0 to 3, the nearest; and whether left and right
        change places before.
    """
    matrix = side_data(frame).get("DISPLAYMATRIX")
    if matrix is None:
        return round(frame.rotation / 90) % 4, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    is_mirrored = a * d < b * c
    # Where the x axis goes: it is (1, 0), or (-1, 0) once mirrored.
    angle = math.atan2(b, -a) if is_mirrored else math.atan2(-b, a)
    return round(angle / (math.pi / 2)) % 4, is_mirrored


def to_rgb(
    frame: VideoFrame, *, any_depth: bool = False, with_alpha: bool = False
) -> np.ndarray:
    """Convert a decoded frame to RGB, upright, [H, W, 3].

    Args:
        frame: A frame of :func:`decode`.
        any_depth: Give a frame of more than 8 bits as uint16, on 0..65535; else all
            are uint8.
        with_alpha: Add the alpha, [H, W, 4]; the colors are not multiplied by it.
    """
    is_deep = any_depth and bit_depth(frame.format) > 8
    matrix = matrix_of(frame)
    if matrix is not None and yuv.is_known(matrix, frame.format):
        dtype = np.uint16 if is_deep else np.uint8
        image = yuv.read_frame(frame, matrix, range_of(frame), dtype)
    else:
        image = frame.to_ndarray(
            format="rgb48le" if is_deep else "rgb24",
            src_colorspace=matrix,
            interpolation=SWSCALE_FLAGS,
        )
    if with_alpha:
        image = np.dstack([image, alpha.read(frame, image.dtype)])
    turns, is_mirrored = orientation(frame)
    image = image[:, ::-1] if is_mirrored else image
    return np.ascontiguousarray(np.rot90(image, turns))


def range_of(frame: VideoFrame) -> ColorRange:
    """Return the range of a frame's levels; untagged, gray is full and YUV limited."""
    name, tag = frame.format.name, frame.color_range
    if name.startswith("yuvj") or tag == ColorRange.JPEG:
        return ColorRange.JPEG
    is_gray = name.startswith(("gray", "ya"))
    is_full = is_gray and tag != ColorRange.MPEG
    return ColorRange.JPEG if is_full else ColorRange.MPEG


def matrix_of(frame: VideoFrame) -> int | None:
    """Return FFmpeg's number of a frame's YUV matrix; None if it is RGB."""
    if frame.format.is_rgb:
        return None
    unusable = [_UNSPECIFIED_COLORSPACE]
    if len(frame.format.components) < 3:
        unusable.append(_RGB_COLORSPACE)  # the tag of gray and of palettes from PNG
    if frame.colorspace not in unusable:
        return int(frame.colorspace)
    return guess_matrix(frame.height, frame.width)


def guess_matrix(height: int, width: int) -> int:
    """Return FFmpeg's number of the matrix that players take for an untagged file."""
    is_hd = width >= 1280 or height > 576
    return int(Colorspace.ITU709 if is_hd else Colorspace.SMPTE170M)
