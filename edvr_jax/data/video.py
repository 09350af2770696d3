"""Read clips, one frame at a time: video files (PyAV) and folders of frames (OpenCV).

Frames are RGB, [H, W, 3], upright (the rotation that phones store beside the picture is
applied), uint8 unless more bits are asked for. YUV becomes RGB by the matrix and range
that the file is tagged with; an untagged file is taken as BT.709 if it is high
definition, else as BT.601, as players do.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation
from av.video.stream import VideoStream

from edvr_jax.data import images
from edvr_jax.errors import InputError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".y4m"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"),
)
# swscale's defaults interpolate chroma coarsely and round inexactly.
SWSCALE_FLAGS = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_PIPE_FORMAT = "yuv4mpegpipe"
_UNSPECIFIED_COLORSPACE = 2  # AVCOL_SPC_UNSPECIFIED


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip on disk; each iteration reads it again from its first frame.

    Attributes:
        path: The video file or the folder of frames.
        size: Height and width of every frame, in pixels.
        fps: Frames per second of a video; None for a folder of frames.
        num_frames: Number of frames: exact for a folder, what the header claims
            for a video, None if it claims nothing.
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
        """Yield uint8 RGB frames, [H, W, 3].

        Raises:
            InputError: if a frame is corrupt or has another size, or if the video
                ends before its header says; the frames before it were yielded.
        """
        if self.frame_paths:
            named = ((path.name, images.read_image(path)) for path in self.frame_paths)
        else:
            frames = enumerate(decode(self.path))
            named = ((f"frame {index}", to_rgb(frame)) for index, frame in frames)
        for name, frame in named:
            images.check_size(frame, self.size, f"{self.path}: {name}")
            yield frame


def open_clip(path: str | Path) -> Clip:
    """Open a video file or a folder of frames.

    Args:
        path: A video file, or a folder whose images are the frames in natural
            order (frame2.png before frame10.png).

    Returns:
        The clip. Only its first frame has been read.

    Raises:
        InputError: if there is nothing there that can be read as a clip.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    if path.is_dir():
        return _open_folder(path)
    if path.suffix.lower() in images.IMAGE_SUFFIXES:
        raise InputError(
            f"{path}: this is one image; give a video file or a folder of frames"
        )
    return _open_video(path)


def list_clips(folder: str | Path) -> list[Path]:
    """List the clips of a folder in natural order.

    Args:
        folder: A folder of video files and of folders of frames; or itself a folder
            of frames or a video file, which then is the only clip.

    Returns:
        Paths for :func:`open_clip`, at least one.

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
    with open_container(path) as (_, stream):
        fps, num_frames = frame_rate(stream), count_frames(stream)
    for first in decode(path):
        return Clip(path, to_rgb(first).shape[:2], fps, num_frames)
    raise InputError(f"{path}: the video has no frames; is the file complete?")


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the mean frames per second that a video announces; 25 if it does not."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def count_frames(stream: VideoStream) -> int | None:
    """Return how many frames a video announces, or None."""
    fps = stream.average_rate or stream.guessed_rate
    if not stream.frames and fps and stream.duration and stream.time_base:
        return round(stream.duration * stream.time_base * fps)
    return stream.frames or None


@contextlib.contextmanager
def open_container(
    path: Path, file: BinaryIO | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video file, and close it after the ``with``.

    Args:
        path: The file, or its name in messages.
        file: What to read instead: a pipe with YUV4MPEG2.

    Yields:
        The container and its video stream.

    Raises:
        InputError: if it is no video.
    """
    try:
        container = (
            av.open(str(path))
            if file is None
            else av.open(file, "r", format=_PIPE_FORMAT)
        )
    except (FFmpegError, OSError) as error:
        reason = error.strerror or "unknown format"
        raise InputError(
            f"{path}: not a video that can be read ({reason}); give a complete video "
            "file or a folder of frames"
        ) from None
    with container:
        streams = _without_pictures(container.streams.video)
        # FFmpeg renders text files as ANSI art.
        if not streams or container.format.name == "tty":
            raise InputError(f"{path}: no video stream in this file; give a video")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _without_pictures(streams: Sequence[VideoStream]) -> list[VideoStream]:
    """Leave cover pictures out, which are stored as videos of one frame."""
    return [s for s in streams if not s.disposition & Disposition.attached_pic]


def decode(path: Path) -> Iterator[VideoFrame]:
    """Decode a video file from its first frame.

    Raises:
        InputError: if it is damaged or ends early; the frames before were yielded.
    """
    with open_container(path) as (container, stream):
        yield from decode_stream(path, container, stream)


def decode_stream(
    path: Path, container: InputContainer, stream: VideoStream
) -> Iterator[VideoFrame]:
    """Decode an open video from where it is; see :func:`decode`."""
    num_read = 0
    last = None
    try:
        for last in container.decode(stream):
            yield last
            num_read += 1
    except FFmpegError as error:
        raise InputError(
            f"{path}: the video is damaged ({error.strerror}): {num_read} frames "
            "were read; repair or cut the file"
        ) from None
    if last is not None and _ends_early(container, stream, last, num_read):
        raise InputError(
            f"{path}: the video is truncated: {num_read} frames were read, but "
            "its header announces more; copy the file again or cut it"
        )


def _ends_early(
    container: InputContainer, stream: VideoStream, last: VideoFrame, num_read: int
) -> bool:
    """Tell whether the last frame read lies well before the end in the header.

    A count alone would not do: frames cut by an edit list stay in the header's
    count. Nor does a duration in every format: some are only guessed, and that of
    Matroska spans all streams. GIF and Y4M announce neither.
    """
    if last.time is None:
        return stream.frames > num_read
    if stream.frames > num_read and stream.duration and stream.time_base:
        end = ((stream.start_time or 0) + stream.duration) * stream.time_base
    elif "matroska" in container.format.name and len(container.streams) == 1:
        end = (container.duration or 0) / av.time_base
    else:
        return False
    duration = max(1 / (stream.average_rate or Fraction(25)), _duration(last))
    return end - last.time > 1.5 * duration


def _duration(frame: VideoFrame) -> Fraction:
    return (frame.duration or 0) * (frame.time_base or Fraction(0))


def to_rgb(frame: VideoFrame, *, any_depth: bool = False) -> np.ndarray:
    """Convert a decoded frame to RGB, upright, [H, W, 3].

    Args:
        frame: A frame of :func:`decode`.
        any_depth: Give a frame of more than 8 bits as uint16, on 0..65535; else all
            are uint8.
    """
    is_deep = any_depth and bit_depth(frame.format) > 8
    image = frame.to_ndarray(
        format="rgb48le" if is_deep else "rgb24",
        src_colorspace=matrix_of(frame),
        interpolation=SWSCALE_FLAGS,
    )
    # FFmpeg gives the angle counterclockwise, as np.rot90 takes it.
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def bit_depth(pixel_format: VideoFormat) -> int:
    """Return the bits of each component of a pixel format."""
    return max(component.bits for component in pixel_format.components)


def matrix_of(frame: VideoFrame) -> int | None:
    """Return FFmpeg's number of a frame's YUV matrix; None if it is RGB."""
    if frame.format.is_rgb:
        return None
    if frame.colorspace != _UNSPECIFIED_COLORSPACE:
        return int(frame.colorspace)
    is_hd = frame.width >= 1280 or frame.height > 576
    return int(Colorspace.ITU709 if is_hd else Colorspace.SMPTE170M)
