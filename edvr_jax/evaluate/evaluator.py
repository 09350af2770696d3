"""Full-frame evaluation of a restoration network on ground-truth clips.

The protocol is that of the published tables: the input is the ground truth, resized
by MATLAB bicubic and rounded to 8 bit (or given, for deblurring); every frame counts,
those at the ends of a clip too; a clip's score is the mean over its frames, the
total the mean over clips. Frames stream: no clip is ever whole in memory.
Checked against BasicSR (``basicsr/models/video_base_model.py``).
"""

import dataclasses
import functools
import itertools
import math
import statistics
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from edvr_jax.config import NetworkConfig
from edvr_jax.data.degrade import cut_truth
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.errors import InputError, list_some
from edvr_jax.evaluate import metrics as metrics_lib
from edvr_jax.evaluate.metrics import Metric
from edvr_jax.evaluate.protocols import EvalClip, Protocol
from edvr_jax.media.read import clip_pairs, pixels
from edvr_jax.restore import restorer
from edvr_jax.restore.recording import Recorder

Scores = dict[str, float]


DEFINITIONS = {
    "metric": {
        "psnr": "10 log10(255^2 / MSE) over all pixels and channels; null if infinite",
        "ssim": "11x11 Gaussian, sigma 1.5, valid region, per channel, then the mean",
    },
    "y": "BT.601 studio range (16..235), from RGB rounded to 8 bit",
    "rounding": "clipped and rounded to 8 bit before comparing",
    "mean": "over the frames of each clip whose scores are finite, then over clips",
}


@dataclasses.dataclass(frozen=True)
class ClipScores:
    """Scores of every frame of one clip.

    Attributes:
        name: The clip's name.
        frames: For each method ("model", "bicubic", ...) one set of scores a frame.
    """

    name: str
    frames: Mapping[str, Sequence[Scores]]

    @property
    def num_frames(self) -> int:
        """Number of frames compared."""
        return len(next(iter(self.frames.values())))

    def mean(self, method: str) -> Scores:
        """Average a method's scores over the frames.

        A frame in which a score of any method is infinite, as the PSNR of two black
        frames is, does not count for that score: all methods keep the same frames.
        """
        scores, means = self.frames[method], {}
        for key in scores[0]:
            left_out = set(self.infinite_frames(key))
            means[key] = mean_or_infinite(
                s[key] for index, s in enumerate(scores) if index not in left_out
            )
        return means

    def infinite_frames(self, key: str) -> tuple[int, ...]:
        """Return the frames whose score is infinite for some method."""
        return tuple(
            index
            for index, scores in enumerate(zip(*self.frames.values(), strict=True))
            if not all(math.isfinite(s[key]) for s in scores)
        )


def evaluate(
    config: NetworkConfig,
    params: Any,
    clips: Iterable[EvalClip],
    *,
    protocol: Protocol,
    model: nn.Module | None = None,
    metrics: Mapping[str, Metric] = MappingProxyType({}),
    progress: Callable[[Iterable, str], Iterable] = lambda frames, name: frames,
    record: Callable[[str], Recorder | None] = lambda name: None,
) -> Iterator[ClipScores]:
    """Evaluate clip after clip.

    Args:
        config: Architecture.
        params: Parameters.
        clips: The clips.
        protocol: What is compared, and how.
        model: Network to use instead of the one that ``config`` describes.
        metrics: Metrics of your own beside PSNR and SSIM, by name: functions of a
            restored frame and the ground truth, uint8 RGB [H, W, 3].
        progress: Wraps the frames of the named clip, to show how far they are.
        record: Returns a recorder for the frames of the named clip, see
            :func:`evaluate_clip`, or None.

    Yields:
        The scores of each clip as soon as they are known.

    Raises:
        InputError: if a clip cannot be read or does not fit.
    """
    metrics_lib.check_names(metrics)
    params = jax.device_put(params)
    for clip in clips:
        frames = evaluate_clip(
            config,
            params,
            clip.open_gt(),
            clip.open_lq(),
            protocol=protocol,
            model=model,
            metrics=metrics,
            name=clip.name,
            recorder=record(clip.name),
        )
        frames = list(progress(frames, clip.name))
        yield ClipScores(clip.name, {m: [f[m] for f in frames] for m in frames[0]})


def evaluate_clip(  # noqa: PLR0913
    config: NetworkConfig,
    params: Any,
    gt: Iterable[np.ndarray],
    lq: Iterable[np.ndarray] | None = None,
    *,
    protocol: Protocol,
    model: nn.Module | None = None,
    metrics: Mapping[str, Metric] = MappingProxyType({}),
    name: str = "clip",
    recorder: Recorder | None = None,
) -> Iterator[dict[str, Scores]]:
    """Restore one clip and compare each frame with the ground truth.

    Args:
        config: Architecture.
        params: Parameters.
        gt: Ground-truth frames, uint8 RGB [H, W, 3].
        lq: Degraded frames, uint8 RGB; None makes them as the protocol says.
        protocol: What is compared, and how.
        model: Network to use instead of the one that ``config`` describes.
        metrics: As for :func:`evaluate`.
        name: The clip's name in error messages.
        recorder: Gets the degraded frames and, of each frame compared, the images
            that the scores are named after, then "truth".

    Yields:
        For each frame the scores of "model" and of the baseline: "bicubic", or
        "input" if the network keeps the size.

    Raises:
        InputError: if the two clips do not fit together, or if there is no degraded
            clip and the network keeps the size.
    """
    scale = config.output_scale
    both = pair_frames(gt, lq, scale=scale, protocol=protocol, name=name)
    only, indices = None, itertools.count()
    if protocol.center_only:
        ahead = list(both)
        only = [len(ahead) // 2]
        indices = iter(only)
        both = (ahead[index] for index in only)
    else:
        both, ahead = itertools.tee(both)  # holds as many as the network looks ahead
    frames = _record_inputs((degraded for _, degraded in ahead), recorder)
    restored = _restore(config, params, frames, protocol, model, only)
    for (truth, degraded), image in zip(both, restored, strict=True):
        if not np.isfinite(image).all():
            raise InputError(f"{name}: the network's output is not finite")
        baseline = "input" if scale == 1 else "bicubic"
        images = {
            "model": pixels.to_uint8(image),
            baseline: imresize_uint8(degraded, scale),
        }
        if recorder is not None:
            recorder.add_result(next(indices), {**images, "truth": truth})
        yield {
            method: score(truth, found, protocol.crop_border, metrics)
            for method, found in images.items()
        }


def pair_frames(
    gt: Iterable[np.ndarray],
    lq: Iterable[np.ndarray] | None,
    *,
    scale: int,
    protocol: Protocol,
    name: str = "clip",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Make the ground truth and the degraded frames that the network sees.

    The ground truth is downscaled by ``protocol.gt_downscale`` and cut at its right
    and lower side to a multiple of ``scale``.

    Args:
        gt: Frames of the clip, uint8 RGB [H, W, 3].
        lq: Degraded frames; None makes them as the protocol says.
        scale: Size of the ground truth over that of the degraded frames.
        protocol: What is compared.
        name: The clip's name in error messages.

    Yields:
        Ground truth [sH, sW, 3] and degraded frame [H, W, 3], both uint8.

    Raises:
        InputError: as :func:`evaluate_clip`.
    """
    if lq is None and scale == 1:
        raise InputError(
            f"{name}: the network keeps the size of its input, so the degraded clips "
            "must be given (--lq)"
        )
    gt = itertools.islice(gt, protocol.frames_per_clip)
    if lq is None:
        joined = ((frame, None) for frame in gt)
    else:
        lq = itertools.islice(lq, protocol.frames_per_clip)
        joined = clip_pairs.join_frames(gt, lq, name=name)
    for index, (frame, degraded) in enumerate(joined):
        truth = cut_truth(frame, gt_downscale=protocol.gt_downscale, scale=scale)
        height, width = truth.shape[:2]
        if degraded is None:
            degraded = protocol.degrade(truth, scale)
        given_height, given_width = degraded.shape[:2]
        if (given_height * scale, given_width * scale) != (height, width):
            raise InputError(
                f"{name}: frame {index} is {given_width}x{given_height}, which times "
                f"{scale} is not the {width}x{height} of the ground truth"
            )
        yield truth, degraded


def score(
    truth: np.ndarray,
    image: np.ndarray,
    crop_border: int,
    metrics: Mapping[str, Metric] = MappingProxyType({}),
) -> Scores:
    """Compute PSNR and SSIM of an RGB image, on its luma and on its colors.

    Metrics of the user's own come beside them.
    """
    scores = {
        f"{metric.__name__}_{channel}": metric(
            truth, image, crop_border=crop_border, channel=channel
        )
        for channel in ("y", "rgb")
        for metric in (metrics_lib.psnr, metrics_lib.ssim)
    }
    cut = functools.partial(metrics_lib.crop_border, width=crop_border)
    return scores | metrics_lib.apply(metrics, cut(image), cut(truth))


def mean_over_clips(clips: Sequence[ClipScores]) -> dict[str, Scores]:
    """Average the clip means of each method, those that are finite."""
    means = {}
    for method in clips[0].frames:
        scores = [clip.mean(method) for clip in clips]
        means[method] = {
            key: mean_or_infinite(s[key] for s in scores if math.isfinite(s[key]))
            for key in scores[0]
        }
    return means


def describe_infinite(clips: Sequence[ClipScores]) -> list[str]:
    """Name the frames that are in no mean, one line a clip, and count them."""
    lines, total = [], 0
    for clip in clips:
        keys = next(iter(clip.frames.values()))[0]
        frames = sorted({k for key in keys for k in clip.infinite_frames(key)})
        if frames:
            total += len(frames)
            lines.append(
                f"{clip.name}: PSNR is infinite in {len(frames)} of {clip.num_frames} "
                f"frames, which are not in its mean: {list_some(frames, 10)}"
            )
    if len(lines) > 1:
        num_frames = sum(clip.num_frames for clip in clips)
        lines.append(f"in total: PSNR is infinite in {total} of {num_frames} frames")
    return lines


def mean_or_infinite(values: Iterable[float]) -> float:
    """Average finite values; infinite if there are none."""
    values = list(values)
    return statistics.fmean(values) if values else math.inf


def report(clips: Sequence[ClipScores], protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Collect protocol, per-clip and mean scores in one tree of plain values.

    Args:
        clips: Scores of the clips.
        protocol: Everything that decides the numbers, by name.

    Returns:
        "protocol", "clips", "mean" and, by score, the number of "infinite_frames",
        ready for JSON.
    """
    return {
        "protocol": {**protocol, **DEFINITIONS},
        "clips": {
            clip.name: {
                "frames": clip.num_frames,
                "infinite_frames": {
                    key: list(indices)
                    for key in next(iter(clip.frames.values()))[0]
                    if (indices := clip.infinite_frames(key))
                },
                "mean": {method: clip.mean(method) for method in clip.frames},
                "per_frame": {
                    method: {key: [s[key] for s in frames] for key in frames[0]}
                    for method, frames in clip.frames.items()
                },
            }
            for clip in clips
        },
        "mean": mean_over_clips(clips),
        "infinite_frames": {
            key: count
            for key in next(iter(clips[0].frames.values()))[0]
            if (count := sum(len(clip.infinite_frames(key)) for clip in clips))
        },
    }


def _record_inputs(
    frames: Iterable[np.ndarray], recorder: Recorder | None
) -> Iterator[np.ndarray]:
    for index, frame in enumerate(frames):
        if recorder is not None:
            recorder.add_input(index, frame)
        yield frame


def _restore(
    config: NetworkConfig,
    params: Any,
    frames: Iterable[np.ndarray],
    protocol: Protocol,
    model: nn.Module | None,
    only: Container[int] | None,
) -> Iterator[np.ndarray]:
    """Restore each frame in its window, or alone: a clip of one frame is still."""
    options = {"padding": protocol.padding, "model": model}
    if not protocol.still:
        yield from restorer.restore_frames(config, params, frames, only=only, **options)
        return
    for index, frame in enumerate(frames):
        if only is None or index in only:
            yield from restorer.restore_frames(config, params, [frame], **options)
