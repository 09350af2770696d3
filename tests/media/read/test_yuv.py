"""Colors through reading and writing, against the formulas worked out here."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from edvr_jax.media.read import alpha, frame_rgb, planes, yuv
from edvr_jax.media.read.colors import Colors
from edvr_jax.media.write import encode

# Kr and Kb of BT.709, BT.601 and BT.2020, by FFmpeg's numbers.
SHARES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}
ROWS, COLUMNS, SIDE = 12, 16, 16  # patches of one color

# 4:4:4 and gray need no resampling of chroma, for which swscale copies the planes.
COMMON = [
    f"yuv{chroma}p{b}" for chroma in (420, 422, 444) for b in ("", "10le", "12le")
]
OTHERS = [
    *("yuv440p", "yuva420p", "yuva444p", "yuva444p10le", "yuv444p9le", "yuv444p14le"),
    *("yuv444p16le", "yuv444p10be", "yuv444p10msble", "nv12", "nv16", "nv24"),
    *("p010le", "p410le", "gray", "gray10le", "gray16be", "ya8", "ya16le"),
]
OLD_FULL = ["yuvj420p", "yuvj422p", "yuvj444p"]

every_kind = pytest.mark.parametrize(
    ("pix_fmt", "matrix", "is_full"),
    [
        *itertools.product(COMMON, SHARES, (False, True)),
        *itertools.product(OTHERS, (1,), (False, True)),
        *itertools.product(OLD_FULL, (1,), (True,)),
    ],
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


def colors(pix_fmt):
    drawn = np.random.default_rng(0).uniform(0.1, 0.9, (ROWS, COLUMNS, 3))
    is_gray = pix_fmt.startswith(("gray", "ya"))
    return drawn.mean(2, keepdims=True).repeat(3, 2) if is_gray else drawn


def bits_of(pix_fmt):
    return yuv.bit_depth(VideoFormat(pix_fmt))


def shift_of(pix_fmt):
    """Bits below the levels in their words."""
    is_high = pix_fmt.startswith("p") or "msb" in pix_fmt
    return 16 - bits_of(pix_fmt) if is_high else 0


def view(frame, index):
    """The words of a component, as they are stored."""
    number = frame.format.components[index].plane
    before = [c.plane for c in frame.format.components[:index]]
    return planes.view(frame, number)[..., before.count(number)]


def make_frame(channels, pix_fmt, matrix, *, is_full):
    """A frame of patches, opaque."""
    frame = VideoFrame(COLUMNS * SIDE, ROWS * SIDE, pix_fmt)
    for index, component in enumerate(frame.format.components):
        levels = np.full((ROWS, COLUMNS), 2**component.bits - 1)
        if not component.is_alpha:
            levels = np.rint(channels[index]).astype(int) << shift_of(pix_fmt)
        height, width = component.height // ROWS, component.width // COLUMNS
        view(frame, index)[:] = levels.repeat(height, 0).repeat(width, 1)
    frame.colorspace = matrix
    frame.color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
    return frame


def middles(frame):
    """The mean of the middle of each patch, of Y, U and V."""
    found = []
    for index, component in enumerate(frame.format.components[:3]):
        if component.is_alpha:
            continue
        values = view(frame, index) >> shift_of(frame.format.name)
        rows, columns = component.height // ROWS, component.width // COLUMNS
        patches = values.reshape(ROWS, rows, COLUMNS, columns)
        inner = [slice(n // 4, n - n // 4) for n in (rows, columns)]
        found.append(patches[:, inner[0], :, inner[1]].mean((1, 3)))
    return found


def in_255(levels, pix_fmt):
    return levels * 255 / (2 ** bits_of(pix_fmt) - 1)


@every_kind
def test_reading_follows_the_formula(pix_fmt, matrix, is_full):
    bits = bits_of(pix_fmt)
    exact = formula(colors(pix_fmt), matrix, is_full=is_full, bits=bits)
    frame = make_frame(exact, pix_fmt, matrix, is_full=is_full)
    rgb = frame_rgb.to_rgb(frame, keep_bit_depth=True)
    assert rgb.dtype == (np.uint8 if bits == 8 else np.uint16)
    patches = rgb.reshape(ROWS, SIDE, COLUMNS, SIDE, 3)[:, 4:-4, :, 4:-4]
    read = patches.mean((1, 3)) / np.iinfo(rgb.dtype).max
    again = formula(read, matrix, is_full=is_full, bits=bits)
    for actual, wanted in zip(again, map(np.rint, exact), strict=True):
        # Of 255. Measured at most 0.04 for 8 bits, 0.001 for more; the largest error of
        # a patch, of rounding RGB to 8 bits, is 0.5.
        error = in_255(actual - wanted, pix_fmt)
        assert abs(error.mean()) < 0.1
        assert np.abs(error).max() < (0.6 if bits == 8 else 0.01)


@every_kind
def test_writing_follows_the_formula(pix_fmt, matrix, is_full):
    bits = bits_of(pix_fmt)
    largest, dtype = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    levels = np.rint(colors(pix_fmt) * largest).astype(dtype)
    image = levels.repeat(SIDE, 0).repeat(SIDE, 1)
    chosen = Colors(matrix=matrix, range=2 if is_full else 1)
    frame = encode.to_yuv(yuv.to_frame(image), pix_fmt, chosen)
    assert (frame.colorspace, frame.color_range) == (matrix, chosen.range)
    written = middles(frame)
    exact = formula(levels / largest, matrix, is_full=is_full, bits=bits)
    for actual, wanted in zip(written, exact, strict=False):
        # Of 255. Measured at most 0.04; in a patch half a level, or 0.1 with dithering.
        error = in_255(actual - wanted, pix_fmt)
        assert abs(error.mean()) < 0.1
        assert np.abs(error).max() < 0.51


@every_kind
def test_reading_and_writing_keep_the_levels(pix_fmt, matrix, is_full):
    """What an identity network makes of a video."""
    bits = bits_of(pix_fmt)
    exact = formula(colors(pix_fmt), matrix, is_full=is_full, bits=bits)
    frame = make_frame(exact, pix_fmt, matrix, is_full=is_full)
    image = frame_rgb.to_rgb(frame, keep_bit_depth=True)
    chosen = Colors(matrix=matrix, range=2 if is_full else 1)
    written = middles(encode.to_yuv(yuv.to_frame(image), pix_fmt, chosen))
    for actual, wanted in zip(written, map(np.rint, exact), strict=False):
        assert abs(in_255(actual - wanted, pix_fmt).mean()) < 0.1


def test_a_plane_is_viewed_as_it_is_stored():
    """Interleaved, of either byte order, padded, and bottom up."""
    frame = VideoFrame(3, 2, "nv24")
    planes.view(frame, 1)[..., 1] = 7
    planes.view(frame, 1)[..., 0] = [[1, 2, 3], [4, 5, 6]]
    line = frame.planes[1].line_size
    assert bytes(frame.planes[1])[line : line + 6] == bytes([4, 7, 5, 7, 6, 7])

    frame = VideoFrame(3, 2, "gray16be")
    planes.view(frame, 0)[:] = 258
    assert bytes(frame.planes[0])[:6] == bytes([1, 2] * 3)

    frame.pts, frame.time_base = 0, Fraction(1, 25)
    planes.view(frame, 0)[..., 0] = [[1, 2, 3], [4, 5, 6]]
    graph = av.filter.Graph()
    given = graph.add_buffer(
        width=3, height=2, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(given, graph.add("vflip"), graph.add("buffersink")).configure()
    graph.push(frame)
    flipped = graph.pull()
    assert flipped.planes[0].line_size < 0
    seen = planes.view(flipped, 0)[..., 0]
    np.testing.assert_array_equal(seen, [[4, 5, 6], [1, 2, 3]])


def test_gray_is_full_range_unless_it_is_tagged():
    """As FFmpeg takes it, and as its encoders are set."""
    frame = VideoFrame(16, 16, "gray")
    planes.view(frame, 0)[:] = 235
    assert frame_rgb.to_rgb(frame).max() == 235
    frame.color_range = ColorRange.MPEG
    assert frame_rgb.to_rgb(frame).min() == 255
    fps = Fraction(25)
    limited = {"codec": "ffv1", "colors": Colors(range=1)}
    for pix_fmt, wanted in (("gray", 2), ("gray10le", 2), ("ya8", 2), ("yuv420p", 1)):
        request = encode.EncodingRequest(
            Path("a.mkv"), (16, 16), fps, 1 / fps, pix_fmt=pix_fmt, **limited
        )
        made = encode.choose_encoding(request)
        assert made.colors.range == wanted


@pytest.mark.parametrize("pix_fmt", ["gray", "ya8", "pal8"])
def test_png_without_chroma_is_not_taken_for_rgb(pix_fmt):
    """FFmpeg tags it so; the output would be YUV with the tag of RGB."""
    frame = VideoFrame(16, 16, pix_fmt)
    frame.colorspace = 0
    assert frame_rgb.matrix_of(frame) == 5  # of a small frame: BT.601


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "nv12", "yuvj420p", "gray"])
def test_other_formats_keep_gray(pix_fmt):
    """Also 4:2:2, 4:4:4, half-planar, old full range and one plane; no tint."""
    levels = np.linspace(20, 235, 12).astype(np.uint8)
    image = np.broadcast_to(levels.repeat(8)[None, :, None], (16, 96, 3)).copy()
    frame = VideoFrame.from_ndarray(image, format="rgb24")
    is_full = pix_fmt in ("yuvj420p", "gray")
    chosen = Colors(matrix=1, range=2 if is_full else 1)
    written = encode.to_yuv(frame, pix_fmt, chosen)
    written.colorspace = 1
    written.color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
    again = frame_rgb.to_rgb(written).astype(int)
    assert np.abs(again - image).max() <= 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "bgr0"])
def test_times_of_a_frame_survive_its_conversion(pix_fmt):
    frame = VideoFrame(SIDE, SIDE, "rgb24")
    frame.pts, frame.duration, frame.time_base = 7, 2, Fraction(1, 25)

    converted = encode.to_yuv(frame, pix_fmt, Colors())

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
    is_high_bit_depth = not pix_fmt.endswith(("p", "b"))
    largest, dtype = (65535, np.uint16) if is_high_bit_depth else (255, np.uint8)
    rng = np.random.default_rng(0)
    image = rng.integers(0, largest + 1, (34, 46, 4), dtype)
    colors = Colors(matrix=1, range=1)
    frames = [
        encode.to_yuv(yuv.to_frame(part), name, colors)
        for part, name in ((image, pix_fmt), (image[..., :3], opaque))
    ]
    for frame in frames:
        frame.colorspace, frame.color_range = 1, ColorRange.MPEG
    with_alpha, plain = (
        frame_rgb.to_rgb(frame, keep_bit_depth=True, with_alpha=True)
        for frame in frames
    )
    assert [alpha.is_in(frame) for frame in frames] == [True, False]
    assert with_alpha.dtype == dtype
    np.testing.assert_array_equal(with_alpha[..., :3], plain[..., :3])
    assert (plain[..., 3] == largest).all()
    off = (with_alpha[..., 3].astype(float) - image[..., 3]) * 255 / largest
    assert np.abs(off).max() <= error  # of 255; half a level and swscale's rounding
