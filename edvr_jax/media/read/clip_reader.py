"""Clips on disk: video files and folders of frames.

Frames are RGB, [H, W, 3], uint8, upright.
"""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from edvr_jax.errors import InputError
from edvr_jax.media.read import decode, frame_rgb, images, pixels

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".apng", ".y4m"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"),
)


@dataclasses.dataclass(frozen=True)
class ClipReader:
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

        If the container announced more, a warning is logged, once.

        Raises:
            InputError: if a frame has another size, an image is corrupt, or a video
                cannot be read past an error; the frames before it were yielded.
        """
        if self.frame_paths:
            named = ((path.name, images.read_image(path)) for path in self.frame_paths)
        else:
            frames = map(frame_rgb.to_rgb, decode.decode(self.path))
            named = ((f"frame {index}", frame) for index, frame in enumerate(frames))
        for name, frame in named:
            pixels.check_size(frame.shape, self.size, f"{self.path}: {name}")
            yield frame


def open_clip(path: str | Path) -> ClipReader:
    """Open a video file or a folder of frames; only the first frame is read.

    Args:
        path: A video file, or a folder whose images are the frames in natural
            order (frame2.png before frame10.png).

    Raises:
        InputError: if there is no clip that can be read.
    """
    path = Path(path)
    if path.is_dir():
        paths = tuple(images.list_frames(path))
        size = images.read_image(paths[0]).shape[:2]
        return ClipReader(path, size, num_frames=len(paths), frame_paths=paths)
    with decode.open_container(path) as (container, stream):
        fps = decode.frame_rate(stream)
        num_frames = decode.count_frames(container, stream)
    for first in decode.decode(path):
        return ClipReader(path, frame_rgb.to_rgb(first).shape[:2], fps, num_frames)
    raise InputError(f"{path}: the video has no frames; is the file complete?")


def list_clips(folder: str | Path) -> list[Path]:
    """List the clips of a folder for :func:`open_clip`, in natural order.

    Args:
        folder: A folder of video files and folders of frames; or a single clip, which
            is then the only item.

    Raises:
        InputError: if the folder does not exist or has no clips.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; check the path")
    if folder.is_file() or images.list_images(folder):
        return [folder]
    clips = [path for path in images.list_visible(folder) if is_clip(path)]
    if not clips:
        raise InputError(
            f"{folder}: no clips in this folder; put video files or folders of "
            "frames there"
        )
    return clips


def is_clip(path: Path) -> bool:
    """Return whether a path has the suffix of a video, or is a folder with images."""
    if path.is_dir():
        return bool(images.list_images(path))
    return path.suffix.lower() in VIDEO_SUFFIXES
