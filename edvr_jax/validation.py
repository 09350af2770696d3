"""Quick validation during training: fixed crops of the validation clips."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from edvr_jax import metrics
from edvr_jax.config import Config
from edvr_jax.data import pairs, pipeline
from edvr_jax.data.frame_store import Frames
from edvr_jax.data.imresize import imresize
from edvr_jax.errors import InputError
from edvr_jax.models import create_model

# Side of the ground-truth crops, in pixels.
_CROP = 256


def make_validation(
    config: Config, paths: list[Path], clips: list[Frames]
) -> Callable[[Any], dict[str, float]]:
    """Prepare fixed crops of the validation clips.

    Args:
        config: The experiment.
        paths: Validation clips.
        clips: Their ground-truth frames.

    Returns:
        Function from parameters to the mean Y-PSNR in dB over the clips, the
        model's and bicubic's. Quick to compute and comparable within one run;
        published protocols are in ``evaluator.py``. Without clips it gives {}.

    Raises:
        InputError: if a clip is too short or too small.
    """
    model, scale = create_model(config.model), config.model.output_scale
    restore = jax.jit(lambda p, lq: model.apply({"params": p}, lq / 255.0))
    samples = [
        _samples(frames, pairs.clip_name(path), config)
        for path, frames in zip(paths, clips, strict=True)
    ]

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


def _samples(frames: Frames, name: str, config: Config):
    """Center crops of evenly spread windows: (lq [T,h,w,C], gt [H,W,C]), uint8."""
    num_frames = config.model.num_frames
    scale = config.model.output_scale
    multiple = config.model.size_multiple * scale
    size = min(_CROP, *frames.shape[1:3]) // multiple * multiple
    corner = (np.array(frames.shape[1:3]) - size) // 2 // scale * scale
    count = len(frames) - num_frames + 1
    if count < 1 or size < multiple:
        raise InputError(
            f"{name}: {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]} are "
            f"too few or too small to validate on (it takes {num_frames} of "
            f"{multiple}x{multiple}); take it out of data.val_clips"
        )
    firsts = np.linspace(0, count - 1, min(config.eval.frames_per_clip, count))
    return [
        pipeline.paired_crop(
            frames[first : first + num_frames],
            np.tile(corner, (num_frames, 1)),
            size=size,
            scale=scale,
            center=config.model.center,
        )
        for first in firsts.astype(int)
    ]
