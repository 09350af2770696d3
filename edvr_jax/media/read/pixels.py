"""Frames as arrays: checks and conversions of their size, depth and range."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from edvr_jax.errors import InputError

MAX_OVERSHOOT = 0.25  # beyond [0, 1], by sharp edges of a restored image


def to_float(image: Any) -> Any:
    """Convert uint8, uint16, or float in [0, 1] to float32 in [0, 1].

    Args:
        image: A NumPy or JAX array of any shape.
    """
    scaled = image.astype(np.float32)
    if np.issubdtype(image.dtype, np.integer):
        scaled = scaled / np.iinfo(image.dtype).max
    return scaled


def to_levels(image: Any, dtype: Any) -> Any:
    """Convert an image to the levels of an integer type, clipped and rounded.

    Args:
        image: uint8, uint16, or float in [0, 1]; a NumPy or JAX array of any shape.
        dtype: uint8 or uint16; a float type returns the image unchanged.

    Returns:
        An array of the same library.
    """
    if image.dtype == dtype or not np.issubdtype(dtype, np.integer):
        return image
    if np.issubdtype(image.dtype, np.integer):
        image = to_float(image)
    xp = image.__array_namespace__()
    scaled = xp.clip(image, 0, 1) * np.float32(np.iinfo(dtype).max)
    return xp.rint(scaled).astype(dtype)


def to_uint8(image: ArrayLike) -> np.ndarray:
    """Clip and round an image, float in [0, 1] or already uint8, to uint8.

    Raises:
        InputError: for another type.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise InputError(f"image must be uint8 or float in [0, 1], got {image.dtype}")
    return to_levels(image, np.uint8)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize by the Lanczos filter, widened against aliasing when shrinking.

    Args:
        image: [H, W, C] or [H, W], uint8 or uint16; channels do not mix.
        size: New height and width.
    """
    if image.shape[:2] == size:
        return image
    new = (size[1], size[0])
    # Pillow has no images of 16 bits and three channels, and multiplies RGB by alpha.
    word = np.uint8 if image.dtype == np.uint8 else np.float32
    channels = [
        Image.fromarray(channel).resize(new, Image.Resampling.LANCZOS)
        for channel in np.moveaxis(np.atleast_3d(image).astype(word), -1, 0)
    ]
    resized = np.stack([np.asarray(channel) for channel in channels], axis=-1)
    if resized.dtype != image.dtype:
        largest = np.iinfo(image.dtype).max
        resized = np.rint(np.clip(resized, 0, largest)).astype(image.dtype)
    return resized.reshape(*size, *image.shape[2:])


def check_size(shape: tuple[int, ...], size: tuple[int, ...], name: object) -> None:
    """Check that a frame has the size of the first one.

    Args:
        shape: Of the frame, [H, W, C].
        size: Height and width of the first frame.
        name: The frame's name in the message.

    Raises:
        InputError: if the size differs.
    """
    if shape[:2] != size:
        raise InputError(
            f"{name} is {width_x_height(shape)} but the first frame is "
            f"{width_x_height(size)}; all frames of a clip must have one size: resize "
            "the others (of a video, ffmpeg -i IN OUT does)"
        )


def check_depth(dtype: np.dtype, first: np.dtype, name: object) -> None:
    """Check that a frame has the bit depth of the first one.

    Raises:
        InputError: if it differs.
    """
    if dtype != first:
        raise InputError(
            f"{name} is {dtype} but the first frame is {first}; all frames of a clip "
            "must have one bit depth"
        )


def check_range(image: np.ndarray, name: str, *, hint: str = "") -> None:
    """Check that the values of a float image are in [0, 1].

    Clipping would hide an image of another range, such as [-1, 1] or 0..255. A small
    overshoot (``MAX_OVERSHOOT``) is allowed.

    Raises:
        InputError: if a value is outside, or NaN.
    """
    if not np.issubdtype(image.dtype, np.floating) or not image.size:
        return
    low, high = float(image.min()), float(image.max())  # NaN if there is one
    if not (low >= -MAX_OVERSHOOT and high <= 1 + MAX_OVERSHOOT):
        raise InputError(
            f"{name} must have values in [0, 1], but they are from {low:.4g} to "
            f"{high:.4g}; scale them, or pass 8-bit images as uint8{hint}"
        )


def width_x_height(size: tuple[int, ...]) -> str:
    """Write a size given as height and width, such as (1080, 1920), as 1920x1080."""
    return f"{size[1]}x{size[0]}"


def describe(size: tuple[int, ...], dtype: np.dtype) -> str:
    """Describe the size and bit depth of frames."""
    depth = "8 bits" if dtype == np.uint8 else "more than 8 bits"
    return f"{width_x_height(size)} with {depth}"
