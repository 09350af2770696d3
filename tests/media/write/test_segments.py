"""Segments of a video: every frame comes back, whatever DTS the encoder sets."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from edvr_jax.media.read.timeline import Timeline
from edvr_jax.media.write import encode
from edvr_jax.media.write.segments import SegmentedVideo
from tests import videos

FPS = Fraction(25)
MS = Fraction(1, 1000)


def write_segments(folder, frames, encoding):
    folder.mkdir()
    segments = SegmentedVideo(folder, folder.with_suffix(".mkv"), encoding)
    for index, image in enumerate(frames):
        segments.write(image, time=40 * index)
    segments.finish()
    return segments


@pytest.mark.parametrize("dts", [[10**14] * 2, [-(10**14)] * 2, [-80, -80], [0, -5]])
def test_impossible_dts(tmp_path, monkeypatch, dts):
    """X265 sets none for one or two frames; it is what the memory held before."""
    frames = videos.moving_bars(2)
    rgb = encode.Colors(matrix=0, range=2)
    lossless = encode.Encoding((48, 64), FPS, MS, "ffv1", "bgr0", (), rgb)
    real, left = encode.encode, list(dts)

    def encode_badly(*arguments, **options):
        packets = real(*arguments, **options)
        for packet in packets:
            packet.dts = left.pop(0)
        return packets

    monkeypatch.setattr(encode, "encode", encode_badly)
    segments = write_segments(tmp_path / "segments", frames, lossless)
    assert not left
    np.testing.assert_array_equal(list(segments.images()), frames)


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_few_frames_by_x265(tmp_path, count):
    frames = videos.moving_bars(count).astype(np.uint16) * 256
    request = encode.EncodingRequest(
        tmp_path / "out.mkv", (48, 64), FPS, MS, is_high_bit_depth=True
    )
    encoding = encode.choose_encoding(request)
    assert encoding.codec == "libx265"
    segments = write_segments(tmp_path / "segments", frames, encoding)
    restored = np.stack(list(segments.images())).astype(float)
    assert np.abs(restored - frames).mean() < 257 * 4
    times = range(0, 40 * count, 40)
    timeline = Timeline(times, 40 * count, MS, FPS)
    with av.open(io.BytesIO(), "w", format="matroska") as container:
        stream = encode.add_stream(container, encoding)
        packets = list(segments.packets(timeline, stream))
    assert sorted(packet.pts for packet in packets) == list(times)
    lags = [packet.pts - packet.dts for packet in packets]
    assert min(lags) >= 0
