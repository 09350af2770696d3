"""Validation during training: crops of validation clips, or a published protocol."""

import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from edvr_jax.config import Config, ModelConfig
from edvr_jax.data.augment import draw_crop_path
from edvr_jax.data.clips import TrainClip
from edvr_jax.data.frames import FrameCache
from edvr_jax.data.imresize import imresize
from edvr_jax.data.windows import Sample, Window, WindowCenters, read_window
from edvr_jax.errors import InputError
from edvr_jax.evaluate import evaluator, protocols
from edvr_jax.evaluate import metrics as metrics_lib
from edvr_jax.evaluate.evaluator import ClipScores
from edvr_jax.evaluate.metrics import Metric
from edvr_jax.media.read import pixels
from edvr_jax.models import create_model
from edvr_jax.train import alignment, parallel

_log = logging.getLogger(__name__)

FLOW_CORRELATION = "flow_correlation"

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
        own: Names of the scores that are metrics of the user's own.
        image: A fixed crop, uint8 RGB [H, 3*H, 3]: enlarged input, restored, ground
            truth; None if there are no clips.
    """

    scores: dict[str, float]
    decisive: str = "psnr_y"
    own: tuple[str, ...] = ()
    image: np.ndarray | None = None

    @property
    def score(self) -> float | None:
        """The score that decides which step is the best; None if there is none."""
        return self.scores.get(self.decisive)


Validate = Callable[[Any], Validated]
# From parameters to the scores of this process's clips, and the image of a crop.
_Score = Callable[[Any], tuple[list[ClipScores], np.ndarray | None]]


def make_validation(
    config: Config,
    clips: Sequence[TrainClip],
    eval_data: Path,
    *,
    model: nn.Module | None = None,
    metrics: Mapping[str, Metric] = MappingProxyType({}),
) -> Validate:
    """Prepare the validation of an experiment.

    Args:
        config: The experiment.
        clips: Validation clips, for crops.
        eval_data: Folder of the dataset of ``config.eval.protocol``.
        model: A module of your own; None is ``create_model(config.model)``.
        metrics: Metrics of your own, by name, see
            :func:`edvr_jax.evaluate.evaluator.evaluate`.

    Returns:
        Function from parameters (of :func:`edvr_jax.train.parallel.local`) to the
        result. Every process restores its share of the clips and gets the whole result.
        Crops are quick and comparable within one run; a protocol is comparable with
        published tables if ``frames_per_clip`` is 0.

    Raises:
        InputError: if clips are missing, or do not fit the network.
    """
    model = create_model(config.model) if model is None else model
    own = _own_share(clips)
    correlate, decisive, keys = None, "psnr_y", ["psnr_y"]
    if config.eval.protocol is not None:
        test_set = protocols.TEST_SETS[config.eval.protocol]
        score = _score_protocol(config, model, test_set, eval_data, metrics)
        decisive = f"psnr_{test_set.channel}"
        keys = [f"{name}_{ch}" for name in ("psnr", "ssim") for ch in ("y", "rgb")]
    else:
        score = _score_crops(config, model, own, metrics)
        if alignment.has_pcd(model):
            correlate = _correlate_flow(config, model, own)
        if config.optim.fidelity.alone:  # no frame is restored
            score, decisive = lambda params: ([], None), FLOW_CORRELATION
    keys += metrics
    noted: set[str] = set()

    def validate(params):
        # The same names in every process, whether it has clips or not.
        methods = ("model", _baseline(config), "still")
        values: dict[str, list[float]] = {
            _name(key, method): [] for key in keys for method in methods
        }
        scored, image = score(params)
        for clip in scored:
            for method in clip.frames:
                for key, value in clip.mean(method).items():
                    values[_name(key, method)].append(value)
        for line in evaluator.describe_infinite(scored):
            if line not in noted:
                _log.warning("validation: %s", line)
            noted.add(line)
        if correlate is not None:
            values[FLOW_CORRELATION] = correlate(params)
        means = parallel.mean_over_processes(values)
        return Validated(means, decisive, tuple(metrics), image)

    return validate


def _name(key: str, method: str) -> str:
    return key if method == "model" else f"{key}_{method}"


def _baseline(config: Config) -> str:
    """Name the method that is compared with the network, as the evaluator does."""
    return "input" if config.model.output_scale == 1 else "bicubic"


def _own_share(clips: Sequence[Any]) -> Sequence[Any]:
    return clips[jax.process_index() :: jax.process_count()]


def _score_crops(
    config: Config,
    model: nn.Module,
    clips: Sequence[TrainClip],
    metrics: Mapping[str, Metric],
) -> _Score:
    """Prepare Y-PSNR of fixed crops, and metrics of the user's own."""

    def score_crop(restored: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        image = pixels.to_uint8(restored)
        psnr_y = metrics_lib.psnr(image, truth, channel="y")
        return {"psnr_y": psnr_y, **metrics_lib.apply(metrics, image, truth)}

    scale, center = config.model.output_scale, config.model.center
    # Motion blur along the flow needs motion, and most clips have little.
    speed = config.data.max_camera_speed if config.data.degrade.shutter else None
    samples = [_windows(clip, config, speed=speed) for clip in clips]
    truths = [[sample["gt"] for sample in group] for group in samples]
    windows = [np.stack([sample["lq"] for sample in group]) for group in samples]
    enlarged = [[imresize(lq[center], scale) / 255 for lq in w] for w in windows]

    def score(params):
        restored = [_restore(params, lq, model=model) for lq in windows]
        found: dict[str, Any] = {"model": restored, _baseline(config): enlarged}
        if config.model.num_frames > 1:
            found["still"] = [
                _restore(params, _copies_of(lq, center), model=model) for lq in windows
            ]
        scores = [
            ClipScores(
                clip.name,
                {
                    method: [
                        score_crop(a, b)
                        for a, b in zip(crops[index], truths[index], strict=True)
                    ]
                    for method, crops in found.items()
                },
            )
            for index, clip in enumerate(clips)
        ]
        if not clips:
            return scores, None
        return scores, _side_by_side(enlarged[0][0], restored[0][0], truths[0][0])

    return score


def _score_protocol(
    config: Config,
    model: nn.Module,
    test_set: protocols.TestSet,
    root: Path,
    metrics: Mapping[str, Metric],
) -> _Score:
    """Prepare scores of full frames, as ``edvr eval --protocol``, and one crop."""
    scale = config.model.output_scale
    if test_set.scale != scale:
        raise InputError(
            f"eval.protocol {config.eval.protocol} is for networks of scale "
            f"{test_set.scale}, not {scale}"
        )
    frames_per_clip = config.eval.frames_per_clip or None
    if test_set.protocol.center_only:  # the middle frame of the whole clip
        frames_per_clip = None
    protocol = dataclasses.replace(test_set.protocol, frames_per_clip=frames_per_clip)
    clips = _own_share(protocols.find_clips(test_set, root)[0])
    crop = _protocol_crop(clips[0], protocol, config) if clips else None

    def score(params):
        scores = evaluator.evaluate(
            config.model,
            params,
            clips,
            protocol=protocol,
            model=model,
            metrics=metrics,
        )
        if crop is None:
            return list(scores), None
        lq, gt = crop
        enlarged = imresize(lq[config.model.center], scale) / 255
        restored = _restore(params, lq[None], model=model)[0]
        return list(scores), _side_by_side(enlarged, restored, gt)

    return score


def _correlate_flow(
    config: Config, model: nn.Module, clips: Sequence[TrainClip]
) -> Callable[[Any], list[float]]:
    """Prepare the correlation of offsets with a known camera motion, per clip."""
    assert isinstance(config.model, ModelConfig)
    pixel = config.model.feature_scale
    groups = [
        _windows(clip, config, speed=_MOTION * pixel, flow_pixel=pixel)
        for clip in clips
    ]
    stacked = [
        {key: np.stack([sample[key] for sample in group]) for key in ("lq", "flow")}
        for group in groups
    ]

    def correlate(params):
        return [
            alignment.correlation(
                alignment.estimate(params, x["lq"] / np.float32(255), model=model),
                x["flow"],
            )
            for x in stacked
        ]

    return correlate


def _copies_of(windows: np.ndarray, center: int) -> np.ndarray:
    """Replace the neighbors by copies of the center frame, [N, T, h, w, C]."""
    return np.repeat(windows[:, center : center + 1], windows.shape[1], axis=1)


def _restore(params: Any, lq: np.ndarray, *, model: nn.Module) -> np.ndarray:
    return np.asarray(_apply(params, lq / np.float32(255), model=model))


@functools.partial(jax.jit, static_argnames="model")
def _apply(params: Any, lq: jax.Array, *, model: nn.Module) -> Any:
    return model.apply({"params": params}, lq)


def _side_by_side(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels.to_uint8(part) for part in parts], axis=1)


def _protocol_crop(
    clip: protocols.EvalClip, protocol: protocols.Protocol, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Crop the middle of a clip's first window: lq [T, h, w, C], gt [H, W, C]."""
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
    # A clip shorter than a window repeats its last frame.
    lq = lq[np.minimum(np.arange(model.num_frames), len(lq) - 1)]
    return lq, truth[min(model.center, len(truth) - 1)][rows, columns]


def _windows(
    clip: TrainClip,
    config: Config,
    *,
    speed: float | None = None,
    flow_pixel: int | None = None,
) -> list[Sample]:
    """Read center crops of evenly spread windows.

    With a speed, each window is one frame that a camera moves, at that speed or slower.
    """
    model, data, scale = config.model, config.data, config.model.output_scale
    multiple = model.size_multiple * scale
    size = min(_CROP, *clip.gt.size) // multiple * multiple
    if speed is not None:  # leaves room for the motion
        size = max(size // 2 // multiple, 1) * multiple
        data = dataclasses.replace(
            data, gt_crop=size, max_camera_speed=speed, crop_candidates=1
        )
    corner = (np.array(clip.gt.size) - size) // 2 // scale * scale
    offsets = np.arange(model.num_frames) - model.center
    offsets *= min(data.intervals) * data.window_step
    samples = []
    for index, frame in enumerate(_spread_centers(clip, config)):
        rng = np.random.default_rng(index)
        window = Window(frame + offsets, np.tile(corner, (model.num_frames, 1)), size)
        if speed is not None:
            corners, velocity = draw_crop_path(
                rng, data, model, size=clip.gt.size, motion=1.0
            )
            frames = np.full(model.num_frames, frame)
            window = Window(frames, corners, size, velocity)
        samples.append(
            read_window(
                clip,
                window,
                config,
                rng=rng,
                cache=FrameCache(0),
                flow_pixel=flow_pixel,
            )
        )
    return samples


def _spread_centers(clip: TrainClip, config: Config) -> list[int]:
    """Return the center frames of evenly spread windows."""
    centers = WindowCenters([clip], config)
    count = min(config.eval.frames_per_clip or len(centers), len(centers))
    chosen = np.linspace(0, len(centers) - 1, count).astype(int)
    return [centers[position][1] for position in chosen]
