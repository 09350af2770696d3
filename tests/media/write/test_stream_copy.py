"""What is copied beside the picture comes out as it went in, at its time."""

import contextlib
import io
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.error import InvalidDataError
from av.stream import Disposition

from edvr_jax.errors import OutputError
from edvr_jax.media.read import decode
from edvr_jax.media.write import packets
from edvr_jax.media.write.stream_copy import StreamCopy, choose_streams
from tests import videos
from tests.copies import MS, contents, copy_video, read, with_lines, write_copy
from tests.messages import check_message, refused


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """Twenty seconds with a key frame every 2.4."""
    path = tmp_path_factory.mktemp("long") / "video.mp4"
    frames, times = videos.moving_bars(100), range(0, 20000, 200)
    videos.write_video(path, frames, times=times, codec="mpeg4")
    return path


@pytest.fixture
def near(monkeypatch):
    """Videos of twenty seconds are long."""
    monkeypatch.setattr(packets, "MAX_SKEW", 1)


def attach_picture(video, target, codec="mjpeg", **tags):
    """Copy a video and attach a picture, which is returned."""
    suffix, kind = {"mjpeg": (".jpg", "jpeg"), "png": (".png", "png")}[codec]
    image = cv2.imencode(suffix, videos.moving_bars(1)[0])[1].tobytes()

    def add(output):
        output.metadata.update(tags)
        if target.suffix == ".mkv":
            output.add_attachment(f"my{suffix}", f"image/{kind}", image)
            return None, []
        picture = output.add_mux_stream(codec, width=64, height=48, time_base=MS)
        picture.disposition = Disposition.attached_pic
        return picture, [(0, 0, image)]

    copy_video(video, target, add)
    assert find_pictures(target) == ([image], 1)
    return image


def find_pictures(path):
    """The attached pictures, and how many streams are videos."""
    with av.open(str(path)) as container:
        streams = container.streams.video
        pictures = [s for s in streams if s.disposition & Disposition.attached_pic]
        images = [bytes(p) for p in container.demux(pictures) if pictures and p.size]
        return images, len(streams) - len(pictures)


@pytest.mark.parametrize("codec", ["mjpeg", "png"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("target", ["out.mp4", "out.m4v", "out.mkv"])
def test_attached_picture(tmp_path, video, codec, suffix, target):
    source, target = tmp_path / f"in.{suffix}", tmp_path / target
    image = attach_picture(video, source, codec)
    assert write_copy(source, target) == []
    assert find_pictures(target) == ([image], 1)
    assert contents(read(target, "audio")[0]) == contents(read(source, "audio")[0])
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "My video"
    part = target.with_stem("part")
    write_copy(source, part, 0.4, origin=Fraction(1, 2), is_cut=True)
    assert find_pictures(part) == ([image], 1)


def test_attached_picture_that_does_not_fit(tmp_path, video):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mov"
    attach_picture(video, source)
    assert write_copy(source, target) == [
        "attached picture stream 2 (mjpeg) cannot be stored in .mov and is left out"
    ]
    assert find_pictures(target) == ([], 1)


def test_tags_that_do_not_fit_beside_an_attached_picture(tmp_path, video):
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    attach_picture(video, source, ARTIST="Me", MOOD="good")
    (note,) = write_copy(source, target)
    check_message(note, "metadata MOOD ", ".mp4", "attached picture")
    with av.open(str(target)) as container:
        assert container.metadata["artist"] == "Me"
    copy_video(video, source, lambda o: (o.metadata.update(MOOD="good"), []))
    assert write_copy(source, tmp_path / "other.mp4") == []
    with av.open(str(tmp_path / "other.mp4")) as container:
        assert container.metadata["MOOD"] == "good"


class Counter(io.FileIO):
    """A file that counts what is read, and is broken after a limit."""

    count, limit, error = 0, 1 << 40, OSError(5, "Input/output error")

    def read(self, size=-1):
        data = super().read(size)
        self.count += len(data)
        if self.tell() > self.limit:
            raise self.error
        return data


@pytest.fixture
def counters(monkeypatch):
    """All files that were read."""
    files = []

    @contextlib.contextmanager
    def open_container(path, index):
        del index
        with Counter(path) as file, av.open(file, buffer_size=4096) as container:
            files.append(file)
            file.count = 0
            yield container, container.streams.video[0]

    monkeypatch.setattr(decode, "open_container", open_container)
    return files


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_only_what_is_near_a_part_is_read(tmp_path, long_video, near, counters, suffix):
    source, target = tmp_path / f"in.{suffix}", tmp_path / "out.mkv"
    copy_video(long_video, source)
    with av.open(str(source)) as container:
        first = Fraction(container.start_time, av.time_base) + 10
    write_copy(source, target, origin=first, is_cut=True)
    part = sum(file.count for file in counters) / source.stat().st_size
    # From a key frame and 1 second before, or from the beginning, to 1 second after.
    assert part < {"mp4": 0.5, "mkv": 0.5, "ts": 0.7}[suffix]
    expected = [p for p in read(source, "audio")[0] if first <= p[0] < first + 1]
    copied = read(target, "audio")[0]
    header = 7 if suffix == "ts" else 0  # of each packet
    assert contents(copied) == [content[header:] for content in contents(expected)]
    assert abs(copied[0][0] - (expected[0][0] - first)) <= MS


def test_only_the_sound_is_read(tmp_path, counters):
    source = tmp_path / "in.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (8, 256, 320, 3), np.uint8)
    videos.write_video(source, noise)
    write_copy(source, tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4", "audio") == read(source, "audio")
    assert sum(file.count for file in counters) < source.stat().st_size / 5


SUBTITLES = [
    (0, 9000, b"early"),
    (9000, 900, b"gone"),
    (9100, 0, b"until the next one"),
    (9500, 600, b"across"),
    (9600, 0, b"of unknown duration"),
    (10200, 300, b"within"),
    (10200, 400, b"same time"),
    (10800, 5000, b"to the end"),
    (11200, 300, b"later"),
]


@pytest.mark.parametrize("with_sound", [True, False])
def test_subtitles_of_a_part(tmp_path, long_video, near, with_sound):
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    copy_video(long_video, source, with_lines("subrip", SUBTITLES))
    streams = (1, 2) if with_sound else (2,)
    origin = read(source, "subtitle")[0][0][0] + 10  # the file begins with the sound
    write_copy(source, target, streams=streams, origin=origin, is_cut=True)
    assert read(target, "subtitle")[0] == [
        (200 * MS, 300 * MS, b"within"),
        (200 * MS, 400 * MS, b"same time"),
        (800 * MS, 200 * MS, b"to the end"),
    ]
    assert len(read(target, "audio")) == with_sound
    cut = StreamCopy(source, origin=origin, is_cut=True)
    (note,) = choose_streams(target, cut)[1]
    check_message(note, "subtitles that begin before the first frame")


def test_subtitles_of_mp4(tmp_path, long_video, near):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    lines = [(1000, 9500, b"\0\4long"), (10600, 200, b"\0\5short")]
    copy_video(long_video, source, with_lines("mov_text", lines))
    write_copy(source, target, origin=Fraction(10), is_cut=True)
    # MP4 fills gaps with empty subtitles.
    assert [p for p in read(target, "subtitle")[0] if p[2] != b"\0\0"] == [
        (600 * MS, 200 * MS, b"\0\5short"),
    ]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_of_files_joined_of_two(tmp_path, video, suffix):
    source, target = tmp_path / "in.ts", tmp_path / f"out.{suffix}"
    parts = [
        copy_video(video, tmp_path / f"{x}.ts", output_ts_offset=x).read_bytes()
        for x in ("0", "0.9", "20")
    ]
    source.write_bytes(parts[0] + parts[1])
    before = read(source, "audio")[0]
    assert sorted(p[0] for p in before) != [p[0] for p in before]
    write_copy(source, target, 2)
    after = read(target, "audio")[0]
    assert contents(after) == [content[7:] for content in contents(before)]
    times = [time for time, _, _ in after]
    assert times == sorted(times if suffix == "mkv" else set(times))
    assert abs((times[-1] - times[0]) - (before[-1][0] - before[0][0])) < 2 * MS
    source.write_bytes(parts[2] + parts[0])
    with refused("in.ts", "audio stream 1", "back by 20."):
        write_copy(source, tmp_path / f"other.{suffix}", 2)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_second_video_keeps_the_order_of_its_frames(tmp_path, video, suffix):
    source, target = tmp_path / "in.mkv", tmp_path / f"out.{suffix}"
    with av.open(str(video)) as other:
        stream = other.streams.video[0]
        packets = [p for p in other.demux(stream) if p.size]

        def add(output):
            copy = output.add_stream_from_template(stream)
            for packet in packets:
                packet.stream = copy
            output.start_encoding()
            output.mux(packets)
            return None, []

        copy_video(video, source, add)
    before = read(source, "video")[1]
    assert [time for time, _, _ in before] != sorted(time for time, _, _ in before)
    write_copy(source, target)
    after = read(target, "video")[1]
    assert contents(after) == contents(before)
    for (time, _, _), (expected, _, _) in zip(after, before, strict=True):
        assert abs(time - expected) <= MS


def add_telemetry(output):
    output.set_chapters([videos.chapter(0, 400), videos.chapter(400, 1000)])
    stream = output.add_data_stream("bin_data")
    stream.time_base = MS
    return stream, [(0, 500, b"GPS 1"), (500, 500, b"GPS 2")]


def test_telemetry_beside_chapters(tmp_path, video):
    source = copy_video(video, tmp_path / "in.mp4", add_telemetry)
    assert [len(packets) for packets in read(source, "data")] == [2, 0]  # names
    for suffix in ("mp4", "mov"):
        assert write_copy(source, tmp_path / f"out.{suffix}") == []
        assert read(tmp_path / f"out.{suffix}", "data") == read(source, "data")
    left_out = "data stream 2 (bin_data) cannot be stored in .{} and is left out"
    assert write_copy(source, tmp_path / "out.mkv") == [left_out.format("mkv")]
    assert choose_streams(tmp_path / "out.gif", StreamCopy(source))[1] == [
        "audio stream 1 (aac) cannot be stored in .gif and is left out",
        left_out.format("gif"),
        "chapters cannot be stored in .gif",
    ]


def test_time_code(tmp_path):
    source = tmp_path / "in.mov"
    with av.open(str(source), "w") as output:
        picture = output.add_stream("mpeg4", 25, width=64, height=48)
        picture.metadata["timecode"] = "01:00:00:00"
        for frame in (av.VideoFrame(64, 48, "yuv420p"), None):
            output.mux(picture.encode(frame))
    assert write_copy(source, tmp_path / "out.mov") == [
        "data stream 1 (unknown) cannot be stored in .mov and is left out"
    ]


@pytest.mark.parametrize("suffix", ["mp4", "m4v", "mov", "mkv", "webm"])
def test_chapters(tmp_path, suffix):
    source, target = tmp_path / "in.mkv", tmp_path / f"out.{suffix}"
    videos.write_video(source, videos.moving_bars(25), with_sound=False)
    assert write_copy(source, target, 0.6, origin=Fraction(1, 5), is_cut=True) == []
    assert videos.describe(target)["chapters"] == [
        (0, 0.2, "from 0"),
        (0.2, 0.6, "from 400"),
    ]


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), InvalidDataError(1, "Invalid data")]
)
def test_damaged_sound(tmp_path, counters, monkeypatch, error):
    source = tmp_path / "in.mkv"
    noise = np.random.default_rng(0).integers(0, 256, (25, 96, 128, 3), np.uint8)
    videos.write_video(source, noise)
    monkeypatch.setattr(Counter, "limit", source.stat().st_size * 0.6)
    monkeypatch.setattr(Counter, "error", error)
    facts = source, "cannot be read at 0.", error.strerror, "--streams video"
    with refused(*facts) as caught:
        write_copy(source, tmp_path / "out.mkv")
    assert not isinstance(caught.value, OutputError)
