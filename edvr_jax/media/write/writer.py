"""Write a clip as a video file or as a folder of PNG frames.

The output appears under its name only when it is complete. Until then it has a
temporary name beside it, which is removed after an error.
"""

import contextlib
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from edvr_jax import files
from edvr_jax.errors import InputError
from edvr_jax.files import places_beside
from edvr_jax.media.read.clip_reader import VIDEO_SUFFIXES
from edvr_jax.media.read.images import IMAGE_SUFFIXES
from edvr_jax.media.read.pixels import to_uint8
from edvr_jax.media.read.timeline import Timeline
from edvr_jax.media.write.containers import CONTAINERS
from edvr_jax.media.write.encode import EncodingRequest, choose_encoding
from edvr_jax.media.write.image_folder import ImageFolder
from edvr_jax.media.write.mux import write_video
from edvr_jax.media.write.segments import SegmentedVideo
from edvr_jax.media.write.sink import Sink

DEFAULT_FPS = Fraction(25)


@contextlib.contextmanager
def open_writer(
    path: str | Path,
    fps: Fraction | None = None,
    *,
    crf: int | None = None,
    overwrite: bool = False,
) -> Iterator["Writer"]:
    """Open a clip for writing; after the ``with`` it is complete or does not exist.

    Args:
        path: A video file (.mp4, .mkv, .webm, ...), or else a folder for PNG frames,
            numbered from 00000000.png.
        fps: Frames per second of a video, kept exactly; None is 25.
        crf: Quality of a video, 0 is best; None is 17 where the encoder has it.
        overwrite: Replace an existing output; of folders, only one of images.

    Yields:
        A writer; call its ``write(frame)`` for every frame.

    Raises:
        InputError: if the output exists, cannot be written, or got no frame.
    """
    path = Path(path)
    is_video = check_output(path, overwrite=overwrite)
    with files.replacing(path) as temporary, contextlib.ExitStack() as stack:
        work = temporary.with_suffix(".parts") if is_video else temporary
        with files.report_failure(path):
            work.mkdir()
        if is_video:
            stack.callback(shutil.rmtree, work, ignore_errors=True)
        sink = None if is_video else ImageFolder(work, path, (), ".png")
        writer = Writer(path, work, sink, fps or DEFAULT_FPS, crf)
        stack.callback(writer.close)
        yield writer
        writer.finish(temporary)


def check_output(path: Path, *, overwrite: bool) -> bool:
    """Check that an output can be written; return whether it is a video.

    Raises:
        InputError: if something exists there that may not be replaced, if the suffix
            is that of another kind of file, or if there is no such parent folder.
    """
    if path.name in ("", ".."):
        raise InputError(f"{path}: give the output by its name")
    files.check_name(path, *places_beside(path))
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
    if path.is_mount():
        raise InputError(
            f"{path}: this folder is a mount point, which cannot be replaced as a "
            "whole; name a folder inside it"
        )
    entries = [] if is_video else list(path.iterdir())
    if any(p.suffix.lower() not in IMAGE_SUFFIXES or p.is_dir() for p in entries):
        raise InputError(
            f"{path}: this folder holds other things than frames; choose another name"
        )
    if not overwrite:
        files.check_free(path)
    return is_video


class Writer:
    """Takes the frames of a clip; see :func:`open_writer`."""

    def __init__(
        self, path: Path, work: Path, sink: Sink | None, fps: Fraction, crf: int | None
    ):
        self._num_frames = 0
        self._size = (0, 0)
        self._path, self._work, self._fps, self._crf = path, work, fps, crf
        self._sink = sink  # None is a video whose size is not known yet

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, RGB, [H, W, 3], uint8 or float in [0, 1].

        Raises:
            ValueError: if it has another shape than the first.
        """
        image = np.ascontiguousarray(to_uint8(frame))
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"frame must be [H, W, 3], got shape {image.shape}")
        if self._num_frames and image.shape[:2] != self._size:
            raise ValueError(
                f"frame {self._num_frames} is {image.shape[:2]}, not {self._size}"
            )
        self._size = (image.shape[0], image.shape[1])
        if self._sink is None:
            request = EncodingRequest(
                self._path, self._size, self._fps, 1 / self._fps, crf=self._crf
            )
            self._sink = SegmentedVideo(
                self._work, self._path, choose_encoding(request), is_resumable=False
            )
        self._sink.write(image, time=self._num_frames)
        self._num_frames += 1

    def finish(self, temporary: Path) -> None:
        """Write the video of what was written.

        Raises:
            InputError: if there was no frame.
        """
        if not self._num_frames:
            raise InputError(f"{self._path}: there are no frames to write")
        if isinstance(self._sink, SegmentedVideo):
            self._sink.finish()
            count = self._num_frames
            timeline = Timeline(range(count), count, 1 / self._fps, self._fps)
            write_video(temporary, self._path, self._sink, timeline)

    def close(self) -> None:
        """Close the files."""
        if self._sink is not None:
            self._sink.close()
