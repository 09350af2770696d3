"""Degradations: the tracks that synthesize low-quality frames from sharp ones.

    sr          MATLAB bicubic, 1/scale
    sr_bd       Gaussian blur of sigma 1.6 (13 taps), then every fourth pixel
    sr_blur     motion blur, then MATLAB bicubic
    sr_comp     MATLAB bicubic, then H.264
    deblur      motion blur, see data/motion_blur.py
    deblur_comp motion blur, then H.264
    web         blur, resampling, noise and compression at random, see data/web.py

Noise can be added to each. Everything is rounded to 8 bit, like files. The same
functions degrade whole clips (``edvr prepare``) and the crops of training. The same
frames and random generator give the same bytes.

Source: the tracks are those of REDS (NTIRE 2019, Nah et al.), whose blurred frames
are means of sharp frames of a high-frame-rate camera; the Gaussian variant was checked
against ``duf_downsample`` of BasicSR (``basicsr/data/data_util.py``).
"""

import itertools
import zlib
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from edvr_jax.config import DegradeConfig
from edvr_jax.data import motion_blur, web
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.media.write.compression import compress

BD_SCALE = 4
BD_SIGMA = 1.6
BD_TAPS = 13

# Pixels of context that a track needs around a crop, in low-quality pixels.
_MARGIN = {
    **{"sr": 4, "sr_bd": 2, "sr_blur": 4, "deblur": 0},
    **dict.fromkeys(("sr_comp", "deblur_comp", "web"), 16),
}
COMPRESSED = ("sr_comp", "deblur_comp")
# Padding of a frame that a track's filter assumes (modes of np.pad).
BORDER = {
    **dict.fromkeys(_MARGIN, "symmetric"),
    "sr_bd": "reflect",
}


def margin_of(config: DegradeConfig) -> int:
    """Return the context that a crop needs on each side, in low-quality pixels."""
    return max(_MARGIN[config.track], 16 if config.shutter else 0)


def degrade_window(
    frames: np.ndarray,
    config: DegradeConfig,
    *,
    scale: int,
    rng: np.random.Generator,
    camera: np.ndarray | None = None,
) -> np.ndarray:
    """Degrade a window of sharp frames.

    Args:
        frames: Sharp frames, [T, B, H, W, 3] uint8: for each frame of the window the
            ``config.num_blurred`` frames of its exposure.
        config: The track and its strength.
        scale: Size of the frames over that of the degraded ones.
        rng: Source of the noise.
        camera: For each frame the motion (dy, dx) of its content, in pixels per
            frame, [T, 2], that the frames of its exposure do not show; None is zero.

    Returns:
        Degraded frames, [T, H/scale, W/scale, 3] uint8.
    """
    cameras = [None] * len(frames) if camera is None else camera
    blurred = np.stack(
        [
            expose(exposure, config, camera)
            for exposure, camera in zip(frames, cameras, strict=True)
        ]
    )
    if config.track == "web":
        return web.degrade_window(blurred, config.web, scale=scale, rng=rng)
    small = shrink(blurred, config, scale=scale)
    if config.track in COMPRESSED:
        small = np.stack(list(compress(small, crf=config.crf)))
    return web.add_noise(small, config.noise_sigma, rng)


def clip_seed(name: str, seed: int = 0) -> int:
    """Return the seed of a clip, whatever other clips are degraded with it."""
    return seed + zlib.crc32(name.encode())


def degrade_clip(
    frames: Iterable[np.ndarray], config: DegradeConfig, *, scale: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Degrade a whole clip, frame by frame.

    With motion blur the clip becomes shorter: one pair for every
    ``config.frame_step`` frames whose exposure is inside the clip.

    Args:
        frames: Sharp frames, [H, W, 3] uint8, sides multiples of ``scale``.
        config: The track and its strength.
        scale: Size of the frames over that of the degraded ones.
        seed: Seed of the noise.

    Yields:
        Sharp frame [H, W, 3] and degraded frame [H/scale, W/scale, 3], uint8.
    """
    rng = np.random.default_rng(seed)
    middle = config.num_blurred // 2
    exposures = _exposures(frames, config.num_blurred, config.step)
    if config.shake:
        shaken = _shake(exposures, config.shake, scale=scale, rng=rng)
    else:
        shaken = ((exposure, None) for exposure in exposures)
    couples = (
        (exposure[middle].copy(), expose(exposure, config, camera))
        for exposure, camera in shaken
    )
    # The encoder consumes frames before it returns the first ones.
    for_sharp, for_degraded = itertools.tee(couples)
    blurred = (image for _, image in for_degraded)
    if config.track == "web":
        settings = web.draw_settings(rng, config.web)
        degraded = web.degrade_frames(blurred, settings, scale=scale, rng=rng)
    else:
        degraded = (shrink(image, config, scale=scale) for image in blurred)
        if config.track in COMPRESSED:
            degraded = compress(degraded, crf=config.crf)
        degraded = (web.add_noise(image, config.noise_sigma, rng) for image in degraded)
    for (sharp, _), image in zip(for_sharp, degraded, strict=True):
        yield sharp, image


def expose(
    frames: np.ndarray, config: DegradeConfig, camera: np.ndarray | None = None
) -> np.ndarray:
    """Compute one frame from the sharp frames of its exposure.

    Args:
        frames: ``config.num_blurred`` sharp frames, [B, H, W, 3] uint8.
        config: The track.
        camera: Motion (dy, dx) of the content that the frames do not show, in pixels
            per frame; used with ``config.shutter`` only.

    Returns:
        [H, W, 3] uint8.
    """
    if config.shutter is None:
        return motion_blur.average(frames)
    return motion_blur.blur_along_flow(frames, shutter=config.shutter, camera=camera)


def cut_truth(frame: np.ndarray, *, gt_downscale: int, scale: int) -> np.ndarray:
    """Shrink ground truth, and cut its right and lower side to a multiple of ``scale``.

    Args:
        frame: [H, W, 3] uint8.
        gt_downscale: Downscale it by this (MATLAB bicubic).
        scale: Size of the ground truth over that of the degraded frames.
    """
    frame = imresize_uint8(frame, 1 / gt_downscale)
    height, width = (size - size % scale for size in frame.shape[:2])
    return frame[:height, :width]


def shrink(frames: np.ndarray, config: DegradeConfig, *, scale: int) -> np.ndarray:
    """Downscale frames as the track does.

    Args:
        frames: [..., H, W, 3] uint8.
        config: The track.
        scale: 1 keeps the size; ``sr_bd`` always uses 4.

    Returns:
        [..., H/scale, W/scale, 3] uint8.
    """
    if config.track != "sr_bd":
        return imresize_uint8(frames, 1 / scale)
    flat = frames.reshape(-1, *frames.shape[-3:])
    small = np.stack([_blur(image)[::BD_SCALE, ::BD_SCALE] for image in flat])
    return small.reshape(*frames.shape[:-3], *small.shape[1:])


def _exposures(
    frames: Iterable[np.ndarray], length: int, step: int
) -> Iterator[np.ndarray]:
    """Yield every ``step``-th run of ``length`` neighboring frames, stacked."""
    held: list[np.ndarray] = []
    for index, frame in enumerate(frames):
        held = [*held, frame][-length:]
        if len(held) == length and (index + 1 - length) % step == 0:
            yield np.stack(held)


def _shake(
    exposures: Iterable[np.ndarray],
    speed: float,
    *,
    scale: int,
    rng: np.random.Generator,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Crop exposures along the path of a hand-held camera, and yield its motion.

    The path is a sum of two swings in each direction, of periods from 8 to 40 frames.
    """
    periods = rng.uniform(8, 40, (2, 2))
    phases = rng.uniform(0, 2 * np.pi, (2, 2))
    frequencies = 2 * np.pi / periods
    # The mean speed of a swing is its amplitude * frequency * 2 / pi in one direction,
    # of two swings in two directions together about twice that.
    amplitudes = speed * np.pi / 4 / frequencies
    reach = amplitudes.sum(axis=0)
    margin = (np.ceil(reach / scale).astype(int) + 1) * scale
    for time, exposure in enumerate(exposures):
        angles = frequencies * time + phases
        position = (amplitudes * np.sin(angles)).sum(axis=0)
        velocity = (amplitudes * frequencies * np.cos(angles)).sum(axis=0)
        top, left = margin + np.rint(position / scale).astype(int) * scale
        height, width = np.array(exposure.shape[1:3]) - 2 * margin
        # The content moves against the camera.
        yield exposure[:, top : top + height, left : left + width], -velocity


def _blur(image: np.ndarray) -> np.ndarray:
    blurred = cv2.GaussianBlur(
        image.astype(np.float32),
        (BD_TAPS, BD_TAPS),
        BD_SIGMA,
        borderType=cv2.BORDER_REFLECT_101,
    )
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)
