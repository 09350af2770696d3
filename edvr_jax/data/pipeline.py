"""Training windows: random crops of ground-truth clips and their LR counterparts.

Sample i of a run is a pure function of (seed, i), so the order of the data after a
resume needs no stored iterator, and workers cannot change it.
"""

import concurrent.futures
from collections.abc import Generator

import numpy as np

from edvr_jax.config import DataConfig, ModelConfig
from edvr_jax.data.frame_store import Frames
from edvr_jax.data.imresize import imresize
from edvr_jax.errors import InputError
from edvr_jax.metrics import to_uint8

# LR pixels around a crop that the bicubic kernel (4 taps each side) may reach.
_MARGIN = 4


class TrainWindows:
    """Random-access training samples from clips.

    Args:
        clips: Ground-truth frames of each clip, [T, H, W, 3] uint8.
        names: Names of the clips, for messages.
        data: Crop size and augmentation.
        model: Frames of a window and scale.
        seed: Seed of the order and of every crop.

    Raises:
        InputError: if a clip is shorter than a window or smaller than a crop.
    """

    def __init__(
        self,
        clips: list[Frames],
        names: list[str],
        *,
        data: DataConfig,
        model: ModelConfig,
        seed: int,
    ):
        for name, frames in zip(names, clips, strict=True):
            _, height, width, _ = frames.shape
            if len(frames) < model.num_frames:
                raise InputError(
                    f"{name}: {len(frames)} frames, but a window needs "
                    f"{model.num_frames}; remove the clip"
                )
            if min(height, width) < data.gt_crop:
                raise InputError(
                    f"{name}: {width}x{height} is smaller than data.gt_crop "
                    f"{data.gt_crop}; remove the clip or lower the crop"
                )
        self._clips, self._data, self._model, self._seed = clips, data, model, seed
        # Every legal window of every clip is equally likely.
        counts = [len(frames) - model.num_frames + 1 for frames in clips]
        self._ends = np.cumsum(counts)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Draw sample ``index``.

        Returns:
            ``lq`` [T, crop/s, crop/s, 3] and ``gt`` [crop, crop, 3], uint8.
        """
        rng = np.random.default_rng((self._seed, index))
        window = int(rng.integers(self._ends[-1]))
        clip = int(np.searchsorted(self._ends, window, side="right"))
        first = window - (int(self._ends[clip - 1]) if clip else 0)
        frames = self._clips[clip][first : first + self._model.num_frames]
        corners = self._crop_path(rng, frames.shape)
        lq, gt = paired_crop(
            frames,
            corners,
            size=self._data.gt_crop,
            scale=self._model.output_scale,
            center=self._model.center,
        )
        lq, gt = _flip_and_transpose(rng, lq, gt)
        return {"lq": lq, "gt": gt}

    def _crop_path(self, rng: np.random.Generator, shape) -> np.ndarray:
        """Top-left corners of the crop in each frame, [T, 2] in GT pixels."""
        scale, size = self._model.output_scale, self._data.gt_crop
        num_frames, height, width = shape[:3]
        limit = np.array([height - size, width - size])
        corner = rng.integers(limit // scale + 1) * scale
        if rng.random() >= self._data.camera_motion:
            return np.tile(corner, (num_frames, 1))
        speed = self._data.max_camera_speed * np.sqrt(rng.random())
        angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, speed / 4, 2)
        time = (np.arange(num_frames) - self._model.center)[:, None]
        velocity = speed * np.array([np.sin(angle), np.cos(angle)])
        path = corner + np.rint(velocity * time + bend / 2 * time**2).astype(int)
        return np.clip(path, 0, limit)


def paired_crop(
    frames: np.ndarray, corners: np.ndarray, *, size: int, scale: int, center: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a window of crops and make its low-resolution counterpart.

    The LR crop is MATLAB bicubic, rounded to 8 bits, and equals the crop of the
    whole shrunk frame wherever the corner is a multiple of the scale.

    Args:
        frames: Ground-truth frames, [T, H, W, C] uint8.
        corners: Top-left corner of the crop in each frame, [T, 2] (y, x).
        size: Side of the crop, in ground-truth pixels.
        scale: Shrinking factor; divides size.
        center: Index of the frame whose ground truth is returned.

    Returns:
        LR window [T, size/scale, size/scale, C] and the ground truth of the center
        frame [size, size, C], uint8.
    """
    y, x = corners[center]
    gt = np.ascontiguousarray(frames[center, y : y + size, x : x + size])
    if scale == 1:
        crops = [
            frame[y : y + size, x : x + size]
            for frame, (y, x) in zip(frames, corners, strict=True)
        ]
        return np.stack(crops), gt
    margin = _MARGIN * scale
    crops = np.stack(
        [
            _crop_mirrored(frame, corner, size, margin)
            for frame, corner in zip(frames, corners, strict=True)
        ]
    )
    small = to_uint8(imresize(crops, 1 / scale) / 255)
    inner = slice(_MARGIN, _MARGIN + size // scale)
    return np.ascontiguousarray(small[:, inner, inner]), gt


def _crop_mirrored(frame, corner, size, margin):
    """Crop with a margin, mirrored beyond the frame as MATLAB's imresize does."""
    (y, x), (height, width) = corner, frame.shape[:2]
    top, left = y - margin, x - margin
    bottom, right = y + size + margin, x + size + margin
    inner = frame[max(top, 0) : bottom, max(left, 0) : right]
    beyond_y = (max(-top, 0), max(bottom - height, 0))
    beyond_x = (max(-left, 0), max(right - width, 0))
    if not any(beyond_y + beyond_x):
        return inner
    return np.pad(inner, (beyond_y, beyond_x, (0, 0)), mode="symmetric")


def _flip_and_transpose(rng, lq, gt):
    """Mirror and transpose at random, the same way for every image of a sample."""
    vertical, horizontal, transpose = rng.random(3) < 0.5
    images = []
    for image in (lq, gt):
        if vertical:
            image = image[..., ::-1, :, :]
        if horizontal:
            image = image[..., ::-1, :]
        if transpose:
            image = image.swapaxes(-3, -2)
        images.append(np.ascontiguousarray(image))
    return images


def iterate_batches(
    windows: TrainWindows,
    *,
    first_step: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    prefetch: int = 3,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yield batches from a step on, prepared ahead by a thread.

    Args:
        windows: Samples.
        first_step: Step of the first batch; step k takes the samples
            k * global batch to (k+1) * global batch.
        batch_size: Windows per batch of this process.
        process_index: Which share of the global batch is this process's.
        process_count: Processes that share the global batch.
        prefetch: Batches prepared ahead.

    Yields:
        ``lq`` [batch_size, T, h, w, 3] and ``gt`` [batch_size, H, W, 3], uint8.
    """

    def load(step):
        start = (step * process_count + process_index) * batch_size
        samples = [windows[i] for i in range(start, start + batch_size)]
        return {key: np.stack([s[key] for s in samples]) for key in samples[0]}

    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        pending = [pool.submit(load, first_step + i) for i in range(prefetch)]
        step = first_step + prefetch
        while True:
            yield pending.pop(0).result()
            pending.append(pool.submit(load, step))
            step += 1
