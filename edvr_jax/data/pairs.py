"""Two clips that belong together: ground truth and what is compared with it."""

import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edvr_jax.data import images, video
from edvr_jax.errors import InputError

_log = logging.getLogger(__name__)

_DIGITS = re.compile(r"\d+")
_SHOWN = 5  # names in a message


def clip_name(path: Path) -> str:
    """Name a clip by its folder, or by its file without suffix."""
    return path.stem if path.is_file() else path.resolve().name


def select_clips(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """List a folder's clips, or those of the given names.

    Args:
        folder: A folder of clips, or one clip.
        names: Clips to take; empty takes all.

    Returns:
        Paths in natural order, or in the order of ``names``.

    Raises:
        InputError: if a name is not there, or stands for two clips.
    """
    clips = _clips_by_name(folder)
    for name in names:
        if name not in clips:
            raise InputError(
                f"{folder}: no clip named {name}; there are {', '.join(clips)}"
            )
    return [clips[name] for name in names or clips]


def match_clips(
    gt: Path, other: Path, *, names: Sequence[str] = (), is_exact: bool = False
) -> list[tuple[Path, Path]]:
    """Pair the clips of two folders by name; two single clips need no common name.

    Args:
        gt: Ground truth: a clip or a folder of clips.
        other: What belongs to it: likewise.
        names: Take only these clips of the ground truth; empty takes all.
        is_exact: Also refuse clips of ``other`` without ground truth.

    Returns:
        Paths of each pair, in the order of :func:`select_clips`.

    Raises:
        InputError: if a clip has no partner, or the frames of two folders are named
            alike but are not the same ones.
    """
    couples = _match_names(gt, other, names, is_exact)
    for path, partner in couples:
        if path.is_dir() and partner.is_dir():
            _check_frame_names(path, partner)
    return couples


def _match_names(
    gt: Path, other: Path, names: Sequence[str], is_exact: bool
) -> list[tuple[Path, Path]]:
    chosen = {clip_name(path): path for path in select_clips(gt, names)}
    partners = _clips_by_name(other)
    if len(chosen) == len(partners) == 1 and (
        gt in chosen.values() or other in partners.values()
    ):
        return list(zip(chosen.values(), partners.values(), strict=True))
    missing = [name for name in chosen if name not in partners]
    if missing:
        raise InputError(f"{other}: no clip named {', '.join(missing)}, as in {gt}")
    extra = [name for name in partners if name not in chosen]
    if is_exact and extra:
        raise InputError(f"{gt}: no clip named {', '.join(extra)}, as in {other}")
    return [(path, partners[name]) for name, path in chosen.items()]


def _check_frame_names(gt: Path, other: Path) -> None:
    """Check that frames which are paired by their order belong together.

    Two folders whose names differ in their numbers only must have the same numbers;
    others are paired by order, which is logged. Gaps in a numbering are logged.
    """
    schemes, numbers = zip(*map(_numbering, (gt, other)), strict=True)
    if None in schemes or schemes[0] != schemes[1]:
        _log.warning(
            "%s and %s name their frames differently; they are paired by order",
            gt,
            other,
        )
        return
    for path, partner, missing in (
        (gt, other, sorted(numbers[1].keys() - numbers[0].keys())),
        (other, gt, sorted(numbers[0].keys() - numbers[1].keys())),
    ):
        if missing:
            names = [(numbers[0] | numbers[1])[key] for key in missing]
            raise InputError(
                f"{path}: no frame like {_some(names)}, which {partner} has; frames "
                "of these two folders belong together by their numbers"
            )
    last_numbers = [key[-1] for key in numbers[0] if key]
    gaps = sorted(
        set(range(min(last_numbers, default=0), max(last_numbers, default=-1) + 1))
        - set(last_numbers)
    )
    if gaps and len({key[:-1] for key in numbers[0]}) == 1:
        _log.warning(
            "%s: the numbering of the frames leaves out %s",
            gt,
            _some(list(map(str, gaps))),
        )


def _numbering(folder: Path) -> tuple[str | None, dict[tuple[int, ...], str]]:
    """Return what the names of a folder's frames have in common, and their numbers.

    None if they have nothing in common but numbers, or no numbers of their own.
    """
    paths = images.list_images(folder)
    numbers = {tuple(map(int, _DIGITS.findall(p.stem))): p.name for p in paths}
    schemes = {_DIGITS.sub("#", path.stem) for path in paths}
    is_clear = len(schemes) == 1 and len(numbers) == len(paths)
    return (schemes.pop() if is_clear else None), numbers


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, ... ({len(names)} in all)"


def join_frames(
    gt: Iterable[np.ndarray], other: Iterable[np.ndarray], *, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Walk two clips side by side.

    Args:
        gt: Frames of the ground truth.
        other: Frames of the other clip.
        name: The pair's name in error messages.

    Yields:
        One frame of each.

    Raises:
        InputError: if one clip ends before the other.
    """
    gt, other = iter(gt), iter(other)
    for count in itertools.count():
        frames = next(gt, None), next(other, None)
        if frames[0] is not None and frames[1] is not None:
            yield frames[0], frames[1]
            continue
        if frames[0] is None and frames[1] is None:
            return
        longer = count + 1 + sum(1 for _ in (other if frames[0] is None else gt))
        counts = (count, longer) if frames[0] is None else (longer, count)
        raise InputError(
            f"{name}: the ground truth has {counts[0]} frames but the other clip has "
            f"{counts[1]}; both must have as many"
        )


def _clips_by_name(folder: Path) -> dict[str, Path]:
    clips = {}
    for path in video.list_clips(folder):
        name = clip_name(path)
        if name in clips:
            raise InputError(
                f"{folder}: {clips[name].name} and {path.name} are both clip {name}; "
                "rename one"
            )
        clips[name] = path
    return clips
