"""Degradation of web and phone video: random blur, resampling, noise, compression.

One draw of settings is used for a whole window or clip, so the artifacts of compression
are temporal, like those of real video. The order is that of a camera and a platform:
optics, resampling to the published size, sensor noise, codec.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from edvr_jax.config import Codec, WebConfig
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.media.write.compression import compress

_INTERPOLATIONS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}


@dataclasses.dataclass(frozen=True)
class WebSettings:
    """One draw.

    Attributes:
        is_clean: MATLAB bicubic and nothing else.
        blur_sigma: Gaussian blur before resampling, in pixels of the large frame.
        kernel: Resampling: cubic (MATLAB's), area or linear (OpenCV's).
        noise_sigma: Gaussian noise, in 8-bit levels.
        codec: The codec.
        crf: Its quality on the scale of x264.
        num_lead: Frames encoded before the first one, so that it is not always a
            key frame: mirrored copies of the frames that follow.
    """

    is_clean: bool
    blur_sigma: float
    kernel: str
    noise_sigma: float
    codec: Codec
    crf: float
    num_lead: int


def draw_settings(rng: np.random.Generator, config: WebConfig) -> WebSettings:
    """Draw settings; the same generator gives the same ones."""
    return WebSettings(
        is_clean=bool(rng.random() < config.clean),
        blur_sigma=float(rng.uniform(*config.blur_sigma)),
        kernel=str(rng.choice(("cubic", *_INTERPOLATIONS))),
        # Most video has little noise: the square prefers small values.
        noise_sigma=float(config.max_noise_sigma * rng.random() ** 2),
        codec=config.codecs[rng.integers(len(config.codecs))],
        crf=float(rng.uniform(*config.crf)),
        num_lead=int(rng.integers(4)),
    )


def degrade_frames(
    frames: Iterable[np.ndarray],
    settings: WebSettings,
    *,
    scale: int,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Degrade the frames of a window or of a clip.

    Args:
        frames: Sharp frames, [H, W, 3] uint8, sides multiples of ``scale``.
        settings: The draw.
        scale: Size of the frames over that of the degraded ones.
        rng: Source of the noise.

    Yields:
        As many frames, [H/scale, W/scale, 3] uint8.
    """
    if settings.is_clean:
        for frame in frames:
            yield imresize_uint8(frame, 1 / scale)
        return
    small = (_shrink(frame, settings, scale, rng) for frame in frames)
    yield from compress(small, crf=settings.crf, codec=settings.codec)


def degrade_window(
    frames: np.ndarray,
    config: WebConfig,
    *,
    scale: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Degrade a window with settings drawn for it.

    Args:
        frames: Sharp frames, [T, H, W, 3] uint8.
        config: The ranges.
        scale: Size of the frames over that of the degraded ones.
        rng: Source of the settings and of the noise.

    Returns:
        [T, H/scale, W/scale, 3] uint8.
    """
    settings = draw_settings(rng, config)
    num_lead = min(settings.num_lead, len(frames) - 1)
    lead = frames[num_lead:0:-1]
    degraded = degrade_frames([*lead, *frames], settings, scale=scale, rng=rng)
    return np.stack(list(degraded))[num_lead:]


def add_noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of ``sigma`` 8-bit levels, rounded and clipped."""
    if not sigma:
        return image
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(sigma)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _shrink(
    frame: np.ndarray, settings: WebSettings, scale: int, rng: np.random.Generator
) -> np.ndarray:
    """Blur, resample and add noise."""
    if settings.blur_sigma > 0:
        frame = cv2.GaussianBlur(frame, (0, 0), settings.blur_sigma)
    if scale > 1 and settings.kernel == "cubic":
        frame = imresize_uint8(frame, 1 / scale)
    elif scale > 1:
        size = frame.shape[1] // scale, frame.shape[0] // scale
        interpolation = _INTERPOLATIONS[settings.kernel]
        frame = cv2.resize(frame, size, interpolation=interpolation)
    if settings.noise_sigma < 0.5:  # rounding hides it
        return frame
    return add_noise(frame, settings.noise_sigma, rng)
