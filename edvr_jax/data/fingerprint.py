"""Digests of the clips' contents, to detect data replaced under the same names.

Reading whole files would take minutes, so only a part of each is read: enough to
distinguish different images and videos. Names and times, which change when data is
copied, are never part of a digest.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edvr_jax import files, progress
from edvr_jax.data.clips import TrainClip
from edvr_jax.data.frames import FrameFiles, Frames
from edvr_jax.data.records import RecordFrames
from edvr_jax.errors import InputError, list_some

Fingerprint = dict[str, list[int | str]]

_PIECES, _PIECE_BYTES = 4, 4096  # of each image file or decoded frame
_RECORD_STEP = 25  # one of so many records is read whole
_THREADS = 8  # hides the latency of network storage


def take(clips: Sequence[TrainClip], *, skip_bad: bool) -> Fingerprint:
    """Compute what identifies the clips of a run.

    Args:
        clips: The clips.
        skip_bad: Frames that cannot be read are left out.

    Returns:
        For each clip's name its number of frames, height, width, and a digest of the
        contents of its frames, provided degraded ones included.

    Raises:
        InputError: if a frame cannot be read, unless ``skip_bad``.
    """

    def digest(clip: TrainClip) -> str:
        found = hashlib.sha256(repr(clip.scenes).encode())
        for frames in (clip.gt, clip.lq):
            if frames is None:
                continue
            for index in range(len(frames)):
                try:
                    for piece in _sample(frames, index):
                        found.update(piece)
                except InputError:
                    if not skip_bad:
                        raise
        return found.hexdigest()[:16]

    with ThreadPoolExecutor(_THREADS) as pool:
        digests = progress.track(
            pool.map(digest, clips),
            total=len(clips),
            unit="clip",
            name="reading parts of the clips",
        )
        return {
            clip.name: [len(clip.gt), *map(int, clip.gt.size), text]
            for clip, text in zip(clips, digests, strict=True)
        }


def describe_changes(before: Mapping[str, Any], now: Fingerprint) -> str:
    """Name the clips that are new, gone or changed; "" if there are none.

    Checkpoints of earlier versions lack the digest; what they have is compared.
    """
    both = [name for name in now if name in before]
    groups = {
        "new": [name for name in now if name not in before],
        "gone": [name for name in before if name not in now],
        "changed": [n for n in both if list(before[n]) != now[n][: len(before[n])]],
    }
    return "; ".join(
        f"{what}: {list_some(names)}" for what, names in groups.items() if names
    )


def _sample(frames: Frames, index: int) -> Iterator[bytes]:
    """Yield parts of a frame's content."""
    if isinstance(frames, FrameFiles):
        yield from _sample_file(frames.folder / frames.names[index])
    elif isinstance(frames, RecordFrames):
        if index % _RECORD_STEP == 0:
            yield frames.split.read(frames.first + index)
    else:
        values = frames[index].reshape(-1)
        yield from _pieces(len(values), lambda a, b: values[a:b].tobytes())


def _sample_file(path: Path) -> Iterator[bytes]:
    with files.report_unreadable(path), path.open("rb", buffering=0) as file:

        def read(first: int, end: int) -> bytes:
            file.seek(first)
            return file.read(end - first)

        size = os.fstat(file.fileno()).st_size
        yield b"%d," % size
        yield from _pieces(size, read)


def _pieces(size: int, read: Callable[[int, int], bytes]) -> Iterator[bytes]:
    """Read the first piece, the last, and some between; small contents whole."""
    if size <= _PIECES * _PIECE_BYTES:
        yield read(0, size)
        return
    for index in range(_PIECES):
        first = (size - _PIECE_BYTES) * index // (_PIECES - 1)
        yield read(first, first + _PIECE_BYTES)
