"""The clips of an experiment: found, opened, checked, split."""

import dataclasses
import itertools
import logging
from pathlib import Path
from typing import Any

from edvr_jax import progress
from edvr_jax.config import Config
from edvr_jax.data import datasets, records
from edvr_jax.data.datasets.layout import GT, Layout
from edvr_jax.data.decode_cache import FrameStore
from edvr_jax.data.frames import Frames
from edvr_jax.errors import InputError, OutputError, list_some

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainClip:
    """A clip to draw windows from.

    Attributes:
        name: Its name.
        gt: Ground-truth frames.
        lq: Provided degraded frames, as many; None if they are synthesized from ``gt``.
        scenes: First frame of each scene, and the frame after its last.
    """

    name: str
    gt: Frames
    lq: Frames | None
    scenes: tuple[tuple[int, int], ...]


def open_clips(
    root: Path, config: Config, cache: Path
) -> tuple[list[TrainClip], list[TrainClip]]:
    """Open the clips of a dataset: folders, videos or records.

    Args:
        root: Folder of the dataset, or of its records.
        config: The experiment.
        cache: Folder for decoded frames.

    Returns:
        Training and validation clips; disjoint.

    Raises:
        InputError: if something is missing, cannot be read or does not fit. With
            ``config.data.skip_bad`` such clips are left out instead.
    """
    data = config.data
    layout = _find_layout(root, data.dataset, is_partial=data.skip_bad)
    known = layout.streams[GT]
    for name in data.val_clips:
        if name not in known:
            found = list_some(known, 10)
            raise InputError(f"{root}: no clip named {name}; there are {found}")
    if not layout.train:
        raise InputError(f"{data.dataset} is a test set, it must not be trained on")
    train = [name for name in layout.train if name not in data.val_clips]
    if not train:
        raise InputError(f"{root}: every clip is a validation clip; add others")
    lq_stream = _lq_stream(root, layout, config)
    store = FrameStore(cache, data)
    opened, faults = {}, []
    names = [*train, *data.val_clips]
    for name in progress.track(names, unit="clip", name="opening clips"):
        try:
            opened[name] = _open(name, layout, lq_stream, store, config)
            _check(opened[name], config, is_val=name in data.val_clips)
        except InputError as error:
            if not data.skip_bad or isinstance(error, OutputError):
                raise
            opened.pop(name, None)
            faults.append(str(error))
    if faults:
        _log.warning("%d clips skipped: %s", len(faults), "; ".join(faults))
    train_clips = [opened[name] for name in train if name in opened]
    if not train_clips:
        raise InputError(f"{root}: no clip is left to train on")
    val_clips = [opened[name] for name in data.val_clips if name in opened]
    smaller = [
        clip
        for factor in data.more_downscales
        for clip in _open_smaller(train_clips, layout, store, config, factor)
    ]
    return train_clips + smaller, val_clips


def _find_layout(root: Path, name: Any, *, is_partial: bool) -> Layout[Any]:
    folder = records.find_records(root, name)
    if folder is not None:
        return records.read_layout(folder)
    return datasets.find_layout(name, root, is_partial=is_partial)


def _lq_stream(root: Path, layout: Layout[Any], config: Config) -> str | None:
    """Return the stream of provided degraded frames; None to synthesize them."""
    if config.data.lq == "made":
        return None
    track = config.data.degrade.track
    stream = layout.lq_streams.get(track)
    if stream not in layout.streams:
        raise InputError(
            f"{root}: there are no degraded frames for track {track} "
            f"({stream or 'none are published'}); put them there or use data.lq=made"
        )
    return stream


def _open(
    name: str,
    layout: Layout[Any],
    lq_stream: str | None,
    store: FrameStore,
    config: Config,
) -> TrainClip:
    gt, cuts = store.open(name, layout.streams[GT][name])
    lq = None
    if lq_stream is not None:
        degraded = layout.streams[lq_stream]
        if name not in degraded:
            raise InputError(f"clip {name} has no degraded frames in {lq_stream}")
        lq, _ = store.open(f"{name}-{lq_stream}", degraded[name])
    scenes = tuple(itertools.pairwise([0, *cuts, len(gt)]))
    return TrainClip(name, gt, lq, scenes)


def _open_smaller(
    clips: list[TrainClip],
    layout: Layout[Any],
    store: FrameStore,
    config: Config,
    factor: int,
) -> list[TrainClip]:
    """Open clips again, downscaled by ``factor``, without those that are too small."""
    data = dataclasses.replace(config.data, gt_downscale=factor)
    store = dataclasses.replace(store, config=data)
    opened = []
    names = [clip.name for clip in clips]
    for name in progress.track(names, unit="clip", name=f"shrinking by {factor}"):
        clip = _open(name, layout, None, store, config)
        if min(clip.gt.size) >= data.gt_crop:
            opened.append(dataclasses.replace(clip, name=f"{name} by {factor}"))
    return opened


def _check(clip: TrainClip, config: Config, *, is_val: bool) -> None:
    """Check that windows fit into a clip, and that its lq and gt fit together."""
    (height, width), scale = clip.gt.size, config.model.output_scale
    if clip.lq is not None and len(clip.lq) != len(clip.gt):
        raise InputError(
            f"{clip.name}: {len(clip.gt)} frames of ground truth but {len(clip.lq)} "
            "degraded frames; the numbers must be equal"
        )
    if clip.lq is not None and tuple(scale * n for n in clip.lq.size) != clip.gt.size:
        raise InputError(
            f"{clip.name}: degraded frames of {clip.lq.size[1]}x{clip.lq.size[0]} "
            f"times {scale} are not the {width}x{height} of the ground truth"
        )
    needed = window_length(config)
    longest = max(last - first for first, last in clip.scenes)
    if longest < needed:
        raise InputError(
            f"{clip.name}: {longest} frames, but a window needs {needed}; remove the "
            "clip"
        )
    smallest = config.model.size_multiple * scale if is_val else config.data.gt_crop
    if min(height, width) < smallest:
        what = "a validation crop" if is_val else "data.gt_crop"
        raise InputError(
            f"{clip.name}: {width}x{height} is smaller than {what}, {smallest} pixels; "
            "remove the clip"
        )


def window_length(config: Config) -> int:
    """Return the number of frames of a scene that the shortest window needs."""
    step = min(config.data.intervals) * config.data.window_step
    return (config.model.num_frames - 1) * step + config.data.exposure
