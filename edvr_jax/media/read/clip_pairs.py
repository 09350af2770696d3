"""Pairs of clips: ground truth and the clip that is compared with it."""

import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edvr_jax.errors import InputError, list_some
from edvr_jax.media.read import clip_reader, images

_log = logging.getLogger(__name__)

_DIGITS = re.compile(r"\d+")


def clip_name(path: Path) -> str:
    """Return a clip's name: that of its folder, or of its file without suffix."""
    return path.stem if path.is_file() else path.resolve().name


def select_clips(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """List a folder's clips, or those of the given names.

    Args:
        folder: A folder of clips, or one clip.
        names: Names of the clips; empty is all.

    Returns:
        Paths in natural order, or in the order of ``names``.

    Raises:
        InputError: if a name is missing or ambiguous.
    """
    clips = _clips_by_name(folder)
    for name in names:
        if name not in clips:
            raise InputError(
                f"{folder}: no clip named {name}; there are {list_some(clips)}"
            )
    return [clips[name] for name in names or clips]


def match_clips(
    gt: Path, other: Path, *, names: Sequence[str] = (), is_exact: bool = False
) -> list[tuple[Path, Path]]:
    """Pair the clips of two folders by name; two single clips need no common name.

    Args:
        gt: Ground truth: a clip or a folder of clips.
        other: The clip or folder of clips to compare with it.
        names: Names of the ground truth's clips; empty is all.
        is_exact: Also refuse clips of ``other`` without ground truth.

    Returns:
        Paths of each pair, in the order of :func:`select_clips`.

    Raises:
        InputError: if a clip or a frame has no partner, see :func:`check_frame_names`.
    """
    chosen = {clip_name(path): path for path in select_clips(gt, names)}
    partners = _clips_by_name(other)
    has_clip = gt in chosen.values() or other in partners.values()
    if has_clip and len(chosen) == len(partners) == 1:
        partners = dict(zip(chosen, partners.values(), strict=True))
    missing = [name for name in chosen if name not in partners]
    if missing:
        raise InputError(f"{other}: no clip named {list_some(missing)}, as in {gt}")
    extra = [name for name in partners if name not in chosen]
    if is_exact and extra:
        raise InputError(f"{gt}: no clip named {list_some(extra)}, as in {other}")
    couples = [(path, partners[name]) for name, path in chosen.items()]
    check_frame_names(couples)
    return couples


def check_frame_names(couples: Iterable[tuple[Path, Path]]) -> None:
    """Check that the frames of paired folders belong together.

    If the frames of two folders are named alike, both must have the same names, up to
    leading zeros and suffixes; others are paired by order. One warning for all clips
    lists those, another one gaps in the numbers.

    Args:
        couples: Paths of ground truth and other clip; videos are not checked.

    Raises:
        InputError: if a folder lacks a frame of the other one.
    """
    by_order, numbered = [], []
    for couple in couples:
        folders = [path for path in couple if path.is_dir()]
        if len(folders) < 2:
            numbered += folders
        elif _is_named_alike(*folders):
            numbered.append(folders[0])
        else:
            numbered += folders
            by_order.append("{} and {}".format(*folders))
    if by_order:
        _log.warning(
            "frames are named differently and paired by order: %s",
            list_some(by_order, 2),
        )
    note_gaps(numbered)


def note_gaps(clips: Iterable[Path]) -> None:
    """Log one warning with the folders whose frame numbers have gaps."""
    notes = []
    for path in clips:
        names = [p.name for p in images.list_images(path)] if path.is_dir() else []
        gaps = [f"between {a} and {b}" for a, b in images.find_gaps(names)]
        if gaps:
            notes.append(f"{path}: there is no frame {list_some(gaps, 3)}")
    if notes:
        _log.warning("%s", list_some(notes, 3, "; "))


def _is_named_alike(gt: Path, other: Path) -> bool:
    """Return whether frames are paired by name; if so, check that none is missing."""
    stems = [{p.stem: p.name for p in images.list_images(f)} for f in (gt, other)]
    shared = stems[0].keys() & stems[1].keys()
    keys = [{_key(stem): name for stem, name in found.items()} for found in stems]
    schemes = {_DIGITS.sub("#", stem) for found in stems for stem in found}
    is_clear = all(len(k) == len(s) for k, s in zip(keys, stems, strict=True))
    if not (len(schemes) == 1 and is_clear):  # not only the numbers differ
        if not shared:
            return False
        keys = stems
    for path, partner, missing in (
        (gt, other, [n for key, n in keys[1].items() if key not in keys[0]]),
        (other, gt, [n for key, n in keys[0].items() if key not in keys[1]]),
    ):
        if missing:
            raise InputError(
                f"{path}: no frame like {list_some(missing)}, which {partner} has; "
                "frames of these two folders belong together by their names"
            )
    return True


def _key(stem: str) -> tuple[int, ...]:
    return tuple(map(int, _DIGITS.findall(stem)))


def join_frames(
    gt: Iterable[np.ndarray], other: Iterable[np.ndarray], *, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the frames of two clips in pairs.

    Args:
        gt: Frames of the ground truth.
        other: Frames of the other clip.
        name: The pair's name in error messages.

    Raises:
        InputError: if the clips differ in length.
    """
    num_gt = num_other = 0
    for a, b in itertools.zip_longest(gt, other):
        num_gt += a is not None
        num_other += b is not None
        if num_gt == num_other:
            yield a, b
    if num_gt != num_other:
        raise InputError(
            f"{name}: the ground truth has {num_gt} frames but the other clip has "
            f"{num_other}; both must have the same number"
        )


def _clips_by_name(folder: Path) -> dict[str, Path]:
    clips = {}
    for path in clip_reader.list_clips(folder):
        name = clip_name(path)
        if name in clips:
            raise InputError(
                f"{folder}: {clips[name].name} and {path.name} are both clip {name}; "
                "rename one"
            )
        clips[name] = path
    return clips
