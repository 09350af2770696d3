"""What a dataset consists of, and the checks that all datasets share."""

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, Literal, TypeVar

from edvr_jax.config import Track
from edvr_jax.errors import InputError, list_some
from edvr_jax.media.read import images

GT = "gt"  # the stream of ground-truth frames
_SHOWN = 3  # missing frames of a clip
_log = logging.getLogger(__name__)

Clip = TypeVar("Clip")
Part = Literal["all", "test"]  # of a dataset


@dataclasses.dataclass(frozen=True)
class Layout(Generic[Clip]):
    """The clips of a dataset on disk.

    Attributes:
        streams: Ground truth ("gt") and every degraded form that is there: paths, or
            frames for a dataset of records.
        lq_streams: For each track, the stream of its degraded frames.
        train: Names of the clips that may be trained on; empty for a test set.
        is_partial: Incomplete clips may have been left out.
    """

    streams: Mapping[str, Mapping[str, Clip]]
    lq_streams: Mapping[Track, str]
    train: tuple[str, ...]
    is_partial: bool = False


def first_folder(root: Path, candidates: Sequence[str]) -> Path | None:
    """Return the first of some folders below ``root`` that exists."""
    return next((root / c for c in candidates if (root / c).is_dir()), None)


def find_streams(
    root: Path,
    candidates: Mapping[str, Sequence[str]],
    num_frames: Mapping[str, int],
    *,
    is_partial: bool,
) -> dict[str, dict[str, Path]]:
    """Find the streams of a dataset whose clips are folders of frames.

    Args:
        root: Folder of the dataset.
        candidates: For each stream the folders, relative to root, where it may be.
        num_frames: The clips that every stream must have, and their frames.
        is_partial: Leave out what is incomplete, with a warning that counts it.

    Returns:
        Clips of each stream that is there; "gt" is.

    Raises:
        InputError: naming what is missing.
    """
    streams = {}
    for stream, places in candidates.items():
        folder = first_folder(root, places)
        if folder is not None:
            clips = {name: folder / name for name in num_frames}
            streams[stream] = check_clips(clips, num_frames, is_partial=is_partial)
    if GT not in streams:
        raise InputError(
            f"{root}: there is no folder {' or '.join(candidates[GT])} with the ground "
            "truth; see docs/data.md for where to get the files"
        )
    return streams


# Where the published test sets keep their degraded forms.
_TEST_FOLDERS = {GT: ["GT"], "bix4": ["BIx4"], "bdx4": ["BDx4"]}
_TEST_LQ: dict[Track, str] = {"sr": "bix4", "sr_bd": "bdx4"}


def find_test_set(
    root: Path, num_frames: Mapping[str, int], *, is_partial: bool
) -> Layout[Path]:
    """Find a dataset that is only tested on: GT, and BIx4 and BDx4 if there.

    Args:
        root: The folder that holds ``GT``.
        num_frames: The clips and their frames.
        is_partial: Leave out incomplete clips, with a warning that counts them.

    Returns:
        The clips; none to train on.

    Raises:
        InputError: naming what is missing.
    """
    streams = find_streams(root, _TEST_FOLDERS, num_frames, is_partial=is_partial)
    return Layout(streams, _TEST_LQ, train=())


def check_clips(
    clips: Mapping[str, Path], num_frames: Mapping[str, int], *, is_partial: bool
) -> dict[str, Path]:
    """Check that clips are there with all their frames.

    Args:
        clips: Folders of frames by clip name.
        num_frames: Frames that each of them must have.
        is_partial: Leave out what is incomplete, with a warning that counts it.

    Returns:
        The complete clips.

    Raises:
        InputError: naming the clips or frames that are missing.
    """
    faults = {name: _fault(path, num_frames[name]) for name, path in clips.items()}
    faults = {name: fault for name, fault in faults.items() if fault}
    if faults:
        first = list_some(faults.values(), 3, "; ")
        if not is_partial or len(faults) == len(clips):
            raise InputError(f"{first}; copy what is missing")
        _log.warning("%d clips left out: %s", len(faults), first)
    return {name: folder for name, folder in clips.items() if name not in faults}


def _fault(folder: Path, num_frames: int) -> str:
    """Say what is wrong with a clip; nothing if it is complete."""
    if not folder.is_dir():
        return f"{folder}: this clip is missing"
    names = [path.name for path in images.list_images(folder)]
    if len(names) == num_frames:
        return ""
    missing = _gaps(names)
    where = f", {', '.join(missing)} missing" if missing else ""
    return f"{folder}: {len(names)} frames instead of {num_frames}{where}"


def _gaps(names: Iterable[str]) -> list[str]:
    """List the first numbers left out between the first and the last frame."""
    stems = [Path(name).stem.removeprefix("im") for name in names]
    if not stems or not all(stem.isdigit() for stem in stems):
        return []
    there, width = {int(stem) for stem in stems}, len(stems[0])
    numbers = range(min(there), max(there))  # may be times: as long as they like
    missing = (f"{i:0{width}d}" for i in numbers if i not in there)
    return list(itertools.islice(missing, _SHOWN))
