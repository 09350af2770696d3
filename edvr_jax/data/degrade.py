"""Degradations: how the low-quality frames of a track are made from sharp ones.

=========== =========================================================================
sr          MATLAB bicubic, 1/scale
sr_bd       Gaussian blur of sigma 1.6 (13 taps), then every fourth pixel
sr_blur     motion blur, then MATLAB bicubic
sr_comp     MATLAB bicubic, then H.264
deblur      motion blur: the mean of neighboring sharp frames, in linear light
deblur_comp motion blur, then H.264
web         blur, resampling, noise and compression at random, see ``data/web.py``
=========== =========================================================================

Noise can be added to each. Everything is rounded to 8 bit, as files are. The same
functions serve whole clips (``edvr prepare``) and the crops of training; given the
same frames and random generator they give the same bytes.

Source: the tracks are those of REDS (NTIRE 2019, Nah et al.), whose blurred frames
are means of sharp frames of a high-frame-rate camera; the Gaussian variant was checked
against ``duf_downsample`` of BasicSR (``basicsr/data/data_util.py``).
"""

import itertools
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from edvr_jax.config import DegradeConfig
from edvr_jax.data import web
from edvr_jax.data.compression import compress
from edvr_jax.data.imresize import imresize_uint8

GAMMA = 2.2  # approximates a camera's response, as in GoPro and REDS
BD_SCALE = 4
BD_SIGMA = 1.6
BD_TAPS = 13

# Pixels of context that a track needs around a crop, in low-quality pixels.
MARGIN = {
    **{"sr": 4, "sr_bd": 2, "sr_blur": 4, "deblur": 0},
    **dict.fromkeys(("sr_comp", "deblur_comp", "web"), 16),
}
COMPRESSED = ("sr_comp", "deblur_comp")
# How a track's filter continues a frame beyond its border (np.pad's names).
BORDER = {
    **dict.fromkeys(MARGIN, "symmetric"),
    "sr_bd": "reflect",
}


def degrade_window(
    frames: np.ndarray, config: DegradeConfig, *, scale: int, rng: np.random.Generator
) -> np.ndarray:
    """Degrade a window of sharp frames.

    Args:
        frames: Sharp frames, [T, B, H, W, 3] uint8: for each frame of the window the
            ``config.num_blurred`` frames that are exposed together.
        config: The track and its strength.
        scale: Size of the frames over that of the degraded ones.
        rng: Source of the noise.

    Returns:
        Degraded frames, [T, H/scale, W/scale, 3] uint8.
    """
    blurred = np.stack([motion_blur(exposure) for exposure in frames])
    if config.track == "web":
        return web.degrade_window(blurred, config.web, scale=scale, rng=rng)
    small = shrink(blurred, config, scale=scale)
    if config.track in COMPRESSED:
        small = np.stack(list(compress(small, crf=config.crf)))
    return add_noise(small, config.noise_sigma, rng)


def degrade_clip(
    frames: Iterable[np.ndarray], config: DegradeConfig, *, scale: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Degrade a whole clip, frame by frame.

    With motion blur the clip becomes shorter: one pair for every
    ``config.frame_step`` frames whose exposure lies inside the clip.

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
    couples = (
        (exposure[middle].copy(), motion_blur(exposure))
        for exposure in _exposures(frames, config.num_blurred, config.step)
    )
    # The encoder takes frames ahead of those that it gives.
    for_sharp, for_degraded = itertools.tee(couples)
    blurred = (image for _, image in for_degraded)
    if config.track == "web":
        settings = web.draw_settings(rng, config.web)
        degraded = web.degrade_frames(blurred, settings, scale=scale, rng=rng)
    else:
        degraded = (shrink(image, config, scale=scale) for image in blurred)
        if config.track in COMPRESSED:
            degraded = compress(degraded, crf=config.crf)
        degraded = (add_noise(image, config.noise_sigma, rng) for image in degraded)
    for (sharp, _), image in zip(for_sharp, degraded, strict=True):
        yield sharp, image


def motion_blur(frames: np.ndarray) -> np.ndarray:
    """Average frames as one long exposure would: in linear light.

    Args:
        frames: Neighbouring sharp frames, [B, ..., 3] uint8.

    Returns:
        Their mean, [..., 3] uint8; one frame alone stays as it is.
    """
    if len(frames) == 1:
        return frames[0]
    to_linear = (np.arange(256) / 255).astype(np.float32) ** GAMMA
    light = to_linear[frames].mean(axis=0)
    return np.rint(255 * light ** (1 / GAMMA)).astype(np.uint8)


def shrink(frames: np.ndarray, config: DegradeConfig, *, scale: int) -> np.ndarray:
    """Downscale frames as the track does.

    Args:
        frames: [..., H, W, 3] uint8.
        config: The track.
        scale: 1 keeps the size; ``sr_bd`` knows only 4.

    Returns:
        [..., H/scale, W/scale, 3] uint8.
    """
    if config.track != "sr_bd":
        return imresize_uint8(frames, 1 / scale)
    flat = frames.reshape(-1, *frames.shape[-3:])
    small = np.stack([_blur(image)[::BD_SCALE, ::BD_SCALE] for image in flat])
    return small.reshape(*frames.shape[:-3], *small.shape[1:])


def add_noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of ``sigma`` 8-bit levels, rounded and clipped."""
    if not sigma:
        return image
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(sigma)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _exposures(
    frames: Iterable[np.ndarray], length: int, step: int
) -> Iterator[np.ndarray]:
    """Yield every ``step``-th run of ``length`` neighbouring frames, stacked."""
    held: list[np.ndarray] = []
    for index, frame in enumerate(frames):
        held = [*held, frame][-length:]
        if len(held) == length and (index + 1 - length) % step == 0:
            yield np.stack(held)


def _blur(image: np.ndarray) -> np.ndarray:
    blurred = cv2.GaussianBlur(
        image.astype(np.float32),
        (BD_TAPS, BD_TAPS),
        BD_SIGMA,
        borderType=cv2.BORDER_REFLECT_101,
    )
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)
