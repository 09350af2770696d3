"""Colors through reading and writing, against the formulas worked out here."""

from fractions import Fraction

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from edvr_jax.data import alpha, video, yuv
from edvr_jax.restore import encoder
from edvr_jax.restore.colors import Colors

# Kr and Kb of BT.709, BT.601 and BT.2020, by FFmpeg's numbers.
SHARES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}
ROWS, COLUMNS, SIDE = 6, 8, 16  # patches of one color

every_kind = pytest.mark.parametrize(
    ("matrix", "is_full", "bits"),
    [(m, full, bits) for m in SHARES for full in (False, True) for bits in (8, 10)],
)


def formula(rgb, matrix, *, is_full, bits):
    """Y, U and V of RGB in [0, 1], in levels of ``bits`` bits; ITU-R BT.709, 3."""
    red, blue = SHARES[matrix]
    r, g, b = np.moveaxis(rgb, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    if is_full:
        largest = 2**bits - 1
        return [
            largest * y,
            largest * u + 2 ** (bits - 1),
            largest * v + 2 ** (bits - 1),
        ]
    return [2 ** (bits - 8) * x for x in (16 + 219 * y, 128 + 224 * u, 128 + 224 * v)]


def colors():
    return np.random.default_rng(0).uniform(0.1, 0.9, (ROWS, COLUMNS, 3))


def make_frame(planes, matrix, *, is_full, bits):
    """A 4:2:0 frame of patches."""
    dtype, suffix = (np.uint8, "") if bits == 8 else (np.uint16, "10le")
    frame = VideoFrame(COLUMNS * SIDE, ROWS * SIDE, f"yuv420p{suffix}")
    for plane, values, side in zip(
        frame.planes, planes, (SIDE, SIDE // 2, SIDE // 2), strict=True
    ):
        levels = np.rint(values).repeat(side, 0).repeat(side, 1)
        line = plane.line_size // np.dtype(dtype).itemsize
        buffer = np.zeros((plane.height, line), dtype)
        buffer[:, : levels.shape[1]] = levels
        plane.update(buffer.tobytes())
    frame.colorspace = matrix
    frame.color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
    return frame


def middles(frame):
    """The mean of the middle of each patch, of every plane."""
    found = []
    for plane in frame.planes:
        dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
        values = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        side = plane.width // COLUMNS
        patches = values[:, : plane.width].reshape(ROWS, side, COLUMNS, side)
        inner = slice(side // 4, side - side // 4)
        found.append(patches[:, inner, :, inner].mean((1, 3)))
    return found


@every_kind
def test_reading_follows_the_formula(matrix, is_full, bits):
    kind = {"is_full": is_full, "bits": bits}
    exact = formula(colors(), matrix, **kind)
    rgb = video.to_rgb(make_frame(exact, matrix, **kind), any_depth=True)
    assert rgb.dtype == (np.uint8 if bits == 8 else np.uint16)
    patches = rgb.reshape(ROWS, SIDE, COLUMNS, SIDE, 3)[:, 4:-4, :, 4:-4]
    read = patches.mean((1, 3)) / np.iinfo(rgb.dtype).max
    again = formula(read, matrix, **kind)
    for actual, wanted in zip(again, map(np.rint, exact), strict=True):
        # Of 255. Measured at most 0.05 for 8 bits, 0.001 for 10; the largest error of
        # a patch, of rounding RGB to 8 bits, is 0.44.
        error = (actual - wanted) * 255 / (2**bits - 1)
        assert abs(error.mean()) < 0.1
        assert np.abs(error).max() < (0.6 if bits == 8 else 0.01)


@every_kind
def test_writing_follows_the_formula(matrix, is_full, bits):
    largest, dtype = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    levels = np.rint(colors() * largest).astype(dtype)
    image = levels.repeat(SIDE, 0).repeat(SIDE, 1)
    frame = VideoFrame.from_ndarray(image, format="rgb24" if bits == 8 else "rgb48le")
    target = "yuv420p" if bits == 8 else "yuv420p10le"
    chosen = Colors(matrix=matrix, range=2 if is_full else 1)
    written = middles(encoder.to_yuv(frame, target, chosen))
    exact = formula(levels / largest, matrix, is_full=is_full, bits=bits)
    for actual, wanted in zip(written, exact, strict=True):
        # Of 255. Measured at most 0.03, and 0.1 in a patch of dithered levels.
        error = (actual - wanted) * 255 / (2**bits - 1)
        assert abs(error.mean()) < 0.1
        assert np.abs(error).max() < 0.3


@every_kind
def test_reading_and_writing_keep_the_levels(matrix, is_full, bits):
    """What an identity network makes of a video."""
    kind = {"is_full": is_full, "bits": bits}
    exact = formula(colors(), matrix, **kind)
    image = video.to_rgb(make_frame(exact, matrix, **kind), any_depth=True)
    rgb = VideoFrame.from_ndarray(image, format="rgb24" if bits == 8 else "rgb48le")
    chosen = Colors(matrix=matrix, range=2 if is_full else 1)
    target = "yuv420p" if bits == 8 else "yuv420p10le"
    written = middles(encoder.to_yuv(rgb, target, chosen))
    for actual, wanted in zip(written, map(np.rint, exact), strict=True):
        assert abs((actual - wanted).mean()) * 255 / (2**bits - 1) < 0.1


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "nv12", "yuvj420p", "gray"])
def test_other_formats_keep_gray(pix_fmt):
    """Also 4:2:2, 4:4:4, half-planar, old full range and one plane; no tint."""
    levels = np.linspace(20, 235, 12).astype(np.uint8)
    image = np.broadcast_to(levels.repeat(8)[None, :, None], (16, 96, 3)).copy()
    frame = VideoFrame.from_ndarray(image, format="rgb24")
    is_full = pix_fmt in ("yuvj420p", "gray")
    chosen = Colors(matrix=1, range=2 if is_full else 1)
    written = encoder.to_yuv(frame, pix_fmt, chosen)
    written.colorspace = 1
    written.color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
    again = video.to_rgb(written).astype(int)
    assert np.abs(again - image).max() <= 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "bgr0"])
def test_times_of_a_frame_survive_its_conversion(pix_fmt):
    frame = VideoFrame(SIDE, SIDE, "rgb24")
    frame.pts, frame.duration, frame.time_base = 7, 2, Fraction(1, 25)

    converted = encoder.to_yuv(frame, pix_fmt, Colors())

    assert converted.format.name == pix_fmt
    assert (converted.pts, converted.duration) == (7, 2)
    assert converted.time_base == Fraction(1, 25)


@pytest.mark.parametrize(
    ("pix_fmt", "opaque", "error"),
    [
        ("yuva420p", "yuv420p", 0),
        ("yuva422p10le", "yuv422p10le", 0.13),
        ("yuva444p12le", "yuv444p12le", 0.04),
        ("yuva444p16le", "yuv444p16le", 0),
        ("gbrap", "gbrp", 0),
        ("gbrap12le", "gbrp12le", 0.1),
        ("argb", "bgr0", 0),
        ("rgba64be", "gbrp16le", 0),
    ],
)
def test_alpha_beside_the_colors(pix_fmt, opaque, error):
    """Also with an odd side; the colors are those of the format without alpha."""
    is_deep = not pix_fmt.endswith(("p", "b"))
    largest, dtype = (65535, np.uint16) if is_deep else (255, np.uint8)
    rng = np.random.default_rng(0)
    image = rng.integers(0, largest + 1, (34, 46, 4), dtype)
    colors = Colors(matrix=1, range=1)
    frames = [
        encoder.to_yuv(yuv.to_frame(part), name, colors)
        for part, name in ((image, pix_fmt), (image[..., :3], opaque))
    ]
    for frame in frames:
        frame.colorspace, frame.color_range = 1, ColorRange.MPEG
    with_alpha, plain = (
        video.to_rgb(frame, any_depth=True, with_alpha=True) for frame in frames
    )
    assert [alpha.is_in(frame) for frame in frames] == [True, False]
    assert with_alpha.dtype == dtype
    np.testing.assert_array_equal(with_alpha[..., :3], plain[..., :3])
    assert (plain[..., 3] == largest).all()
    off = (with_alpha[..., 3].astype(float) - image[..., 3]) * 255 / largest
    assert np.abs(off).max() <= error  # of 255; half a level and swscale's rounding
