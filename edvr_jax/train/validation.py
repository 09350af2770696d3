"""Validation during training: crops of validation clips, or a published protocol."""

import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from edvr_jax.config import Config, ModelConfig, ProtocolName
from edvr_jax.data.augment import Flip, draw_crop_path
from edvr_jax.data.clips import TrainClip
from edvr_jax.data.frames import FrameCache
from edvr_jax.data.imresize import imresize
from edvr_jax.data.windows import Sample, WindowCenters, read_window
from edvr_jax.errors import InputError
from edvr_jax.evaluate import evaluator, metrics, protocols
from edvr_jax.media.read import pixels
from edvr_jax.models import create_model
from edvr_jax.train import alignment, parallel

_log = logging.getLogger(__name__)

# Side of the ground-truth crops, in pixels.
_CROP = 256
# Fastest motion of the windows that measure alignment, in pixels of level 1 per frame.
_MOTION = 1.5


@dataclasses.dataclass(frozen=True)
class Validated:
    """Result of a validation.

    Attributes:
        scores: Means over the clips: ``psnr_y`` and ``psnr_y_bicubic`` in dB; for
            crops also ``psnr_y_still``, with copies of the center frame in place of
            its neighbors, and ``flow_correlation``, see
            :func:`edvr_jax.train.alignment.correlation`. Empty if there are no clips.
        decisive: Name of the score that decides which step is the best.
        image: A fixed crop, uint8 RGB [H, 3*H, 3]: enlarged input, restored, ground
            truth; None if there are no clips.
    """

    scores: dict[str, float]
    decisive: str = "psnr_y"
    image: np.ndarray | None = None

    @property
    def score(self) -> float | None:
        """What decides which step is the best, or None."""
        return self.scores.get(self.decisive)


Validate = Callable[[Any], Validated]
Pair = tuple[np.ndarray, np.ndarray]  # lq [T, h, w, C] and gt [H, W, C], uint8


def make_validation(
    config: Config, clips: Sequence[TrainClip], eval_data: Path
) -> Validate:
    """Prepare the validation that a configuration asks for.

    Args:
        config: The experiment.
        clips: Validation clips, for crops.
        eval_data: Folder of the dataset that ``config.eval.protocol`` is about.

    Returns:
        Function from parameters (of :func:`edvr_jax.train.parallel.local`) to the
        result. Every process restores its share of the clips and gets the whole result.
        Crops are quick and comparable within one run; a protocol is comparable with
        published tables if ``frames_per_clip`` is 0.

    Raises:
        InputError: if clips are missing, or do not fit the network.
    """
    if config.eval.protocol is not None:
        return _by_protocol(config, config.eval.protocol, eval_data)
    return _by_crops(config, clips)


def _by_crops(config: Config, clips: Sequence[TrainClip]) -> Validate:
    """Y-PSNR of fixed crops: mean over those of a clip, then over the clips."""
    model, scale = create_model(config.model), config.model.output_scale
    center = config.model.center
    own = _own_share(clips)
    samples = [_samples(clip, config) for clip in own]
    truths = [[gt for _, gt in crops] for crops in samples]
    windows = [np.stack([lq for lq, _ in crops]) for crops in samples]
    enlarged = [[imresize(lq[center], scale) / 255 for lq in w] for w in windows]
    said: set[str] = set()
    network = config.model
    is_aligning = isinstance(network, ModelConfig) and network.with_alignment
    moving = [_moving_samples(clip, config) for clip in own] if is_aligning else []
    with_pixels = not config.optim.fidelity.alone

    def validate(params):
        values, image = {}, None
        if with_pixels:
            restored = [_restore(params, lq, model=model) for lq in windows]
            images = {"": restored, _baseline(config): enlarged}
            if config.model.num_frames > 1:
                images["_still"] = [
                    _restore(params, _copies_of(lq, center), model=model)
                    for lq in windows
                ]
            clips = _score(own, images, truths, said)
            values = {
                f"psnr_y{suffix}": [clip.mean(suffix)["psnr_y"] for clip in clips]
                for suffix in images
            }
            if samples:
                image = _side_by_side(enlarged[0][0], restored[0][0], truths[0][0])
        if is_aligning:
            values["flow_correlation"] = [
                alignment.correlation(
                    alignment.estimate(params, lq / np.float32(255), model=model), flow
                )
                for lq, flow in moving
            ]
        scores = parallel.mean_over_processes(values)
        decisive = "psnr_y" if with_pixels else "flow_correlation"
        return Validated(scores, decisive, image)

    return validate


def _score(
    clips: Sequence[TrainClip],
    restored: Mapping[str, Sequence[Iterable[Any]]],
    truths: Sequence[Iterable[np.ndarray]],
    said: set[str],
) -> list[evaluator.ClipScores]:
    """Compute the Y-PSNR of every crop of every clip, by each method."""
    scores = [
        evaluator.ClipScores(
            clip.name,
            {
                method: [
                    {"psnr_y": metrics.psnr(pixels.to_uint8(a), b, channel="y")}
                    for a, b in zip(found[index], truths[index], strict=True)
                ]
                for method, found in restored.items()
            },
        )
        for index, clip in enumerate(clips)
    ]
    _note_infinite(scores, said)
    return scores


def _note_infinite(clips: Sequence[evaluator.ClipScores], said: set[str]) -> None:
    """Name, once, the frames that do not count in the means."""
    for line in evaluator.describe_infinite(clips):
        if line not in said:
            _log.warning("validation: %s", line)
        said.add(line)


def _copies_of(windows: np.ndarray, center: int) -> np.ndarray:
    """Put the center frame in the place of its neighbors, [N, T, h, w, C]."""
    return np.repeat(windows[:, center : center + 1], windows.shape[1], axis=1)


def _by_protocol(config: Config, name: ProtocolName, root: Path) -> Validate:
    """Scores of full frames, as ``edvr eval --protocol``."""
    test_set = protocols.TEST_SETS[name]
    if test_set.scale != config.model.output_scale:
        raise InputError(
            f"eval.protocol {name} is for networks of scale {test_set.scale}, not "
            f"{config.model.output_scale}"
        )
    frames_per_clip = config.eval.frames_per_clip or None
    if test_set.protocol.center_only:  # the middle frame of the whole clip
        frames_per_clip = None
    protocol = dataclasses.replace(test_set.protocol, frames_per_clip=frames_per_clip)
    clips = _own_share(protocols.find_clips(test_set, root)[0])
    model = create_model(config.model)
    crop = _protocol_crop(clips[0], protocol, config) if clips else None
    channel, center = test_set.channel, config.model.center
    baseline = _baseline(config)
    said: set[str] = set()

    def validate(params):
        # The same names in every process, whether it has clips or not.
        values: dict[str, list[float]] = {
            f"{metric}_{channel}{suffix}": []
            for metric in ("psnr", "ssim")
            for channel in ("y", "rgb")
            for suffix in ("", baseline)
        }
        evaluated = list(
            evaluator.evaluate(
                config.model, params, clips, protocol=protocol, model=model
            )
        )
        _note_infinite(evaluated, said)
        for clip in evaluated:
            for method, suffix in zip(clip.frames, ("", baseline), strict=True):
                for key, value in clip.mean(method).items():
                    values[key + suffix].append(value)
        scores = parallel.mean_over_processes(values)
        image = None
        if crop is not None:
            lq, gt = crop
            restored = _restore(params, lq[None], model=model)[0]
            enlarged = imresize(lq[center], config.model.output_scale) / 255
            image = _side_by_side(enlarged, restored, gt)
        return Validated(scores, f"psnr_{channel}", image)

    return validate


def _baseline(config: Config) -> str:
    """Name what the restored frames are compared with, as the evaluator does."""
    return "_input" if config.model.output_scale == 1 else "_bicubic"


def _restore(params: Any, lq: np.ndarray, *, model: nn.Module) -> np.ndarray:
    return np.asarray(_apply(params, lq / np.float32(255), model=model))


@functools.partial(jax.jit, static_argnames="model")
def _apply(params: Any, lq: jax.Array, *, model: nn.Module) -> Any:
    return model.apply({"params": params}, lq)


def _own_share(clips: Sequence[Any]) -> Sequence[Any]:
    return clips[parallel.process_index() :: parallel.process_count()]


def _protocol_crop(
    clip: protocols.EvalClip, protocol: protocols.Protocol, config: Config
) -> Pair:
    """Crop the middle of the first window of a clip."""
    model, scale = config.model, config.model.output_scale
    both = evaluator.pair_frames(
        clip.open_gt(), clip.open_lq(), scale=scale, protocol=protocol, name=clip.name
    )
    truth, degraded = zip(*itertools.islice(both, model.num_frames), strict=True)
    multiple = model.size_multiple
    size = min(_CROP // scale, *degraded[0].shape[:2]) // multiple * multiple
    top, left = ((n - size) // 2 for n in degraded[0].shape[:2])
    lq = np.stack([f[top : top + size, left : left + size] for f in degraded])
    rows, columns = (slice(scale * k, scale * (k + size)) for k in (top, left))
    # A clip shorter than a window stands still at its end.
    lq = lq[np.minimum(np.arange(model.num_frames), len(lq) - 1)]
    return lq, truth[min(model.center, len(truth) - 1)][rows, columns]


def _side_by_side(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels.to_uint8(part) for part in parts], axis=1)


def _samples(clip: TrainClip, config: Config) -> list[Pair]:
    """Center crops of evenly spread windows: (lq [T,h,w,C], gt [H,W,C]), uint8.

    A camera moves them where motion blur is made along the flow: most clips are still.
    """
    model, data = config.model, config.data
    if data.degrade.shutter:
        windows = _moving_windows(clip, config, data.max_camera_speed)
        return [(window["lq"], window["gt"]) for window in windows]
    size, corner = _center_crop(clip, config)
    offsets = np.arange(model.num_frames) - model.center
    offsets *= min(data.intervals) * data.window_step
    windows = [
        read_window(
            clip,
            frame + offsets,
            np.tile(corner, (model.num_frames, 1)),
            config=config,
            size=size,
            flip=Flip(),
            rng=np.random.default_rng(index),
            cache=FrameCache(0),
        )
        for index, frame in enumerate(_spread_centers(clip, config))
    ]
    return [(window["lq"], window["gt"]) for window in windows]


def _moving_samples(clip: TrainClip, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Windows of one frame that a camera moves: lq [N,T,h,w,C], flow [N,T,h,w,2]."""
    assert isinstance(config.model, ModelConfig)
    pixel = config.model.feature_scale
    windows = _moving_windows(clip, config, _MOTION * pixel, flow_pixel=pixel)
    lq, flow = (np.stack([window[key] for window in windows]) for key in ("lq", "flow"))
    return lq, flow


def _moving_windows(
    clip: TrainClip, config: Config, speed: float, flow_pixel: int | None = None
) -> list[Sample]:
    """Windows of single frames that a camera moves, at ``speed`` or slower."""
    model, windows = config.model, []
    size, _ = _center_crop(clip, config)
    step = model.size_multiple * model.output_scale
    size = max(size // 2 // step, 1) * step  # leaves room for the motion
    data = dataclasses.replace(
        config.data, gt_crop=size, max_camera_speed=speed, crop_candidates=1
    )
    for index, frame in enumerate(_spread_centers(clip, config)):
        rng = np.random.default_rng(index)
        corners, velocity = draw_crop_path(
            rng,
            data,
            size=clip.gt.size,
            num_frames=model.num_frames,
            center=model.center,
            scale=model.output_scale,
            motion=1.0,
        )
        windows.append(
            read_window(
                clip,
                np.full(model.num_frames, frame),
                corners,
                velocity=velocity,
                config=config,
                size=size,
                flip=Flip(),
                rng=rng,
                cache=FrameCache(0),
                flow_pixel=flow_pixel,
            )
        )
    return windows


def _center_crop(clip: TrainClip, config: Config) -> tuple[int, np.ndarray]:
    """Return side and top-left corner of the crop that validation looks at."""
    scale = config.model.output_scale
    multiple = config.model.size_multiple * scale
    size = min(_CROP, *clip.gt.size) // multiple * multiple
    return size, (np.array(clip.gt.size) - size) // 2 // scale * scale


def _spread_centers(clip: TrainClip, config: Config) -> list[int]:
    """Return the center frames of evenly spread windows."""
    centers = WindowCenters([clip], config)
    count = min(config.eval.frames_per_clip or len(centers), len(centers))
    chosen = np.linspace(0, len(centers) - 1, count).astype(int)
    return [centers[position][1] for position in chosen]
