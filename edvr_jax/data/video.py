"""Read clips, one frame at a time: video files (PyAV) and folders of frames (OpenCV).

Frames are uint8 RGB, [H, W, 3], upright (the rotation that phones store beside the
picture is applied). YUV becomes RGB by the matrix and range that the file is tagged
with; an untagged file is taken as BT.709 if it is high definition, else as BT.601,
as players do.
"""

import contextlib
import dataclasses
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation
from av.video.stream import VideoStream

from edvr_jax.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
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
            named = ((path.name, read_image(path)) for path in self.frame_paths)
        else:
            frames = enumerate(_iter_video(self.path))
            named = ((f"frame {index}", frame) for index, frame in frames)
        for name, frame in named:
            check_size(frame, self.size, f"{self.path}: {name}")
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
    if path.suffix.lower() in IMAGE_SUFFIXES:
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
    if folder.is_file() or list_images(folder):
        return [folder]
    clips = [path for path in _list_visible(folder) if _is_clip(path)]
    if not clips:
        raise InputError(
            f"{folder}: no clips in this folder; put video files or folders of "
            "frames there"
        )
    return clips


def check_size(frame: np.ndarray, size: tuple[int, int], name: str | Path) -> None:
    """Check that a frame has the size of the first one.

    Args:
        frame: The frame, [H, W, 3].
        size: Height and width of the first frame.
        name: The frame's name in the message.

    Raises:
        InputError: if it has another size.
    """
    if frame.shape[:2] != size:
        raise InputError(
            f"{name} is {_width_x_height(frame.shape[:2])} but the first frame is "
            f"{_width_x_height(size)}; all frames of a clip must have one size"
        )


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that orders frame2.png before frame10.png."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(p)) if p.isdigit() else (1, p) for p in parts]


def _list_visible(folder: Path) -> list[Path]:
    try:
        entries = [path for path in folder.iterdir() if path.name[0] != "."]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from None
    return sorted(entries, key=lambda path: (natural_key(path), path.name))


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder in natural order.

    Raises:
        InputError: if the folder cannot be listed.
    """
    return [p for p in _list_visible(folder) if p.suffix.lower() in IMAGE_SUFFIXES]


def _is_clip(path: Path) -> bool:
    if path.is_dir():
        return bool(list_images(path))
    return path.suffix.lower() in VIDEO_SUFFIXES


def _width_x_height(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"


def _open_folder(path: Path) -> Clip:
    images = list_images(path)
    if not images:
        entries = _list_visible(path)
        what = "no images in this folder" if entries else "this folder is empty"
        raise InputError(
            f"{path}: {what}; it must hold the frames of one clip as "
            f"{', '.join(s[1:] for s in IMAGE_SUFFIXES)}"
        )
    size = read_image(images[0]).shape[:2]
    return Clip(path, size, num_frames=len(images), frame_paths=tuple(images))


def read_image(path: Path) -> np.ndarray:
    """Read one image as uint8 RGB, [H, W, 3].

    Raises:
        InputError: if the file is missing or is no complete image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return decode_image(data, path)


def decode_image(data: bytes, name: str | Path) -> np.ndarray:
    """Decode the bytes of an image file as uint8 RGB, [H, W, 3].

    Args:
        data: Content of the file.
        name: The file's name in the message.

    Raises:
        InputError: if it is no complete image.
    """
    image = None
    if data:
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise InputError(f"{name}: not a complete image; replace this frame")
    return image


def read_size(path: Path) -> tuple[int, int]:
    """Read height and width of an image; of a PNG file only its header.

    Raises:
        InputError: if the file is missing or is no complete image.
    """
    try:
        with path.open("rb") as file:
            header = file.read(24)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if header[:8] == b"\x89PNG\r\n\x1a\n" and len(header) == 24:
        width, height = struct.unpack(">II", header[16:])
        return height, width
    height, width, _ = read_image(path).shape
    return height, width


def _open_video(path: Path) -> Clip:
    with _open_container(path) as (_, stream):
        fps = stream.average_rate or stream.guessed_rate
        num_frames = stream.frames or None
        if num_frames is None and fps and stream.duration and stream.time_base:
            num_frames = round(stream.duration * stream.time_base * fps)
    for first in _iter_video(path):
        return Clip(path, first.shape[:2], fps or Fraction(25), num_frames)
    raise InputError(f"{path}: the video has no frames; is the file complete?")


@contextlib.contextmanager
def _open_container(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        container = av.open(str(path))
    except (FFmpegError, OSError) as error:
        reason = error.strerror or "unknown format"
        raise InputError(
            f"{path}: not a video that can be read ({reason}); give a complete video "
            "file or a folder of frames"
        ) from None
    with container:
        streams = container.streams.video
        # FFmpeg renders text files as ANSI art.
        if not streams or container.format.name == "tty":
            raise InputError(f"{path}: no video stream in this file; give a video")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _iter_video(path: Path) -> Iterator[np.ndarray]:
    num_read = 0
    last = None
    with _open_container(path) as (container, stream):
        try:
            for last in container.decode(stream):
                yield _to_rgb(last)
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


def _to_rgb(frame: VideoFrame) -> np.ndarray:
    matrix = None  # as tagged
    if frame.colorspace == _UNSPECIFIED_COLORSPACE and not frame.format.is_rgb:
        is_hd = frame.width >= 1280 or frame.height > 576
        matrix = Colorspace.ITU709 if is_hd else Colorspace.ITU601
    image = frame.to_ndarray(
        format="rgb24", src_colorspace=matrix, interpolation=SWSCALE_FLAGS
    )
    # FFmpeg gives the angle counterclockwise, as np.rot90 takes it.
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
