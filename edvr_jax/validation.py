"""Validation during training: crops of validation clips, or a published protocol."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import numpy as np

from edvr_jax import evaluator, metrics, parallel, protocols
from edvr_jax.config import Config, ProtocolName
from edvr_jax.data.clips import Clip
from edvr_jax.data.frames import FrameCache
from edvr_jax.data.imresize import imresize
from edvr_jax.data.samples import Centers, read_window
from edvr_jax.data.transforms import Flip
from edvr_jax.errors import InputError
from edvr_jax.models import create_model

# Side of the ground-truth crops, in pixels.
_CROP = 256


@dataclasses.dataclass(frozen=True)
class Validated:
    """Result of a validation.

    Attributes:
        scores: Means over the clips, such as ``psnr_y`` and ``psnr_y_bicubic``, in dB;
            empty if there are no clips.
        channel: Channel that decides which step is the best.
        image: A fixed crop, uint8 RGB [H, 3*H, 3]: enlarged input, restored, ground
            truth; None if there are no clips.
    """

    scores: dict[str, float]
    channel: Literal["y", "rgb"] = "y"
    image: np.ndarray | None = None

    @property
    def score(self) -> float | None:
        """What decides which step is the best, or None."""
        return self.scores.get(f"psnr_{self.channel}")


Validate = Callable[[Any], Validated]
Pair = tuple[np.ndarray, np.ndarray]  # lq [T, h, w, C] and gt [H, W, C], uint8


def make_validation(config: Config, clips: Sequence[Clip], eval_data: Path) -> Validate:
    """Prepare the validation that a configuration asks for.

    Args:
        config: The experiment.
        clips: Validation clips, for crops.
        eval_data: Folder of the dataset that ``config.eval.protocol`` is about.

    Returns:
        Function from parameters (of :func:`edvr_jax.parallel.local`) to the result.
        Every process restores its share of the clips and gets the whole result.
        Crops are quick and comparable within one run; a protocol is comparable with
        published tables if ``frames_per_clip`` is 0.

    Raises:
        InputError: if clips are missing, or do not fit the network.
    """
    if config.eval.protocol is not None:
        return _by_protocol(config, config.eval.protocol, eval_data)
    return _by_crops(config, clips)


def _by_crops(config: Config, clips: Sequence[Clip]) -> Validate:
    """Y-PSNR of fixed crops: mean over those of a clip, then over the clips."""
    model, scale = create_model(config.model), config.model.output_scale
    center = config.model.center
    samples = [_samples(clip, config) for clip in _own_share(clips)]
    enlarged = [[imresize(lq[center], scale) / 255 for lq, _ in c] for c in samples]

    def psnr_sum(images):
        """Sum over the clips of the mean Y-PSNR of their images."""
        return sum(
            float(
                np.mean(
                    [
                        metrics.psnr(i, gt, channel="y")
                        for i, (_, gt) in zip(*both, strict=True)
                    ]
                )
            )
            for both in zip(images, samples, strict=True)
        )

    baseline = {"psnr_y" + _baseline(config): psnr_sum(enlarged)}

    def validate(params):
        restored = [
            _restore(params, np.stack([lq for lq, _ in c]), model=model)
            for c in samples
        ]
        sums = {"psnr_y": psnr_sum(restored), **baseline}
        scores = parallel.mean_over_processes(sums, len(samples))
        image = None
        if samples:
            image = _side_by_side(enlarged[0][0], restored[0][0], samples[0][0][1])
        return Validated(scores, image=image)

    return validate


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

    def validate(params):
        # The same names in every process, whether it has clips or not.
        sums = {
            f"{metric}_{channel}{suffix}": 0.0
            for metric in ("psnr", "ssim")
            for channel in ("y", "rgb")
            for suffix in ("", baseline)
        }
        for clip in evaluator.evaluate(
            config.model, params, clips, protocol=protocol, model=model
        ):
            for method, suffix in zip(clip.frames, ("", baseline), strict=True):
                for key, value in clip.mean(method).items():
                    sums[key + suffix] += value
        scores = parallel.mean_over_processes(sums, len(clips))
        image = None
        if crop is not None:
            lq, gt = crop
            restored = _restore(params, lq[None], model=model)[0]
            enlarged = imresize(lq[center], config.model.output_scale) / 255
            image = _side_by_side(enlarged, restored, gt)
        return Validated(scores, channel, image)

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


def _side_by_side(*images: np.ndarray) -> np.ndarray:
    return np.concatenate([metrics.to_uint8(image) for image in images], axis=1)


def _samples(clip: Clip, config: Config) -> list[Pair]:
    """Center crops of evenly spread windows: (lq [T,h,w,C], gt [H,W,C]), uint8."""
    model, data = config.model, config.data
    scale = model.output_scale
    multiple = model.size_multiple * scale
    size = min(_CROP, *clip.gt.size) // multiple * multiple
    corner = (np.array(clip.gt.size) - size) // 2 // scale * scale
    centers = Centers([clip], config)
    count = min(config.eval.frames_per_clip or len(centers), len(centers))
    chosen = np.linspace(0, len(centers) - 1, count).astype(int)
    offsets = np.arange(model.num_frames) - model.center
    offsets *= min(data.intervals) * data.window_step
    windows = [
        read_window(
            clip,
            centers[position][1] + offsets,
            np.tile(corner, (model.num_frames, 1)),
            config=config,
            size=size,
            flip=Flip(),
            rng=np.random.default_rng(index),
            cache=FrameCache(0),
        )
        for index, position in enumerate(chosen)
    ]
    return [(window["lq"], window["gt"]) for window in windows]
