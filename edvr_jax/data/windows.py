"""Training samples: a window of degraded crops, and the ground truth of its center."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edvr_jax.config import CascadeConfig, Config
from edvr_jax.data import degrade, flow
from edvr_jax.data.augment import Flip, crop, draw_crop_path
from edvr_jax.data.clips import TrainClip, window_length
from edvr_jax.data.frames import FrameCache, Frames
from edvr_jax.errors import InputError

_log = logging.getLogger(__name__)

# lq [T, h, w, 3] and gt [H, W, 3], uint8; with a fidelity loss flow [T, h, w, 2]
Sample = dict[str, np.ndarray]
# A function of the user's own that changes a sample, drawing from the generator alone.
Augment = Callable[[Sample, np.random.Generator], Sample]
Read = Callable[[Frames, int], np.ndarray]
MAX_REDRAWS = 100


class WindowCenters:
    """Every frame that can be the center of a window, each once, as (clip, frame).

    A window of the smallest interval around it is inside one scene.

    Args:
        clips: The clips.
        config: The experiment.
    """

    def __init__(self, clips: Sequence[TrainClip], config: Config):
        length = window_length(config)
        data, center = config.data, config.model.center
        step = min(data.intervals) * data.window_step
        reach = center * step + data.exposure // 2
        scenes = [
            (index, first + reach, last - first - length + 1)
            for index, clip in enumerate(clips)
            for first, last in clip.scenes
            if last - first >= length
        ]
        self._clips, self._firsts, counts = np.array(scenes, np.int64).T
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index) -> tuple[int, int]:
        scene = int(np.searchsorted(self._ends, index, side="right"))
        offset = int(index) - int(self._starts[scene])
        return int(self._clips[scene]), int(self._firsts[scene]) + offset

    def __repr__(self) -> str:
        return f"WindowCenters(scenes={len(self._ends)}, centers={len(self)})"


@dataclasses.dataclass(frozen=True)
class Window:
    """Position of a window's crops in a clip.

    Attributes:
        frames: Index of each frame, [T].
        corners: Top-left corner of the crop in each frame, [T, 2] (y, x).
        size: Side of the crop, in ground-truth pixels.
        velocity: Speed of the corners (y, x) in pixels per frame, [T, 2], for motion
            blur along the flow; None is zero.
        flip: Applied to all crops, before they are degraded.
    """

    frames: np.ndarray
    corners: np.ndarray
    size: int
    velocity: np.ndarray | None = None
    flip: Flip = dataclasses.field(default_factory=Flip)


@dataclasses.dataclass(frozen=True)
class WindowSampler:
    """Draws a training sample around a center; the result depends on ``rng`` alone.

    Attributes:
        clips: The clips of the centers.
        centers: The centers, to draw another one if a frame cannot be read.
        config: The experiment.
        cache: Recently decoded frames.
        augment: Changes each sample; None does not.
    """

    clips: Sequence[TrainClip]
    centers: WindowCenters
    config: Config
    cache: FrameCache
    augment: Augment | None = None

    def __call__(self, center: tuple[int, int], rng: np.random.Generator) -> Sample:
        """Draw a sample.

        Args:
            center: Clip and frame, from ``WindowCenters``.
            rng: Source of interval, crop, flip and noise.

        Returns:
            ``lq`` [T, crop/s, crop/s, 3] and ``gt`` [crop, crop, 3], uint8; with
            ``optim.fidelity`` also ``flow``, see :func:`read_window`, and with
            ``optim.fidelity.alone`` no ``gt``.

        Raises:
            InputError: if a frame cannot be read; with ``skip_bad`` another center is
                drawn, up to ``MAX_REDRAWS`` times. If ``augment`` returns arrays of
                other names, types or shapes.
        """
        for num_redraws in range(MAX_REDRAWS):
            try:
                sample = self._draw(*center, rng)
            except InputError as error:
                if not self.config.data.skip_bad:
                    raise
                _log.warning("window %d skipped: %s", num_redraws + 1, error)
                center = self.centers[rng.integers(len(self.centers))]
            else:
                return sample if self.augment is None else self._change(sample, rng)
        raise InputError(f"{MAX_REDRAWS} windows in a row cannot be read; see above")

    def _change(self, sample: Sample, rng: np.random.Generator) -> Sample:
        assert self.augment is not None
        changed = self.augment(dict(sample), rng)
        before, after = _formats(sample), _formats(changed)
        if before != after:
            raise InputError(
                f"augment must keep names, types and shapes: {before} became {after}"
            )
        return {name: np.ascontiguousarray(x) for name, x in changed.items()}

    def _draw(self, index: int, frame: int, rng: np.random.Generator) -> Sample:
        clip, model, data = self.clips[index], self.config.model, self.config.data
        # Without synthetic motion no number is drawn for it: runs keep their samples.
        is_synthetic = (
            data.synthetic_motion > 0 and rng.random() < data.synthetic_motion
        )

        def texture(corner: np.ndarray) -> float:
            image = _read(clip, self.cache, clip.gt, frame)
            return flow.texture(crop(image, corner, data.gt_crop, border="edge"))

        corners, velocity = draw_crop_path(
            rng,
            data,
            model,
            size=clip.gt.size,
            motion=1.0 if is_synthetic else data.camera_motion,
            texture=texture,
        )
        if is_synthetic:
            frames = np.full(model.num_frames, frame)
        else:
            frames = self._draw_frames(clip, frame, rng)
        sample = read_window(
            clip,
            Window(frames, corners, data.gt_crop, velocity, Flip.draw(rng)),
            self.config,
            rng=rng,
            cache=self.cache,
            flow_pixel=flow_pixel(self.config),
        )
        if self.config.optim.fidelity.alone:
            del sample["gt"]  # the step does not use it
        return sample

    def _draw_frames(
        self, clip: TrainClip, center: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw interval and direction among those that stay within the scene."""
        data, model = self.config.data, self.config.model
        first, last = next(s for s in clip.scenes if s[0] <= center < s[1])
        steps = [k * data.window_step for k in data.intervals]
        if data.random_reverse:
            steps += [-step for step in steps]
        offsets = np.arange(model.num_frames) - model.center
        half = data.exposure // 2
        choices = [
            frames
            for frames in (center + step * offsets for step in steps)
            if first + half <= frames.min() and frames.max() < last - half
        ]
        return choices[rng.integers(len(choices))]


def _formats(sample: Any) -> Any:
    """Return the type and shape of each array, for comparison and for messages."""
    if not isinstance(sample, Mapping):
        return type(sample).__name__
    arrays = {name: np.asarray(x) for name, x in sample.items()}
    return {name: f"{x.dtype} {x.shape}" for name, x in sorted(arrays.items())}


def read_window(
    clip: TrainClip,
    window: Window,
    config: Config,
    *,
    rng: np.random.Generator,
    cache: FrameCache,
    flow_pixel: int | None = None,
) -> Sample:
    """Read a window's crops; synthesize the degraded ones unless the clip has them.

    Args:
        clip: The clip.
        window: Position of the crops.
        config: Scale, center, track.
        rng: Source of the noise.
        cache: Recently decoded frames.
        flow_pixel: Side of a pixel of the optical flow, in ground-truth pixels; None
            computes no flow.

    Returns:
        ``lq`` [T, size/s, size/s, 3] and ``gt`` [size, size, 3], uint8; and
        with ``flow_pixel`` the ``flow`` [T, h, w, 2], float16: the displacement
        (dy, dx) from the center frame to each frame, in such pixels.
    """
    read = functools.partial(_read, clip, cache)
    if clip.lq is None:
        lq, gt = _synthesize(clip, window, config, read, rng)
    else:
        lq, gt = _read_provided(clip.gt, clip.lq, window, config, read)
    sample = {"lq": np.ascontiguousarray(lq), "gt": np.ascontiguousarray(gt)}
    if flow_pixel is not None:
        center = config.model.center
        # At the corner of the center: the camera's own motion is known, and added.
        seen = {
            k: crop(
                read(clip.gt, k), window.corners[center], window.size, border="edge"
            )
            for k in set(window.frames.tolist())
        }
        motion = flow.window_flow(
            [seen[k] for k in window.frames.tolist()],
            window.corners,
            center=center,
            pixel=flow_pixel,
        )
        sample["flow"] = window.flip.apply_to_flow(motion).astype(np.float16)
    return sample


def _read_provided(
    gt: Frames, lq: Frames, window: Window, config: Config, read: Read
) -> tuple[np.ndarray, np.ndarray]:
    """Read the crops of the provided degraded frames, and of the ground truth."""
    scale, center, size = config.model.output_scale, config.model.center, window.size
    truth = read(gt, window.frames[center])
    truth = crop(truth, window.corners[center], size, border="edge")
    degraded = [
        crop(read(lq, k), corner // scale, size // scale, border="edge")
        for k, corner in zip(window.frames, window.corners, strict=True)
    ]
    return window.flip.apply(np.stack(degraded)), window.flip.apply(truth)


def _synthesize(
    clip: TrainClip,
    window: Window,
    config: Config,
    read: Read,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Degrade the crops of the ground truth.

    The result is the crop of the degraded frame, wherever its corner is on the grid of
    the degraded frames. Only compression sees no more than the crop and its margin.
    """
    scale, settings = config.model.output_scale, config.data.degrade
    frames, flip = window.frames, window.flip
    margin, half = degrade.margin_of(settings), config.data.exposure // 2
    # A window of one frame that a camera moves shows no other motion.
    reach = half if len(set(frames.tolist())) == len(frames) else 0
    exposures = np.stack(
        [
            crop(
                read(clip.gt, index),
                corner,
                window.size,
                margin=margin * scale,
                border=degrade.BORDER[settings.track],
            )
            for k, corner in zip(frames, window.corners, strict=True)
            for index in np.clip(
                np.arange(k - half, k + half + 1), k - reach, k + reach
            )
        ]
    )
    exposures = flip.apply(exposures)
    exposures = exposures.reshape(len(frames), -1, *exposures.shape[1:])
    camera = None
    if window.velocity is not None and settings.shutter:
        # The content moves against the crop.
        camera = flip.apply_to_flow(-window.velocity[:, None, None])[:, 0, 0]
    lq = degrade.degrade_window(
        exposures, settings, scale=scale, rng=rng, camera=camera
    )
    gt = exposures[config.model.center, half]
    return _inner(lq, margin), _inner(gt, margin * scale)


def flow_pixel(config: Config) -> int | None:
    """Return the side of a pixel of the experiment's flow; None if it needs none."""
    if isinstance(config.model, CascadeConfig) or not config.optim.fidelity.weight:
        return None
    return config.model.feature_scale


def _read(clip: TrainClip, cache: FrameCache, source: Frames, index: int) -> np.ndarray:
    """Read a frame of the clip's ``gt`` or ``lq`` through the cache."""
    key = (clip.name, source is clip.gt, int(index))
    return cache.get(key, lambda: source[int(index)])


def _inner(images: np.ndarray, margin: int) -> np.ndarray:
    height, width = images.shape[-3:-1]
    return images[..., margin : height - margin, margin : width - margin, :]
