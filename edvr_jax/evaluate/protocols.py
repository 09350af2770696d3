"""Evaluation protocols: what is compared, and how; the published ones by name.

Sources: BasicSR's ``docs/ModelZoo.md`` and test configurations, the test script of the
official repository. Everywhere: every frame counts, also those at the ends of a clip;
a clip's score is the mean over its frames, the total the mean over clips; nothing is
cropped; pixels are rounded to 8 bit first.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edvr_jax.config import REDS4, DatasetName, DegradeConfig, ProtocolName, Track
from edvr_jax.data import datasets, degrade, records
from edvr_jax.data.datasets.layout import GT
from edvr_jax.errors import InputError
from edvr_jax.media.read import clip_pairs, clip_reader
from edvr_jax.restore.windows import Padding


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is compared, and how.

    Attributes:
        name: Name of the published protocol; "custom" is none.
        gt_downscale: The ground truth is the clip downscaled by this.
        track: How degraded frames are made that are not given: sr or sr_bd.
        crop_border: Pixels left out at each side of the ground truth.
        padding: How windows reach over a clip's ends.
        frames_per_clip: Take this many frames from the start of each clip as the
            whole clip; None takes all.
        center_only: Compare only the middle frame of each clip.
        still: Feed copies of the center frame instead of its neighbors.
    """

    name: str = "custom"
    gt_downscale: int = 1
    track: Track = "sr"
    crop_border: int = 0
    padding: Padding = "reflection_circle"
    frames_per_clip: int | None = None
    center_only: bool = False
    still: bool = False

    def __post_init__(self):
        """Check ranges."""
        if self.gt_downscale < 1:
            raise InputError(f"gt_downscale must be positive, got {self.gt_downscale}")
        if self.crop_border < 0:
            raise InputError(f"crop must not be negative, got {self.crop_border}")
        if self.frames_per_clip is not None and self.frames_per_clip < 1:
            raise InputError(
                f"frames_per_clip must be positive, got {self.frames_per_clip}"
            )

    def degrade(self, truth: np.ndarray, scale: int) -> np.ndarray:
        """Make a degraded frame from the ground truth."""
        return degrade.shrink(truth, DegradeConfig(track=self.track), scale=scale)


@dataclasses.dataclass(frozen=True)
class TestSet:
    """Clips of a dataset, and the protocol that published tables use on them.

    Attributes:
        protocol: How they are compared.
        dataset: The dataset.
        scale: Size of the ground truth over that of the degraded frames.
        clips: Names of the clips; empty takes all that are not trained on.
        channel: Channel of the published numbers.
    """

    protocol: Protocol
    dataset: DatasetName
    scale: int = 4
    clips: tuple[str, ...] = ()
    channel: Literal["y", "rgb"] = "y"


def _reds4(name: str, track: Track, scale: int, padding: Padding) -> TestSet:
    protocol = Protocol(name, track=track, padding=padding)
    return TestSet(protocol, "reds", scale=scale, clips=REDS4, channel="rgb")


TEST_SETS: dict[ProtocolName, TestSet] = {
    "reds4": _reds4("reds4", "sr", 4, "reflection_circle"),
    "reds4_blur": _reds4("reds4_blur", "sr_blur", 4, "replicate"),
    "reds4_deblur": _reds4("reds4_deblur", "deblur", 1, "replicate"),
    "reds4_deblur_comp": _reds4("reds4_deblur_comp", "deblur_comp", 1, "replicate"),
    "vid4": TestSet(Protocol("vid4"), "vid4"),
    "vid4_bd": TestSet(Protocol("vid4_bd", track="sr_bd"), "vid4"),
    "vimeo90k_t": TestSet(Protocol("vimeo90k_t", center_only=True), "vimeo90k"),
    "vimeo90k_t_bd": TestSet(
        Protocol("vimeo90k_t_bd", track="sr_bd", center_only=True), "vimeo90k"
    ),
    "udm10": TestSet(Protocol("udm10"), "udm10"),
    "udm10_bd": TestSet(Protocol("udm10_bd", track="sr_bd"), "udm10"),
}


@dataclasses.dataclass(frozen=True)
class EvalClip:
    """A clip to evaluate on.

    Attributes:
        name: Its name.
        gt: Ground truth: a path, or frames.
        lq: Degraded frames; None if they are to be made.
    """

    name: str
    gt: Any
    lq: Any = None

    def open_gt(self) -> Iterable[np.ndarray]:
        """Open the ground truth."""
        return _open(self.gt)

    def open_lq(self) -> Iterable[np.ndarray] | None:
        """Open the degraded frames."""
        return None if self.lq is None else _open(self.lq)


def find_clips(
    test_set: TestSet, root: Path, names: tuple[str, ...] = ()
) -> tuple[list[EvalClip], str]:
    """Find the clips of a test set: published folders, or records of them.

    Args:
        test_set: The test set.
        root: Folder of the dataset, or of its records.
        names: Take only these clips; empty takes all.

    Returns:
        The clips, and where their degraded frames come from.

    Raises:
        InputError: naming what is missing.
    """
    folder = records.find_records(root, test_set.dataset)
    layout: Any = (
        datasets.find_layout(test_set.dataset, root, part="test")
        if folder is None
        else records.read_layout(folder)
    )
    if layout.is_partial:
        raise InputError(
            f"{root}: these records were written with --skip-bad; a published protocol "
            "needs all clips"
        )
    gt, track = layout.streams[GT], test_set.protocol.track
    known = test_set.clips or tuple(name for name in gt if name not in layout.train)
    for name in (*test_set.clips, *names):
        if name not in known or name not in gt:
            raise InputError(f"{root}: no clip named {name} in this test set")
    stream = layout.lq_streams[track]
    lq = layout.streams.get(stream)
    if lq is None and track not in ("sr", "sr_bd"):
        raise InputError(f"{root}: the degraded frames ({stream}) are not there")
    clips = [
        EvalClip(name, gt[name], None if lq is None else lq[name])
        for name in names or known
    ]
    return clips, describe_input(test_set.protocol.track, test_set.scale, lq and stream)


def pair_clips(
    gt: Path, lq: Path | None, names: tuple[str, ...] = ()
) -> list[EvalClip]:
    """Find clips in any folders.

    Args:
        gt: Ground truth: a folder of clips, or one clip.
        lq: Degraded clips of the same names; None if they are to be made.
        names: Take only these clips; empty takes all.

    Returns:
        The clips.

    Raises:
        InputError: if a clip or its partner is missing.
    """
    if lq is None:
        paths = [(path, None) for path in clip_pairs.select_clips(gt, names)]
        clip_pairs.note_gaps(path for path, _ in paths)
    else:
        paths = clip_pairs.match_clips(gt, lq, names=names)
    return [EvalClip(clip_pairs.clip_name(path), path, other) for path, other in paths]


def describe_input(track: Track, scale: int, given: Any = None) -> str:
    """Say where degraded frames come from."""
    if given:
        return f"given: {given}"
    if track == "sr_bd":
        return "Gaussian blur of sigma 1.6, every fourth pixel, rounded to 8 bit"
    return f"MATLAB bicubic 1/{scale}, rounded to 8 bit"


def _open(source: Any) -> Iterable[np.ndarray]:
    if isinstance(source, Path):
        return clip_reader.open_clip(source)
    return _Frames(source)


@dataclasses.dataclass(frozen=True)
class _Frames:
    """Walks frames that are read at random."""

    source: Any

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.source[index] for index in range(len(self.source)))
