"""Quick validation during training: fixed crops of the validation clips."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from edvr_jax import metrics
from edvr_jax.config import Config
from edvr_jax.data.clips import Clip
from edvr_jax.data.frames import FrameCache
from edvr_jax.data.imresize import imresize
from edvr_jax.data.samples import Centers, read_window
from edvr_jax.data.transforms import Flip
from edvr_jax.models import create_model

# Side of the ground-truth crops, in pixels.
_CROP = 256


def make_validation(
    config: Config, clips: Sequence[Clip]
) -> Callable[[Any], dict[str, float]]:
    """Prepare fixed crops of the validation clips.

    Args:
        config: The experiment.
        clips: Validation clips.

    Returns:
        Function from parameters to the mean Y-PSNR in dB over the clips, the
        model's and that of the enlarged input (bicubic; at scale 1 the input as it
        is). Quick to compute and comparable within one run;
        published protocols are in ``evaluator.py``. Without clips it gives {}.
    """
    model, scale = create_model(config.model), config.model.output_scale
    restore = jax.jit(lambda p, lq: model.apply({"params": p}, lq / 255.0))
    samples = [_samples(clip, config) for clip in clips]
    center = config.model.center
    bicubic = [[imresize(lq[center], scale) / 255 for lq, _ in c] for c in samples]

    def mean_psnr(images):
        """Y-PSNR of the images of every clip: mean per clip, then over clips."""
        means = [
            np.mean(
                [
                    metrics.psnr(i, gt, channel="y")
                    for i, (_, gt) in zip(*both, strict=True)
                ]
            )
            for both in zip(images, samples, strict=True)
        ]
        return float(np.mean(means))

    if not samples:
        return lambda params: {}
    baseline = mean_psnr(bicubic)

    def validate(params):
        restored = [restore(params, np.stack([lq for lq, _ in c])) for c in samples]
        return {
            "psnr_y": mean_psnr([np.asarray(images) for images in restored]),
            "psnr_y_bicubic": baseline,
        }

    return validate


def _samples(clip: Clip, config: Config) -> list[tuple[np.ndarray, np.ndarray]]:
    """Center crops of evenly spread windows: (lq [T,h,w,C], gt [H,W,C]), uint8."""
    model, data = config.model, config.data
    scale = model.output_scale
    multiple = model.size_multiple * scale
    size = min(_CROP, *clip.gt.size) // multiple * multiple
    corner = (np.array(clip.gt.size) - size) // 2 // scale * scale
    centers = Centers([clip], config)
    count = min(config.eval.frames_per_clip, len(centers))
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
