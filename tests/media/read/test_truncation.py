"""Videos that are cut, end early or are damaged: what the decoder delivers is read.

A difference to what the container announces is one warning.
"""

import functools
import random
import struct
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from edvr_jax.media.read import decode
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.read.source import open_source
from edvr_jax.media.read.truncation import DecodeMonitor
from tests import videos
from tests.messages import refused

FPS = Fraction(30000, 1001)
write_video = functools.partial(videos.write_video, with_sound=False)


def make_frames(num_frames, height=24, width=32):
    shape = (num_frames, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def read(path, *, start=None):
    """Count the frames of a video; what was seen of them, and the warnings."""
    with decode.open_container(path) as (container, stream):
        monitor = DecodeMonitor(container, stream, is_from_start=start is None)
        if start is not None:
            container.seek(int(start * av.time_base))
        frames = decode.decode_stream(path, container, stream, monitor)
        return sum(1 for _ in frames), monitor


def read_whole(path):
    """Count the frames of a video that raises no suspicion."""
    num_frames, monitor = read(path)
    assert monitor.warnings() == []
    assert (monitor.num_lost, monitor.num_concealed) == (0, 0)
    return num_frames


@pytest.fixture(scope="module")
def whole_videos(tmp_path_factory):
    """Three rates, with and without B-frames, with and without sound."""
    folder, paths = tmp_path_factory.mktemp("whole"), []
    for rate in (Fraction(24), FPS, Fraction(50)):
        for num_b_frames in (0, 3):
            for with_sound in (False, True):
                path = folder / f"{len(paths)}.mp4"
                num_frames = int(4 * rate)
                frames = videos.moving_bars(num_frames, 24, 32)
                videos.write_video(
                    path,
                    frames,
                    rate=rate,
                    times=[int(1000 * i / rate) for i in range(num_frames)],
                    options={"x264-params": f"keyint=30:bframes={num_b_frames}"},
                    with_sound=with_sound,
                )
                paths.append(path)
    return paths


# Others of the kind that were looked for: a cut that begins at a key frame, one of a
# single frame, a shift to positive times (an empty edit), and an edit list that ends
# before the packets do.
@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_cut_video_has_the_frames_that_are_shown(tmp_path, whole_videos, count):
    rng = random.Random(0)
    for index in range(count):
        suffix = ("mp4", "mov", "mkv")[index % 3]
        source, target = rng.choice(whole_videos), tmp_path / f"{index}.{suffix}"
        start = rng.uniform(0, 3)
        expected = videos.cut(source, target, start, rng.uniform(0.2, 4 - start))
        with av.open(str(target)) as container:
            assert sum(1 for _ in container.decode(video=0)) == expected
        assert read_whole(target) == expected
        source = open_source(target)
        if suffix == "mkv":
            assert source.is_estimate
            assert abs(source.num_frames - expected) <= 3  # frames of reordering
        else:
            assert (source.num_frames, source.is_estimate) == (expected, False)
        assert len(list(source)) == expected
        source.close()
        assert len(list(open_clip(target))) == expected


@pytest.mark.parametrize(
    ("start", "seconds", "origin"), [(1.25, 2, 0), (2.0, 0.01, 0), (1.5, 1, 5)]
)
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_other_cuts(tmp_path, whole_videos, suffix, start, seconds, origin):
    target = tmp_path / f"cut.{suffix}"
    expected = videos.cut(whole_videos[3], target, start, seconds, origin=origin)
    assert expected
    assert read_whole(target) == expected


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_cut_whose_first_frames_need_others_before_it(tmp_path, suffix, codec):
    """Open groups of pictures, the default of x265."""
    whole, target = tmp_path / "whole.mp4", tmp_path / f"cut.{suffix}"
    params = "keyint=20:bframes=3:open-gop=1:log-level=0"
    options = {f"{codec[3:]}-params": params}
    write_video(whole, videos.moving_bars(80), codec=codec, options=options)
    for start in (0.9, 1.65):
        most = videos.cut(whole, target, start, 1)
        with av.open(str(target)) as container:
            expected = sum(1 for _ in container.decode(video=0))
        assert most - 4 < expected <= most
        assert read_whole(target) == expected


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9")]
)
def test_truncated_video_is_read_with_one_warning(tmp_path, caplog, suffix, codec):
    path = tmp_path / f"clip.{suffix}"
    write_video(path, make_frames(10), rate=FPS, codec=codec)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    num_frames, monitor = read(path)
    assert 0 < num_frames < 10
    announced = {"avi": "10 frames"}.get(suffix, "0.33 s of video")
    assert f"announces {announced}" in monitor.warnings()[0]
    clip = open_clip(path)
    assert [len(list(clip)) for _ in range(2)] == [num_frames] * 2
    lines = [r.getMessage() for r in caplog.records if "announces" in r.getMessage()]
    assert lines == [f"{path} {monitor.warnings()[0]}"]


def test_truncated_video_with_its_list_of_frames(tmp_path):
    path = tmp_path / "clip.mp4"
    options = {"movflags": "faststart"}
    with av.open(str(path), "w", container_options=options) as container:
        stream = container.add_stream("libx264", 25, options={"tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for image in make_frames(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    num_frames, monitor = read(path)
    assert 5 < num_frames < 20
    assert monitor.warnings()[0] == f"announces 20 frames, but {num_frames} came"


@pytest.mark.parametrize("part", [0.3, 0.6, 0.85])
def test_matroska_with_sound_that_is_cut(tmp_path, part):
    path = tmp_path / "clip.mkv"
    videos.write_video(path, videos.moving_bars(50), subtitles=True)
    assert read_whole(path) == 50
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    num_frames, monitor = read(path)
    assert 0 < num_frames < 50
    assert "announces 2.0" in monitor.warnings()[0]
    assert f"({num_frames} came)" in monitor.warnings()[0]


@pytest.mark.parametrize(("codec", "rate"), [("aac", 8000), ("flac", 22050)])
def test_sound_may_be_longer_than_the_video(tmp_path, codec, rate):
    """The header counts sound that the packets do not announce."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", 25, width=64, height=48)
        video.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate, layout="mono")
        for image in videos.moving_bars(20):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(video.encode(None))
        layout = sound.codec_context.format.name
        for start in range(0, 3 * rate, 1024):
            wave = np.zeros((1, 1024), "f4" if layout == "fltp" else "i2")
            frame = av.AudioFrame.from_ndarray(wave, format=layout, layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert read_whole(path) == 20


@pytest.mark.parametrize("is_pipe", [False, True])
def test_y4m_that_is_cut_within_a_frame(tmp_path, is_pipe):
    path = tmp_path / "clip.y4m"
    write_video(path, make_frames(4), codec="wrapped_avframe")

    def check(*warnings):
        with path.open("rb") as file:
            source = open_source(path, pipe=file if is_pipe else None)
            num_frames = len(list(source))
            assert source.monitor.warnings() == list(warnings)
            source.close()
        return num_frames

    assert check() == 4
    data = path.read_bytes()
    path.write_bytes(data + b"\n")
    assert check() == 4
    path.write_bytes(data[:-100])
    assert check("announces 4 frames, but 3 came") == 3


# Theora of FFmpeg stores a frame that repeats as an empty packet; PyAV cannot encode
# it. Others of the kind: any codec of NUT, VP8's dropped frames, chunks of AVI.
@pytest.mark.parametrize("codec", ["libx264", "libvpx", "libvpx-vp9", "mjpeg", "mpeg4"])
def test_empty_packets_repeat_the_frame_before(tmp_path, codec):
    path = tmp_path / "clip.nut"
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"bf": "0"} if codec == "libx264" else {}
    frames = videos.moving_bars(12)
    whole = tmp_path / "whole.mkv"
    write_video(whole, frames, rate=25, codec=codec, pix_fmt=pix_fmt, options=options)
    videos.empty_packets(whole, path, (5, 6, 10, 11))
    assert read_whole(path) == 8
    source = open_source(path)
    assert len(list(source)) == 8
    timeline = source.timeline(8)
    spans = [float(timeline.span(i)[1] * timeline.time_base) for i in range(8)]
    source.close()
    np.testing.assert_allclose(spans, [0.04] * 4 + [0.12, 0.04, 0.04, 0.12], atol=2e-3)


def test_empty_samples_at_the_end_of_an_mp4(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, videos.moving_bars(12), rate=25, options={"bf": "0"})
    data = bytearray(path.read_bytes())
    # A table of sizes: its version, one size for all (0), their number, each size.
    last = data.index(b"stsz") + 16 + 4 * 10
    data[last : last + 8] = bytes(8)
    path.write_bytes(data)
    assert read_whole(path) == 10
    source = open_source(path)
    assert (source.num_frames, len(list(source))) == (10, 10)
    source.close()


@pytest.mark.parametrize("num_b_frames", ["0", "2"])
def test_chunks_that_an_avi_recorder_dropped(tmp_path, num_b_frames):
    path = tmp_path / "clip.avi"
    options = {"bf": num_b_frames}
    write_video(path, videos.moving_bars(20), rate=25, codec="mpeg4", options=options)
    videos.drop_last_chunks(path, 5)
    num_frames = read_whole(path)
    assert num_frames == 15
    source = open_source(path)
    assert (source.num_frames, source.is_estimate) == (15, False)
    assert len(list(source)) == 15
    assert source.timeline(15).seconds == Fraction(20, 25)
    source.close()


def test_stream_that_appears_in_mid_file(tmp_path):
    """PyAV then reads past its own list at the end, and mostly fails."""
    path = tmp_path / "clip.ts"
    write_video(path, videos.moving_bars(12))
    with decode.open_container(path) as (container, stream):

        def demux(*streams):
            yield from container.demux(*streams)
            raise IndexError("list index out of range")

        opened = SimpleNamespace(demux=demux, file=container.file, size=container.size)
        monitor = DecodeMonitor(container, stream)
        frames = decode.decode_stream(path, opened, stream, monitor)
        assert sum(1 for _ in frames) == 12
    assert monitor.is_at_end


def test_error_of_the_format_ends_the_video(tmp_path):
    path = tmp_path / "clip.y4m"
    write_video(path, make_frames(4), codec="wrapped_avframe")
    data = path.read_bytes()
    path.write_bytes(b"BROKE".join(data.rsplit(b"FRAME", 1)))
    frames = []
    with refused(path, "damaged", "3 frames were read"):
        frames.extend(open_clip(path))
    assert len(frames) == 3


@pytest.mark.parametrize("blank", [[10], [10, 11, 12], [5, 15, 25]])
def test_lost_frames_are_counted(tmp_path, blank):
    path = tmp_path / "clip.ts"
    write_video(path, videos.moving_bars(30, 96, 128), codec="libx265")
    assert read_whole(path) == 30
    videos.blank_packets(path, blank)
    with decode.open_container(path) as (container, stream):
        num_packets = sum(packet.size > 0 for packet in container.demux(stream))
    num_frames, monitor = read(path)
    assert 0 < num_frames < num_packets <= 30
    assert monitor.num_lost == num_packets - num_frames


def test_guessed_frames_are_counted(tmp_path):
    path = tmp_path / "clip.mp4"
    frames = videos.moving_bars(20, 96, 128)
    write_video(path, frames, options={"x264-params": "keyint=10"})
    videos.damage_packet(path, 12)
    num_frames, monitor = read(path)
    assert num_frames == 20
    assert monitor.num_lost == 0
    assert monitor.num_concealed >= 1
    assert monitor.first_concealed == pytest.approx(0.48, abs=0.05)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b.mp4", "libx264", {"x264-params": "open-gop=1:keyint=20:bframes=3"}),
        ("refresh.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=20"}),
        ("interlaced.ts", "libx264", {"x264-params": "interlaced=1:keyint=20"}),
        ("b.avi", "libx264", {"x264-params": "bframes=3"}),
        ("b.h264", "libx264", {"x264-params": "bframes=3"}),
        ("b.mkv", "libx265", {"x265-params": "log-level=0:open-gop=1:keyint=20"}),
        ("hidden.mkv", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "20"}),
        ("a.mkv", "libsvtav1", {"preset": "12"}),
        ("b.avi", "mpeg4", {"bf": "2"}),
        ("b.ts", "mpeg2video", {"bf": "2"}),
        ("a.mov", "mjpeg", {}),
        ("a.gif", "gif", {}),
    ],
)
def test_no_frames_of_a_whole_video_count_as_lost(tmp_path, name, codec, options):
    path = tmp_path / name
    pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
    frames = videos.moving_bars(60, 96, 128)
    write_video(path, frames, rate=25, codec=codec, pix_fmt=pix_fmt, options=options)
    assert read_whole(path) == 60
    if path.suffix in (".mp4", ".mkv"):
        num_frames, monitor = read(path, start=1)
        assert num_frames > 20
        assert monitor.warnings() == []


def hide_frames(path, target, indices):
    """Copy a video of VP8, with some frames twice, first hidden, as two passes do."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(video=0)):
            if not packet.size:
                continue
            data = bytearray(bytes(packet))
            hidden = av.Packet(bytes([data[0] & ~0x10]) + bytes(data[1:]))
            hidden.pts, hidden.dts = packet.pts, packet.dts
            hidden.time_base, hidden.stream = packet.time_base, stream
            packet.stream = stream
            output.mux([hidden, packet] if index in indices else [packet])


def test_hidden_frames_are_not_lost(tmp_path):
    path = tmp_path / "clip.webm"
    frames = videos.moving_bars(30, 96, 128)
    write_video(tmp_path / "plain.webm", frames, rate=25, codec="libvpx")
    hide_frames(tmp_path / "plain.webm", path, (9, 20))
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 32
    assert read_whole(path) == 30
    source = open_source(path)
    source.check()
    assert len(list(source)) == 30
    source.close()


def test_frames_cut_by_an_edit_list_are_not_lost(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, videos.moving_bars(30), rate=25)
    with decode.open_container(path) as (_, stream):
        ten_frames = round(Fraction(10, 25) / stream.time_base)
    # The edit's duration, in thousandths of a second, and beginning.
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12
    duration, begin = struct.unpack_from(">2i", data, at)
    struct.pack_into(">2i", data, at, duration - 400, begin + ten_frames)
    path.write_bytes(data)
    with decode.open_container(path) as (container, stream):
        assert any(packet.is_discard for packet in container.demux(stream))
    assert read_whole(path) == 20
