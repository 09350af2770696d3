"""RGB to YUV and back by the formulas of ITU-R BT.601, BT.709 and BT.2020.

FFmpeg's swscale resamples chroma exactly, but its matrices are off by up to 0.9 of 255
for more than 8 bits and by 0.6 for full range, and so is its change of the depth where
no chroma is resampled: there the planes are read and written as they are.
"""

import re

import cv2
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation

from edvr_jax.media.read import alpha, planes

# swscale's defaults interpolate chroma coarsely and round inexactly.
SWSCALE_FLAGS = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_YUV_16 = "yuv444p16le"  # to and from which swscale converts subsampled YUV exactly
# Formats whose chroma, if any, is not subsampled, in words that NumPy knows.
_PLAIN = re.compile(r"(gray|ya|yuv[aj]?444p)\d*(msb)?(le|be)?")

# Of RGB and RGBA in memory, by type and channels.
LAYOUTS = {
    ("uint8", 3): "rgb24",
    ("uint16", 3): "rgb48le",
    ("uint8", 4): "rgba",
    ("uint16", 4): "rgba64le",
}

# Shares of red and blue in luma, by FFmpeg's number of the matrix (ITU-T H.273).
_LUMA = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}


def bit_depth(pixel_format: VideoFormat) -> int:
    """Return the bits of each component of a pixel format."""
    return max(component.bits for component in pixel_format.components)


def fits(pix_fmt: str, size: tuple[int, int]) -> bool:
    """Report whether a pixel format has whole chroma pixels at a height and width."""
    pixel_format = VideoFormat(pix_fmt, 16, 16)
    height, width = size
    return not (
        height % (16 // pixel_format.chroma_height(16))
        or width % (16 // pixel_format.chroma_width(16))
    )


def is_known(matrix: int, pixel_format: VideoFormat) -> bool:
    """Report whether there is a formula for a matrix and a format, YUV or gray."""
    is_yuv = len(pixel_format.components) >= 3 and not pixel_format.is_rgb
    return matrix in _LUMA and (is_yuv or _is_plain(pixel_format))


def to_frame(image: np.ndarray) -> VideoFrame:
    """Return an image, RGB or RGBA, uint8 or uint16, as a frame without a time."""
    layout = LAYOUTS[image.dtype.name, image.shape[2]]
    return VideoFrame.from_ndarray(np.ascontiguousarray(image), format=layout)


def read_frame(
    frame: VideoFrame, matrix: int, color_range: int, dtype: type
) -> np.ndarray:
    """Convert a decoded frame to RGB, [H, W, 3] uint8 or uint16."""
    is_full, bits = color_range == ColorRange.JPEG, bit_depth(frame.format)
    word_bits = 16
    if not _is_plain(frame.format):
        image = _resample(frame, _YUV_16, matrix, color_range).to_ndarray()
    else:
        image = _read_planes(frame)
        word_bits = 16 if _is_high(frame.format) else bits
    return to_rgb(
        image, matrix, is_full=is_full, bits=bits, word_bits=word_bits, dtype=dtype
    )


def write_frame(
    frame: VideoFrame, pix_fmt: str, matrix: int, color_range: int
) -> VideoFrame:
    """Convert a frame, with its times, to YUV or gray.

    Args:
        frame: Of rgb24 or rgb48le; of rgba or rgba64le for a format with alpha.
        pix_fmt: FFmpeg's name of the format.
        matrix: FFmpeg's number.
        color_range: FFmpeg's number.
    """
    target = VideoFormat(pix_fmt)
    is_full, bits = color_range == ColorRange.JPEG, bit_depth(target)
    rgb = frame.to_ndarray()
    is_plain = _is_plain(target)
    image = from_rgb(
        rgb[..., :3],
        matrix,
        is_full=is_full,
        bits=bits,
        word_bits=bits if is_plain else 16,
    )
    if is_plain:
        written = _write_planes(image, pix_fmt)
    else:
        pixels = VideoFrame.from_ndarray(image, format=_YUV_16)
        written = _resample(pixels, pix_fmt, matrix, color_range)
    written.pts, written.duration = frame.pts, frame.duration
    if frame.time_base:
        written.time_base = frame.time_base
    written.colorspace, written.color_range = matrix, color_range
    if rgb.shape[2] == 4:
        alpha.write(written, rgb[..., 3])
    return written


def to_rgb(
    image: np.ndarray,
    matrix: int,
    *,
    is_full: bool,
    bits: int,
    word_bits: int,
    dtype: type,
) -> np.ndarray:
    """Convert YUV to RGB.

    Args:
        image: Y, U and V, [H, W, 3] uint8 or uint16.
        matrix: FFmpeg's number.
        is_full: The range is full, else limited (16 to 235 of 8 bits).
        bits: Bits of each component.
        word_bits: Bits of the words whose upper ``bits`` bits are the levels.
        dtype: np.uint8 or np.uint16.

    Returns:
        RGB, [H, W, 3], rounded.
    """
    forward, offset = _transform(matrix, bits, is_full=is_full)
    inverse = np.linalg.inv(forward) * np.iinfo(dtype).max
    affine = np.column_stack([inverse * 2 ** (16 - word_bits), -inverse @ offset])
    pixels = cv2.transform(image.astype(np.float32), affine.astype(np.float32))
    return _round(pixels, np.iinfo(dtype).max)


def from_rgb(
    image: np.ndarray, matrix: int, *, is_full: bool, bits: int, word_bits: int
) -> np.ndarray:
    """Convert RGB to YUV.

    Args:
        image: RGB, [H, W, 3] uint8 or uint16.
        matrix: FFmpeg's number.
        is_full: The range is full, else limited.
        bits: Bits that each component will have.
        word_bits: Bits of the words that are returned.

    Returns:
        Y, U and V, [H, W, 3] uint8 or uint16, in the upper ``bits`` bits of the words
        and with fractions of a level below, rounded.
    """
    forward, offset = _transform(matrix, bits, is_full=is_full)
    affine = np.column_stack([forward / np.iinfo(image.dtype).max, offset])
    affine /= 2 ** (16 - word_bits)
    pixels = cv2.transform(image.astype(np.float32), affine.astype(np.float32))
    return _round(pixels, 2**word_bits - 1)


def _is_plain(pixel_format: VideoFormat) -> bool:
    is_match = _PLAIN.fullmatch(pixel_format.name) is not None
    return is_match and bit_depth(pixel_format) <= 16


def _is_high(pixel_format: VideoFormat) -> bool:
    """Report whether levels are in the upper bits of their words."""
    return "msb" in pixel_format.name


def _read_planes(frame: VideoFrame) -> np.ndarray:
    """Y, U and V as they are stored, [H, W, 3]; gray gets U and V."""
    word = np.uint8 if bit_depth(frame.format) == 8 else np.uint16
    numbers = range(min(3, len(frame.planes)))
    channels = [
        planes.view(frame, number)[..., 0].astype(word, copy=False)
        for number in numbers
    ]
    if len(channels) == 1:
        middle = 2 ** (bit_depth(frame.format) - 1)
        channels += 2 * [np.full_like(channels[0], middle)]
    return cv2.merge(channels)


def _write_planes(levels: np.ndarray, pix_fmt: str) -> VideoFrame:
    """Store Y, U and V, [H, W, 3], opaque if the format has alpha."""
    written = VideoFrame(levels.shape[1], levels.shape[0], pix_fmt)
    bits = bit_depth(written.format)
    if _is_high(written.format):
        levels = levels << (16 - bits)
    for number in range(len(written.planes)):
        plane = planes.view(written, number)
        plane[:] = 2**bits - 1  # alpha, in the last plane or beside gray
        if number < 3:
            plane[..., 0] = levels[..., number]
    return written


def _resample(
    frame: VideoFrame, pix_fmt: str, matrix: int, color_range: int
) -> VideoFrame:
    """Change the chroma and the depth of YUV; the matrix and the range stay."""
    return frame.reformat(
        format=pix_fmt,
        src_color_range=color_range,
        dst_color_range=color_range,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation=SWSCALE_FLAGS,
    )


def _transform(
    matrix: int, bits: int, *, is_full: bool
) -> tuple[np.ndarray, np.ndarray]:
    """RGB in [0, 1] to YUV in 16 bits: a 3x3 matrix, and what is added."""
    red, blue = _LUMA[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    rows = [
        luma,
        (np.array([0, 0, 1]) - luma) / (2 * (1 - blue)),
        (np.array([1, 0, 0]) - luma) / (2 * (1 - red)),
    ]
    if is_full:
        largest = (2**bits - 1) * 2 ** (16 - bits)
        scale, black = np.full(3, largest), 0
    else:
        scale, black = np.array([219, 224, 224]) * 256, 16 * 256
    return scale[:, None] * np.array(rows), np.array([black, 2**15, 2**15])


def _round(pixels: np.ndarray, largest: int) -> np.ndarray:
    dtype = np.uint8 if largest < 256 else np.uint16
    return np.rint(np.clip(pixels, 0, largest)).astype(dtype)
