"""Parts of a video: every frame comes back, whatever the encoder tells of its times."""

from fractions import Fraction

import numpy as np
import pytest

from edvr_jax.media.read.timeline import Timeline
from edvr_jax.media.write import encode
from edvr_jax.media.write.segments import SegmentedVideo
from tests import videos

FPS = Fraction(25)
MS = Fraction(1, 1000)


def write_parts(folder, frames, encoding):
    folder.mkdir()
    size = frames.shape[1:3]
    path = folder.with_suffix(".mkv")
    parts = SegmentedVideo(folder, path, encoding, size, fps=FPS, time_base=MS)
    for index, image in enumerate(frames):
        parts.write(image, time=40 * index)
    parts.finish()
    return parts


@pytest.mark.parametrize("told", [[10**14] * 2, [-(10**14)] * 2, [-80, -80], [0, -5]])
def test_times_of_decoding_that_cannot_be(tmp_path, monkeypatch, told):
    """X265 leaves them unset for one or two frames: whatever was in the memory."""
    frames = videos.moving_bars(2)
    rgb = encode.Colors(matrix=0, range=2)
    lossless = encode.Encoding("ffv1", "bgr0", (), rgb, Fraction(1))
    real, left = encode.encode, list(told)

    def encode_badly(*arguments, **options):
        packets = real(*arguments, **options)
        for packet in packets:
            packet.dts = left.pop(0)
        return packets

    monkeypatch.setattr(encode, "encode", encode_badly)
    parts = write_parts(tmp_path / "parts", frames, lossless)
    assert not left
    np.testing.assert_array_equal(list(parts.images()), frames)


@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_few_frames_by_x265(tmp_path, count):
    frames = videos.moving_bars(count).astype(np.uint16) * 256
    encoding = encode.choose_encoding(
        tmp_path / "out.mkv", (48, 64), fps=FPS, time_base=MS, is_high_bit_depth=True
    )
    assert encoding.codec == "libx265"
    parts = write_parts(tmp_path / "parts", frames, encoding)
    restored = np.stack(list(parts.images())).astype(float)
    assert np.abs(restored - frames).mean() < 257 * 4
    times = range(0, 40 * count, 40)
    timeline = Timeline(times, 40 * count, MS, FPS)
    packets = list(parts.packets(timeline))
    assert sorted(packet.pts for packet in packets) == list(times)
    lags = [packet.pts - packet.dts for packet in packets]
    assert min(lags) >= 0
