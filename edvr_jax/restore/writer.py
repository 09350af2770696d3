"""Write a clip as a video file (H.264 by PyAV) or as a folder of PNG frames.

The output appears under its name only when it is complete: it grows under a
temporary name beside it, which is removed if anything goes wrong.
"""

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from edvr_jax import files
from edvr_jax.data.video import IMAGE_SUFFIXES, SWSCALE_FLAGS, VIDEO_SUFFIXES
from edvr_jax.errors import InputError
from edvr_jax.metrics import to_uint8

# Suffix -> FFmpeg's muxer and its options.
CONTAINERS = {
    ".mp4": ("mp4", {"movflags": "faststart"}),
    ".m4v": ("mp4", {"movflags": "faststart"}),
    ".mov": ("mov", {"movflags": "faststart"}),
    ".mkv": ("matroska", {}),
}
DEFAULT_FPS = Fraction(25)
DEFAULT_CRF = 17  # visually lossless; x264's own default, 23, is not
MAX_CRF = 51


@contextlib.contextmanager
def open_writer(
    path: str | Path,
    fps: Fraction | None = None,
    *,
    names: Sequence[str] = (),
    crf: int = DEFAULT_CRF,
    overwrite: bool = False,
) -> Iterator["VideoWriter | FolderWriter"]:
    """Open a clip for writing; it is complete, or not there, after the ``with``.

    Args:
        path: A video file (.mp4, .m4v, .mov, .mkv), or else a folder for PNG frames.
        fps: Frames per second of a video, kept exactly; None is 25.
        names: File names for a folder's frames (their suffix becomes .png); without
            them, and after the last of them, frames are numbered from 00000000.png.
        crf: Quality of a video, 0 (best) to 51.
        overwrite: Replace what is there; of folders, only one of images.

    Yields:
        A writer; call its ``write(frame)`` for every frame.

    Raises:
        InputError: if the output exists, cannot be written, or got no frame.
    """
    path = Path(path)
    is_video = _check_output(path, overwrite=overwrite)
    if not 0 <= crf <= MAX_CRF:
        raise InputError(f"crf must be in 0..{MAX_CRF}, got {crf}")
    with files.replacing(path) as temporary:
        with files.report_failure(path, FFmpegError):
            writer = (
                VideoWriter(temporary, path, fps or DEFAULT_FPS, crf)
                if is_video
                else FolderWriter(temporary, path, names)
            )
        with contextlib.closing(writer):
            yield writer
            if not writer.num_frames:
                raise InputError(f"{path}: there are no frames to write")
            writer.finish()


def _check_output(path: Path, *, overwrite: bool) -> bool:
    """Tell whether ``path`` shall be a video; refuse what cannot be written there.

    Raises:
        InputError: if something is there that may not be replaced, if the suffix is
            that of another kind of file, or if there is no such parent folder.
    """
    suffix = path.suffix.lower()
    is_video = suffix in CONTAINERS
    if not is_video and suffix in VIDEO_SUFFIXES + IMAGE_SUFFIXES:
        raise InputError(
            f"{path}: cannot write {suffix}; give a {', '.join(CONTAINERS)} file or a "
            "folder"
        )
    if not path.absolute().parent.is_dir():
        raise InputError(
            f"{path}: there is no folder {path.absolute().parent}; create it first"
        )
    if not path.exists():
        return is_video
    if path.is_dir() == is_video:
        what = "folder" if is_video else "file"
        raise InputError(f"{path}: this is a {what}; choose another name")
    entries = [] if is_video else list(path.iterdir())
    if any(p.suffix.lower() not in IMAGE_SUFFIXES or p.is_dir() for p in entries):
        raise InputError(
            f"{path}: this folder holds other things than frames; choose another name"
        )
    if not overwrite and (is_video or entries):
        raise InputError(f"{path}: exists already; pass --overwrite to replace it")
    return is_video


class VideoWriter:
    """H.264 in BT.709, tagged so; 4:2:0, or 4:4:4 where a side is odd.

    Attributes:
        num_frames: Frames written so far.
        size: Height and width of the frames; (0, 0) before the first.
    """

    def __init__(self, temporary: Path, path: Path, fps: Fraction, crf: int):
        muxer, options = CONTAINERS[path.suffix.lower()]
        temporary.touch()  # tells what is wrong with a path better than FFmpeg
        self.num_frames = 0
        self.size = (0, 0)
        self._path, self._fps, self._crf = path, fps, crf
        self._container = cast(
            OutputContainer,
            av.open(str(temporary), "w", format=muxer, container_options=options),
        )
        self._stream: VideoStream | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, RGB, [H, W, 3], uint8 or float in [0, 1]."""
        image = _check_size(self, frame)
        with files.report_failure(self._path, FFmpegError):
            stream = self._stream = self._stream or self._add_stream()
            video_frame = VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format=stream.pix_fmt,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=SWSCALE_FLAGS,
            )
            video_frame.pts = self.num_frames
            video_frame.time_base = 1 / self._fps
            self._container.mux(stream.encode(video_frame))
        self.num_frames += 1

    def finish(self) -> None:
        """Write what the encoder still holds and the end of the file."""
        with files.report_failure(self._path, FFmpegError):
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()

    def close(self) -> None:
        """Let go of the file, finished or not."""
        with contextlib.suppress(OSError, FFmpegError):
            self._container.close()

    def _add_stream(self) -> VideoStream:
        options = {"crf": str(self._crf)}
        stream = self._container.add_stream("libx264", self._fps, options=options)
        stream.height, stream.width = self.size
        # 4:2:0 halves both sides: an odd one would lose a row or column.
        is_even = self.size[0] % 2 == 0 and self.size[1] % 2 == 0
        stream.pix_fmt = "yuv420p" if is_even else "yuv444p"
        codec = stream.codec_context
        codec.time_base = 1 / self._fps
        codec.colorspace = Colorspace.ITU709
        codec.color_range = ColorRange.MPEG
        codec.color_primaries = ColorPrimaries.BT709
        codec.color_trc = ColorTrc.BT709
        return stream


class FolderWriter:
    """PNG frames in a folder.

    Attributes:
        num_frames: Frames written so far.
        size: Height and width of the frames; (0, 0) before the first.
    """

    def __init__(self, temporary: Path, path: Path, names: Sequence[str]):
        self.num_frames = 0
        self.size = (0, 0)
        self._temporary, self._path = temporary, path
        self._names = [f"{Path(name).stem}.png" for name in names]
        twice = {name for name in self._names if self._names.count(name) > 1}
        if twice:
            raise InputError(
                f"{path}: two input frames would both become {min(twice)}; rename one"
            )
        temporary.mkdir()

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, RGB, [H, W, 3], uint8 or float in [0, 1]."""
        image = _check_size(self, frame)
        is_named = self.num_frames < len(self._names)
        default = f"{self.num_frames:08d}.png"
        name = self._names[self.num_frames] if is_named else default
        _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        with files.report_failure(self._path):
            (self._temporary / name).write_bytes(data.tobytes())
        self.num_frames += 1

    def finish(self) -> None:
        """Do nothing: every frame is on disk already."""

    def close(self) -> None:
        """Do nothing: no file is open."""


def _check_size(writer: VideoWriter | FolderWriter, frame: np.ndarray) -> np.ndarray:
    image = np.ascontiguousarray(to_uint8(frame))
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"frame must be [H, W, 3], got shape {image.shape}")
    if writer.num_frames and image.shape[:2] != writer.size:
        raise ValueError(
            f"frame {writer.num_frames} is {image.shape[:2]}, not {writer.size}"
        )
    writer.size = (image.shape[0], image.shape[1])
    return image
