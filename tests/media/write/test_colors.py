"""Colors of a file after it was read and written again, without a network between."""

import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from edvr_jax.media.read import decode, planes, yuv
from edvr_jax.media.read.source import open_source
from edvr_jax.media.write import encode

FPS = Fraction(25)
SIZE = HEIGHT, WIDTH = 48, 64


def make_frame(pix_fmt):
    """Gradients of levels whose RGB is within its range."""
    frame = VideoFrame(WIDTH, HEIGHT, pix_fmt)
    largest = 2 ** yuv.bit_depth(frame.format) - 1
    for index, (low, high) in enumerate([(0.4, 0.6), (0.4, 0.6), (0.6, 0.4)]):
        if index < len(frame.format.components):
            plane = planes.view(frame, index)[..., 0]
            across = np.linspace(0, 0.6, plane.shape[1])
            down = np.linspace(0, 0.4, plane.shape[0])
            plane[:] = largest * (low + (high - low) * (across + down[:, None]))
    frame.pts, frame.time_base = 0, 1 / FPS
    return frame


def write(path, frames, pix_fmt, color_range):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", FPS)
        stream.height, stream.width = SIZE
        stream.pix_fmt = pix_fmt
        stream.codec_context.colorspace = 1
        stream.codec_context.color_range = color_range
        for frame in [*frames, None]:
            container.mux(stream.encode(frame))


def restore(source, target, pix_fmt):
    """Write a clip's frames as they are."""
    with (
        contextlib.closing(open_source(source)) as clip,
        av.open(str(target), "w") as container,
    ):
        request = encode.EncodingRequest(
            *(target, SIZE, FPS, 1 / FPS),
            codec="ffv1",
            pix_fmt=pix_fmt,
            colors=clip.colors,
        )
        encoding = encode.choose_encoding(request)
        stream = encode.add_stream(container, encoding)
        for index, image in enumerate(clip):
            container.mux(encode.encode(stream, image, encoding, time=index))
        container.mux(stream.encode(None))


def means(path):
    """The mean of Y, U and V, of 255 from black to white."""
    frame = next(decode.decode(path))
    bits = yuv.bit_depth(frame.format)
    low, span = 0, 2**bits - 1
    if frame.color_range == ColorRange.MPEG:
        low, span = 16 * 2 ** (bits - 8), 219 * 2 ** (bits - 8)
    channels = [planes.view(frame, i) for i in range(len(frame.planes))]
    return [(channel.mean() - low) * 255 / span for channel in channels]


@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize(
    "pix_fmt",
    [f"yuv{chroma}p{b}" for chroma in (420, 422, 444) for b in ("", "10le", "12le")],
)
def test_the_mean_of_each_channel_is_kept(tmp_path, pix_fmt, color_range):
    source, target = tmp_path / "a.mkv", tmp_path / "b.mkv"
    write(source, [make_frame(pix_fmt)], pix_fmt, color_range)
    restore(source, target, pix_fmt)
    written = next(decode.decode(target))
    assert (written.format.name, written.color_range) == (pix_fmt, color_range)
    # Measured at most 0.03, for 4:2:0 of 8 bits, and 0.004 for 4:4:4.
    np.testing.assert_allclose(means(target), means(source), rtol=0, atol=0.1)


@pytest.mark.parametrize("target_fmt", ["gray", "gray10le", "yuv444p"])
@pytest.mark.parametrize("source_fmt", ["gray", "gray10le"])
@pytest.mark.parametrize("color_range", [1, 2])
def test_gray_keeps_what_its_levels_mean(tmp_path, source_fmt, target_fmt, color_range):
    """Limited levels are written as full ones, the only gray that FFmpeg knows."""
    source, target = tmp_path / "a.mkv", tmp_path / "b.mkv"
    write(source, [make_frame(source_fmt)], source_fmt, color_range)
    restore(source, target, target_fmt)
    written = next(decode.decode(target))
    is_gray = len(VideoFormat(target_fmt).components) == 1
    assert written.color_range == (2 if is_gray else color_range)
    # Measured at most 0.01.
    assert means(target)[0] == pytest.approx(means(source)[0], abs=0.1)
