"""PSNR and SSIM as the published tables of video restoration compute them.

Images are clipped to [0, 1], which a network's output may overshoot a little, and
rounded to 8 bit first, then compared in float64. Luma is BT.601 studio range
(16..235), computed after the rounding and not rounded again. Checked against BasicSR
(``basicsr/metrics/psnr_ssim.py``, ``basicsr/utils/color_util.py``).
"""

from collections.abc import Callable, Collection, Mapping
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike

from edvr_jax.errors import InputError
from edvr_jax.media.read import pixels

Channel = Literal["rgb", "y"]

LUMA = np.array([65.481, 128.553, 24.966])  # BT.601 studio range, R G B
# A metric of the user's own: from a restored frame and the ground truth, both uint8 RGB
# [H, W, 3], to a number.
Metric = Callable[[np.ndarray, np.ndarray], float]

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def rgb_to_y(image: ArrayLike) -> np.ndarray:
    """Compute the studio-range luma of an 8-bit RGB image.

    Args:
        image: uint8, [..., 3].

    Returns:
        Luma in 16..235, not rounded to integers, float64, [..., 1].

    Note:
        Pixels and luma pass through float32 in [0, 1] as in the reference; without
        it PSNR moves by 1e-7 dB.
    """
    luma = (np.asarray(image) / np.float32(255)) @ LUMA + 16
    luma = (luma / 255).astype(np.float32) * np.float32(255)
    return luma.astype(np.float64)[..., None]


def crop_border(image: ArrayLike, width: int) -> np.ndarray:
    """Cut ``width`` pixels off each side of [H, W, C]."""
    image = np.asarray(image)
    left = min(image.shape[:2]) - 2 * width
    if width < 0 or left < 1:
        raise InputError(
            f"cannot crop {width} pixels off each side of a {image.shape[1]}x"
            f"{image.shape[0]} image"
        )
    return image[width : image.shape[0] - width, width : image.shape[1] - width]


def psnr(
    a: ArrayLike, b: ArrayLike, *, crop_border: int = 0, channel: Channel = "rgb"
) -> float:
    """Compute the peak signal-to-noise ratio, 10 log10(255^2 / MSE).

    Args:
        a: Image, [H, W, C] or [H, W], uint8 or float in [0, 1].
        b: Image of the same shape.
        crop_border: Pixels left out at each side.
        channel: "rgb" counts every channel alike, "y" the luma of RGB images.

    Returns:
        Decibels; infinite for equal images.

    Raises:
        InputError: if the shapes differ, a float is not in [0, 1], or the crop leaves
            nothing.
    """
    a, b = _prepare(a, b, crop_border, channel)
    mse = np.mean(np.square(a - b))
    return float(10 * np.log10(255**2 / mse)) if mse else float("inf")


def ssim(
    a: ArrayLike, b: ArrayLike, *, crop_border: int = 0, channel: Channel = "rgb"
) -> float:
    """Compute the structural similarity.

    Gaussian window of 11x11 with sigma 1.5, only where it is inside the image,
    C1 = (0.01*255)^2, C2 = (0.03*255)^2, per channel, then the mean.
    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861.

    Args:
        a: Image, [H, W, C] or [H, W], uint8 or float in [0, 1].
        b: Image of the same shape.
        crop_border: Pixels left out at each side.
        channel: "rgb" averages the channels, "y" takes the luma of RGB images.

    Returns:
        Similarity, 1 for equal images.

    Raises:
        InputError: if the shapes differ, a float is not in [0, 1], or fewer than 11
            pixels are left.
    """
    a, b = _prepare(a, b, crop_border, channel)
    if min(a.shape[:2]) < SSIM_WINDOW:
        raise InputError(
            f"SSIM needs {SSIM_WINDOW} pixels a side, got {a.shape[1]}x{a.shape[0]}"
        )
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    mean_aa, mean_bb, mean_ab = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    variances = _blur(a * a + b * b) - mean_aa - mean_bb
    covariance = _blur(a * b) - mean_ab
    luminance = (2 * mean_ab + c1) / (mean_aa + mean_bb + c1)
    return float(np.mean(luminance * (2 * covariance + c2) / (variances + c2)))


def check_names(own: Mapping[str, Metric], *, reserved: Collection[str] = ()) -> None:
    """Check metrics of the user's own.

    Args:
        own: The metrics by name.
        reserved: Names that they must not have, beside those of PSNR and SSIM.

    Raises:
        InputError: if a name is no identifier or is taken, or one is no function.
    """
    for name, metric in own.items():
        if not (isinstance(name, str) and name.isidentifier()):
            raise InputError(f"metrics: {name!r} is no name; use letters, digits and _")
        if name in reserved or name.startswith(("psnr_", "ssim_", "flow_", "offset_")):
            raise InputError(f"metrics: {name} is the name of another score")
        if not callable(metric):
            raise InputError(
                f"metrics: {name} must be a function, got {type(metric).__name__}"
            )


def apply(
    own: Mapping[str, Metric], restored: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """Compute metrics of the user's own.

    Args:
        own: The metrics by name.
        restored: Restored frame, uint8 RGB [H, W, 3].
        truth: Ground truth, likewise.

    Raises:
        InputError: if a metric does not return a number.
    """
    scores = {}
    for name, metric in own.items():
        value = metric(restored, truth)
        try:
            scores[name] = float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"metric {name} must return a number, got {type(value).__name__}"
            ) from None
    return scores


def _prepare(
    a: ArrayLike, b: ArrayLike, width: int, channel: Channel
) -> tuple[np.ndarray, np.ndarray]:
    """Round, crop, take luma; two float64 images."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise InputError(
            "images must have one shape, [H, W, C] or [H, W], got "
            f"{a.shape} and {b.shape}"
        )
    a, b = np.atleast_3d(a), np.atleast_3d(b)
    for name, image in (("image a", a), ("image b", b)):
        pixels.check_range(image, name, hint=' (RGB with channel="y" for luma)')
    if channel not in ("rgb", "y"):
        raise InputError(f"channel must be rgb or y, got {channel!r}")
    if channel == "y" and a.shape[2] != 3:
        raise InputError(f"channel y needs RGB images, got {a.shape[2]} channels")
    a, b = (crop_border(pixels.to_uint8(image), width) for image in (a, b))
    if channel == "y":
        return rgb_to_y(a), rgb_to_y(b)
    return a.astype(np.float64), b.astype(np.float64)


def _blur(image: np.ndarray) -> np.ndarray:
    """Weight by the Gaussian window where it is inside the image."""
    window = cv2.getGaussianKernel(SSIM_WINDOW, SSIM_SIGMA)
    half = SSIM_WINDOW // 2
    return cv2.sepFilter2D(image, -1, window, window)[half:-half, half:-half]
