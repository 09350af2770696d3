"""MATLAB's ``imresize`` (bicubic), the source of every low-resolution benchmark.

Keys' cubic kernel with a = -0.5, widened by 1/scale when shrinking (antialiasing),
weights normalized per output pixel, borders mirrored with the edge pixel repeated.
Checked against the MATLAB port of BasicSR (``basicsr/utils/matlab_functions.py``).
"""

import functools
import math

import numpy as np

BLOCK = 16  # output pixels that share one matrix of weights
# Multiply-adds in one matrix product. OpenBLAS computes larger ones with threads,
# which wait for each other when every core has a loader process.
MAX_PRODUCT = 2**18
# Here the weights are short binary fractions: of 8-bit pixels the first pass is exact
# in float32, which halves its time, and both are in float64.
EXACT_SCALES = (1 / 4, 1 / 2, 2, 4)


def imresize(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize images like MATLAB's ``imresize(image, scale)``.

    NumPy and not ``jax.image.resize``: loader processes must not use the accelerator,
    and on a CPU the banded weights are several times faster.

    Args:
        image: Pixels in any range, [..., H, W, C]; uint8 or float.
        scale: Output size over input size; positive.

    Returns:
        [..., ceil(H*scale), ceil(W*scale), C], neither rounded nor clipped: float32
        for a float32 image, float64 for any other.

    Raises:
        ValueError: if the image has fewer than three axes or the scale is not
            positive.
    """
    if image.ndim < 3:
        raise ValueError(f"image must be [..., H, W, C], got shape {image.shape}")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be positive, got {scale}")
    dtype = np.float32 if image.dtype == np.float32 else np.float64
    is_exact = image.dtype == np.uint8 and scale in EXACT_SCALES
    row_dtype = np.float32 if is_exact else dtype
    *lead, height, width, channels = image.shape
    rows = image.astype(row_dtype, copy=False).reshape(-1, height, width * channels)
    rows = _resize_rows(rows, _row_bands(height, scale, row_dtype))
    out_height = rows.shape[1]
    columns = rows.reshape(-1, width * channels).astype(dtype, copy=False)
    columns = _resize_columns(columns, _column_bands(width, scale, channels, dtype))
    return columns.reshape(*lead, out_height, -1, channels)


def imresize_uint8(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize 8-bit images by :func:`imresize`, clipped and rounded to 8 bit again.

    Values halfway between two levels round alike on every machine where the scale is
    one of ``EXACT_SCALES``.

    Args:
        image: uint8, [..., H, W, C].
        scale: Output size over input size; positive.

    Returns:
        uint8, [..., ceil(H*scale), ceil(W*scale), C].
    """
    if scale == 1:
        return image
    return np.clip(np.rint(imresize(image, scale)), 0, 255).astype(np.uint8)


def cubic(x: np.ndarray) -> np.ndarray:
    """Evaluate Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _contributions(length: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Source pixels and their weights for each output pixel, both [out, taps]."""
    stretch = min(scale, 1.0)
    center = (np.arange(math.ceil(length * scale)) + 0.5) / scale - 0.5
    taps = math.ceil(4 / stretch) + 2
    index = np.floor(center - 2 / stretch).astype(int)[:, None] + np.arange(taps)
    weight = cubic(stretch * (center[:, None] - index))
    weight /= weight.sum(axis=1, keepdims=True)
    index %= 2 * length
    return np.where(index < length, index, 2 * length - 1 - index), weight


@functools.lru_cache(maxsize=64)
def _row_bands(
    length: int, scale: float, dtype: type
) -> tuple[tuple[slice, np.ndarray], ...]:
    """Cut the [out, in] weight matrix into blocks of rows without the outer zeros.

    Returns:
        For each block the source slice and its weights, [block, source].
    """
    index, weight = _contributions(length, scale)
    bands = []
    for first in range(0, len(index), BLOCK):
        source = index[first : first + BLOCK]
        low, high = source.min(), source.max() + 1
        band = np.zeros((len(source), high - low))
        rows = np.arange(len(source))[:, None]
        np.add.at(band, (rows, source - low), weight[first : first + BLOCK])
        bands.append((slice(low, high), band.astype(dtype)))
    return tuple(bands)


@functools.lru_cache(maxsize=64)
def _column_bands(
    length: int, scale: float, channels: int, dtype: type
) -> tuple[tuple[slice, np.ndarray], ...]:
    """Blocks for the last axis, where the channels of a pixel are adjacent.

    Returns:
        For each block the source slice and its weights, [source*C, block*C].
    """
    eye = np.eye(channels, dtype=dtype)
    return tuple(
        (slice(part.start * channels, part.stop * channels), np.kron(band.T, eye))
        for part, band in _row_bands(length, scale, dtype)
    )


def _resize_rows(
    image: np.ndarray, bands: tuple[tuple[slice, np.ndarray], ...]
) -> np.ndarray:
    """Resize the middle axis of [N, H, W*C]."""
    height = sum(len(band) for _, band in bands)
    out = np.empty((image.shape[0], height, image.shape[2]), image.dtype)
    first = 0
    for part, band in bands:
        last = first + len(band)
        for columns in _chunks(image.shape[2], band):
            np.matmul(band, image[:, part, columns], out=out[:, first:last, columns])
        first = last
    return out


def _resize_columns(
    image: np.ndarray, bands: tuple[tuple[slice, np.ndarray], ...]
) -> np.ndarray:
    """Resize the last axis of [N*H, W*C]."""
    width = sum(band.shape[1] for _, band in bands)
    out = np.empty((image.shape[0], width), image.dtype)
    first = 0
    for part, band in bands:
        last = first + band.shape[1]
        for rows in _chunks(image.shape[0], band):
            np.matmul(image[rows, part], band, out=out[rows, first:last])
        first = last
    return out


def _chunks(length: int, band: np.ndarray) -> list[slice]:
    step = max(1, MAX_PRODUCT // band.size)
    return [slice(first, first + step) for first in range(0, length, step)]
