"""Videos that end early or are damaged: no frame is missing without a word."""

import functools
import re
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from edvr_jax.data import video
from edvr_jax.data.completeness import Damage
from edvr_jax.data.video import open_clip
from edvr_jax.errors import InputError
from edvr_jax.restore.source import Source
from tests import videos

FPS = Fraction(30000, 1001)
write_video = functools.partial(videos.write_film, with_sound=False)


def make_frames(num_frames, height=24, width=32):
    shape = (num_frames, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9")]
)
def test_truncated_video_keeps_its_frames_then_raises(tmp_path, suffix, codec):
    path = tmp_path / f"clip.{suffix}"
    write_video(path, make_frames(10), rate=FPS, codec=codec)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    frames = []
    with pytest.raises(InputError) as caught:
        frames.extend(open_clip(path))
    num_read = int(re.search(r"(\d+) frames were read", str(caught.value))[1])
    assert 0 < num_read < 10
    assert str(path) in str(caught.value)


def test_message_of_a_truncated_video_tells_the_time_after_a_seek(tmp_path):
    path = tmp_path / "clip.mkv"
    options = {"x264-params": "keyint=5:bframes=0"}
    write_video(path, make_frames(30), options=options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.8)])
    frames = []
    with video.open_container(path) as (container, stream):
        container.seek(int(0.5 * av.time_base))
        with pytest.raises(InputError, match="the video is truncated") as caught:
            frames.extend(video.decode_stream(path, container, stream))
    assert frames[0].time > 0
    message = f"{len(frames)} frames were read, the last one at {frames[-1].time:.2f} s"
    assert message in str(caught.value)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.85])
def test_matroska_with_sound_that_is_cut(tmp_path, part):
    path = tmp_path / "clip.mkv"
    videos.write_film(path, videos.moving_bars(50), subtitles=True)
    assert read(path) == (50, Damage())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match="the video is truncated"):
        read(path)


@pytest.mark.parametrize(("codec", "rate"), [("aac", 8000), ("flac", 22050)])
def test_sound_may_be_longer_than_the_picture(tmp_path, codec, rate):
    """The header counts sound that the packets do not tell."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", 25, width=64, height=48)
        picture.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate, layout="mono")
        for image in videos.moving_bars(20):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(picture.encode(None))
        layout = sound.codec_context.format.name
        for start in range(0, 3 * rate, 1024):
            wave = np.zeros((1, 1024), "f4" if layout == "fltp" else "i2")
            frame = av.AudioFrame.from_ndarray(wave, format=layout, layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert read(path) == (20, Damage())


def test_skipped_part_of_a_damaged_matroska_is_told(tmp_path):
    path = tmp_path / "clip.mkv"
    options = {"x264-params": "keyint=5"}
    videos.write_film(path, videos.moving_bars(100, 96, 128), options=options)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    first, last = packets[42].pos, packets[58].pos
    data[first:last] = bytes(last - first)
    path.write_bytes(data)
    num_frames, damage = read(path)
    assert num_frames < 85
    assert damage.num_lost == 100 - num_frames


@pytest.mark.parametrize("is_pipe", [False, True])
def test_y4m_that_is_cut_within_a_frame(tmp_path, is_pipe):
    path = tmp_path / "clip.y4m"
    write_video(path, make_frames(4), codec="wrapped_avframe")

    def count():
        with path.open("rb") as file:
            opened = video.open_container(path, file if is_pipe else None)
            with opened as (container, stream):
                return len(list(video.decode_stream(path, container, stream)))

    assert count() == 4
    data = path.read_bytes()
    path.write_bytes(data + b"\n")
    assert count() == 4
    path.write_bytes(data[:-100])
    with pytest.raises(InputError, match="the video is truncated: 3 frames were read"):
        count()


def read(path, *, start=None):
    """Count the frames of a video, and take what is told of its damage."""
    damage = Damage()
    with video.open_container(path) as (container, stream):
        if start is not None:
            container.seek(int(start * av.time_base))
        frames = video.decode_stream(path, container, stream, damage)
        return sum(1 for _ in frames), damage


@pytest.mark.parametrize("blank", [[10], [10, 11, 12], [5, 15, 25]])
def test_lost_frames_are_told(tmp_path, blank):
    path = tmp_path / "clip.ts"
    write_video(path, videos.moving_bars(30, 96, 128), codec="libx265")
    assert read(path) == (30, Damage())
    videos.blank_packets(path, blank)
    with video.open_container(path) as (container, stream):
        num_packets = sum(packet.size > 0 for packet in container.demux(stream))
    num_frames, damage = read(path)
    assert 0 < num_frames < num_packets <= 30
    assert damage.num_lost == num_packets - num_frames


def test_guessed_frames_are_told(tmp_path):
    path = tmp_path / "clip.mp4"
    frames = videos.moving_bars(20, 96, 128)
    write_video(path, frames, options={"x264-params": "keyint=10"})
    videos.damage_packet(path, 12)
    num_frames, damage = read(path)
    assert num_frames == 20
    assert damage.num_lost == 0
    assert damage.num_concealed >= 1
    assert damage.first_concealed == pytest.approx(0.48, abs=0.05)


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
def test_no_frames_of_a_whole_video_are_told_to_be_lost(tmp_path, name, codec, options):
    path = tmp_path / name
    pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
    frames = videos.moving_bars(60, 96, 128)
    write_video(path, frames, rate=25, codec=codec, pix_fmt=pix_fmt, options=options)
    assert read(path) == (60, Damage())
    if path.suffix in (".mp4", ".mkv"):
        num_frames, damage = read(path, start=1)
        assert num_frames > 20
        assert damage == Damage()


def hide_frames(path, target, indices):
    """Copy a film of VP8, with some frames twice, first hidden, as two passes do."""
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
    assert read(path) == (30, Damage())
    source = Source(path, output_without_times=tmp_path / "out.y4m")
    source.check()
    assert len(list(source)) == 30
    source.close()


def test_frames_cut_by_an_edit_list_are_not_lost(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, videos.moving_bars(30), rate=25)
    with video.open_container(path) as (_, stream):
        ten_frames = round(Fraction(10, 25) / stream.time_base)
    # The edit's duration, in thousandths of a second, and beginning.
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12
    duration, begin = struct.unpack_from(">2i", data, at)
    struct.pack_into(">2i", data, at, duration - 400, begin + ten_frames)
    path.write_bytes(data)
    with video.open_container(path) as (container, stream):
        assert any(packet.is_discard for packet in container.demux(stream))
    assert read(path) == (20, Damage())
