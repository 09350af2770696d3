"""Convert decoded frames to RGB.

Frames are upright: the rotation and mirroring that phones store as metadata are
applied. YUV becomes RGB by the tagged matrix and range; an untagged file is taken as
BT.709 if it is high definition, else as BT.601, as players do.
"""

import math
from typing import Any

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from edvr_jax.media.read import alpha, yuv
from edvr_jax.media.read.yuv import SWSCALE_FLAGS, bit_depth

_RGB_COLORSPACE = 0  # AVCOL_SPC_RGB
_UNSPECIFIED_COLORSPACE = 2  # AVCOL_SPC_UNSPECIFIED


def side_data(frame: VideoFrame) -> dict[str, Any]:
    """Return the side data of a frame by FFmpeg's names.

    Empty if PyAV does not know one of the kinds, such as the EXIF of a JPEG.
    """
    try:
        # frame.side_data would keep the frame alive by a reference cycle.
        return {item.type.name: item for item in SideDataContainer(frame)}  # pyright: ignore
    except ValueError:
        return {}


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Return how to show a decoded frame, by its display matrix.

    It maps (x, y), y pointing down, to (a x + c y, b x + d y), and is stored as
    (a, b, u), (c, d, v), (x, y, w). Source: FFmpeg, libavutil/display.h.

    Returns:
        The number of quarter turns counterclockwise, 0 to 3, and whether the frame is
        first mirrored left to right.
    """
    matrix = side_data(frame).get("DISPLAYMATRIX")
    if matrix is None:
        return round(frame.rotation / 90) % 4, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    is_mirrored = a * d < b * c
    # The direction of the x axis, which is (1, 0), or (-1, 0) once mirrored.
    angle = math.atan2(b, -a) if is_mirrored else math.atan2(-b, a)
    return round(angle / (math.pi / 2)) % 4, is_mirrored


def to_rgb(
    frame: VideoFrame, *, keep_bit_depth: bool = False, with_alpha: bool = False
) -> np.ndarray:
    """Convert a decoded frame to RGB, upright, [H, W, 3].

    Args:
        frame: A frame of :func:`edvr_jax.media.read.decode.decode`.
        keep_bit_depth: Return a frame of more than 8 bits as uint16, 0 to 65535; else
            every frame is uint8.
        with_alpha: Add the alpha, [H, W, 4]; the colors are not multiplied by it.

    Returns:
        A contiguous array.
    """
    is_high_bit_depth = keep_bit_depth and bit_depth(frame.format) > 8
    matrix = matrix_of(frame)
    if matrix is not None and yuv.is_known(matrix, frame.format):
        dtype = np.uint16 if is_high_bit_depth else np.uint8
        image = yuv.read_frame(frame, matrix, range_of(frame), dtype)
    else:
        image = frame.to_ndarray(
            format="rgb48le" if is_high_bit_depth else "rgb24",
            src_colorspace=matrix,
            interpolation=SWSCALE_FLAGS,
        )
    if with_alpha:
        image = np.dstack([image, alpha.read(frame, image.dtype)])
    turns, is_mirrored = orientation(frame)
    image = image[:, ::-1] if is_mirrored else image
    return np.ascontiguousarray(np.rot90(image, turns))


def blank(
    frame: VideoFrame, *, keep_bit_depth: bool = False, with_alpha: bool = False
) -> np.ndarray:
    """Return black in the size and type of :func:`to_rgb`."""
    is_high_bit_depth = keep_bit_depth and bit_depth(frame.format) > 8
    dtype = np.uint16 if is_high_bit_depth else np.uint8
    size = frame.height, frame.width
    is_turned = orientation(frame)[0] % 2
    return np.zeros((*size[:: -1 if is_turned else 1], 4 if with_alpha else 3), dtype)


def range_of(frame: VideoFrame) -> ColorRange:
    """Return the range of a frame; if untagged, gray is full and YUV limited."""
    name, tag = frame.format.name, frame.color_range
    if name.startswith("yuvj") or tag == ColorRange.JPEG:
        return ColorRange.JPEG
    is_gray = name.startswith(("gray", "ya"))
    is_full = is_gray and tag != ColorRange.MPEG
    return ColorRange.JPEG if is_full else ColorRange.MPEG


def matrix_of(frame: VideoFrame) -> int | None:
    """Return the number of a frame's YUV matrix (ITU-T H.273); None if it is RGB."""
    if frame.format.is_rgb:
        return None
    unusable = [_UNSPECIFIED_COLORSPACE]
    if len(frame.format.components) < 3:
        unusable.append(_RGB_COLORSPACE)  # the tag of gray and of palettes from PNG
    if frame.colorspace not in unusable:
        return int(frame.colorspace)
    return guess_matrix(frame.height, frame.width)


def guess_matrix(height: int, width: int) -> int:
    """Return the number of the matrix that players use for an untagged file."""
    is_hd = width >= 1280 or height > 576
    return int(Colorspace.ITU709 if is_hd else Colorspace.SMPTE170M)
