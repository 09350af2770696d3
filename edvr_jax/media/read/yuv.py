"""Convert RGB to YUV and back by the formulas of ITU-R BT.601, BT.709 and BT.2020.

FFmpeg's swscale resamples chroma exactly, but its matrices are off by up to 0.9 of 255
for more than 8 bits and by 0.6 for full range, and so are its changes of bit depth
where no chroma is resampled: there the planes are read and written directly.
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
_YUV_16 = "yuv444p16le"  # swscale converts subsampled YUV to and from it exactly
# Formats without subsampled chroma, in words that NumPy knows.
_PLAIN = re.compile(r"(gray|ya|yuv[aj]?444p)\d*(msb)?(le|be)?")

# FFmpeg's names of RGB and RGBA in memory, by dtype and channels.
LAYOUTS = {
    ("uint8", 3): "rgb24",
    ("uint16", 3): "rgb48le",
    ("uint8", 4): "rgba",
    ("uint16", 4): "rgba64le",
}

# Weights of red and blue in luma, by the number of the matrix (ITU-T H.273).
_LUMA = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}


def bit_depth(pixel_format: VideoFormat) -> int:
    """Return the bits per component of a pixel format."""
    return max(component.bits for component in pixel_format.components)


def fits(pix_fmt: str, size: tuple[int, int]) -> bool:
    """Return whether a pixel format can have this height and width."""
    pixel_format = VideoFormat(pix_fmt, 16, 16)
    height, width = size
    return not (
        height % (16 // pixel_format.chroma_height(16))
        or width % (16 // pixel_format.chroma_width(16))
    )


def is_known(matrix: int, pixel_format: VideoFormat) -> bool:
    """Return whether there is a formula for a matrix and a pixel format."""
    is_yuv = len(pixel_format.components) >= 3 and not pixel_format.is_rgb
    return matrix in _LUMA and (is_yuv or _is_plain(pixel_format))


def to_frame(image: np.ndarray) -> VideoFrame:
    """Return an image, RGB or RGBA, uint8 or uint16, as a video frame."""
    layout = LAYOUTS[image.dtype.name, image.shape[2]]
    return VideoFrame.from_ndarray(np.ascontiguousarray(image), format=layout)


def read_frame(
    frame: VideoFrame, matrix: int, color_range: int, dtype: type
) -> np.ndarray:
    """Convert a decoded frame, YUV or gray, to RGB.

    Args:
        frame: Of a matrix and format that :func:`is_known`.
        matrix: Its number (ITU-T H.273).
        color_range: FFmpeg's number.
        dtype: np.uint8 or np.uint16.

    Returns:
        RGB, [H, W, 3].
    """
    bits = bit_depth(frame.format)
    if _is_plain(frame.format):
        image = _read_planes(frame)
        word_bits = 16 if _is_high(frame.format) else bits
    else:
        image = _resample(frame, _YUV_16, matrix, color_range).to_ndarray()
        word_bits = 16
    forward, offset = _transform(matrix, color_range, bits)
    largest = np.iinfo(dtype).max
    inverse = np.linalg.inv(forward) * largest
    scale = 2 ** (16 - word_bits)
    return _apply(image, inverse * scale, -inverse @ offset, largest)


def write_frame(
    frame: VideoFrame, pix_fmt: str, matrix: int, color_range: int
) -> VideoFrame:
    """Convert a frame, with its times, to YUV or gray.

    Args:
        frame: In a format of ``LAYOUTS``, with alpha for a format that has it.
        pix_fmt: FFmpeg's name of the new format, which :func:`is_known`.
        matrix: Its number (ITU-T H.273).
        color_range: FFmpeg's number.
    """
    target, rgb = VideoFormat(pix_fmt), frame.to_ndarray()
    most = 255 if rgb.dtype == np.uint8 else 65535
    # Levels are computed with fractions where swscale reduces them after resampling.
    word_bits = bit_depth(target) if _is_plain(target) else 16
    forward, offset = _transform(matrix, color_range, bit_depth(target))
    scale = 2.0 ** (word_bits - 16)
    forward = forward / most * scale
    image = _apply(rgb[..., :3], forward, offset * scale, 2**word_bits - 1)
    if _is_plain(target):
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


def _is_plain(pixel_format: VideoFormat) -> bool:
    is_match = _PLAIN.fullmatch(pixel_format.name) is not None
    return is_match and bit_depth(pixel_format) <= 16


def _is_high(pixel_format: VideoFormat) -> bool:
    """Return whether levels are stored in the upper bits of their words."""
    return "msb" in pixel_format.name


def _read_planes(frame: VideoFrame) -> np.ndarray:
    """Return Y, U and V as they are stored, [H, W, 3]; gray gets neutral U and V."""
    bits = bit_depth(frame.format)
    word = np.uint8 if bits == 8 else np.uint16
    channels = [
        planes.view(frame, number)[..., 0].astype(word, copy=False)
        for number in range(min(3, len(frame.planes)))
    ]
    if len(channels) == 1:
        channels += 2 * [np.full_like(channels[0], 2 ** (bits - 1))]
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
    """Change the chroma sampling and the bit depth of YUV, not matrix and range."""
    return frame.reformat(
        format=pix_fmt,
        src_color_range=color_range,
        dst_color_range=color_range,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation=SWSCALE_FLAGS,
    )


def _transform(
    matrix: int, color_range: int, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the affine map from RGB in [0, 1] to YUV with levels in the upper bits.

    A 3x3 matrix and an offset; YUV has words of 16 bits.
    """
    red, blue = _LUMA[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    rows = [
        luma,
        (np.array([0, 0, 1]) - luma) / (2 * (1 - blue)),
        (np.array([1, 0, 0]) - luma) / (2 * (1 - red)),
    ]
    if color_range == ColorRange.JPEG:
        largest = (2**bits - 1) * 2 ** (16 - bits)
        scale, black = np.full(3, largest), 0
    else:
        scale, black = np.array([219, 224, 224]) * 256, 16 * 256
    return scale[:, None] * np.array(rows), np.array([black, 2**15, 2**15])


def _apply(
    image: np.ndarray, matrix: np.ndarray, offset: np.ndarray, largest: int
) -> np.ndarray:
    """Map the channels of an image, [H, W, 3]; clip to 0..largest and round."""
    affine = np.column_stack([matrix, offset]).astype(np.float32)
    pixels = cv2.transform(image.astype(np.float32), affine)
    dtype = np.uint8 if largest < 256 else np.uint16
    return np.rint(np.clip(pixels, 0, largest)).astype(dtype)
