"""``edvr restore`` reports what is lost or changed, by what it is."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from edvr_jax.commands.restore import Restore
from edvr_jax.media.read import traits
from edvr_jax.media.read.source import open_source
from tests import videos


def run(source, target, weights_path, **options):
    return Restore(source, target, weights=(weights_path,), **options).run()


def join(path, *parts, codec="libx264"):
    """Join several videos of 25 frames per second without encoding them again.

    Args:
        path: The result.
        *parts: Frames and pixel format of each, or these and options of the encoder.
        codec: Encoder of all.
    """
    suffix = "ts" if codec == "libx264" else "webm"  # headers are in the stream itself
    with av.open(str(path), "w") as output:
        stream, start = None, Fraction(0)
        for frames, pix_fmt, *options in parts:
            part = path.with_name(f"part.{suffix}")
            options = {"options": options[0] if options else None, "with_sound": False}
            videos.write_video(part, frames, codec=codec, pix_fmt=pix_fmt, **options)
            with av.open(str(part)) as container:
                video = container.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.dts is not None:
                        packet.pts += round(start / packet.time_base)
                        packet.dts += round(start / packet.time_base)
                        packet.stream = stream
                        output.mux(packet)
            start += Fraction(len(frames), 25)


# FFmpeg and players scale to the first size, too. Folders are refused before the work.
@pytest.mark.parametrize(
    ("name", "codec", "size", "pix_fmt", "kind"),
    [
        ("in.ts", "libx264", (64, 96), "yuv420p", "96x64 with 8 bits"),
        ("in.mp4", "libx264", (32, 48), "yuv420p10le", "48x32 with more than 8 bits"),
        ("in.mkv", "libx264", (48, 64), "yuv420p10le", "64x48 with more than 8 bits"),
        ("in.webm", "libvpx-vp9", (96, 128), "yuv420p", "128x96 with 8 bits"),
    ],
)
def test_change_of_size_or_depth_in_mid_stream(
    tmp_path, same, capsys, name, codec, size, pix_fmt, kind
):
    frames = videos.moving_bars(5)
    other = np.stack([cv2.resize(frame, size[::-1]) for frame in frames])
    parts = (frames, "yuv420p"), (other, pix_fmt), (frames, "yuv420p")
    join(tmp_path / name, *parts, codec=codec)
    target, report = tmp_path / "out.mp4", tmp_path / "report.json"
    run(tmp_path / name, target, same, report=report)
    changes = [f"frame 5 (0.20 s) to {kind}", "frame 10 (0.40 s) to 64x48 with 8 bits"]
    assert json.loads(report.read_text())["changes"] == changes
    note = (
        f"note: {tmp_path / name}: the video changes at {changes[0]}, and 1 more "
        "times; all frames became 64x48 with 8 bits"
    )
    assert note in capsys.readouterr().err.splitlines()
    restored = np.stack(list(open_source(target))).astype(float)
    difference = np.abs(restored - np.concatenate([frames] * 3)).mean((1, 2, 3))
    assert len(restored) == 15
    # Measured: 4.6 for the frames that kept their size (4:2:0), 5.0 for the others.
    assert difference.max() < 6


def notes(capsys):
    """The notes before the line that announces the work, and those after it."""
    lines = capsys.readouterr().err.splitlines()
    start = next(i for i, line in enumerate(lines) if " -> " in line)
    parts = lines[:start], lines[start:]
    return [[x.split(": ", 2)[2] for x in p if x.startswith("note: ")] for p in parts]


# A title before interlaced video, and advertisements in another size.
@pytest.mark.parametrize(
    ("frames", "options", "note"),
    [
        (
            videos.moving_bars(8),
            {"x264-params": "interlaced=1"},
            "it is interlaced, at",
        ),
        (videos.moving_bars(8, 96, 128), None, "frames of other sizes than the first"),
    ],
)
def test_later_parts_are_seen_before_the_work(
    tmp_path, same, capsys, monkeypatch, frames, options, note
):
    path = tmp_path / "in.mkv"
    join(path, (videos.moving_bars(8), "yuv420p"), (frames, "yuv420p", options))
    run(path, tmp_path / "out.mp4", same)
    before, _ = notes(capsys)
    assert [line.startswith(note) for line in before] == [True]
    run(path, tmp_path / "start.mp4", same, preview=2)
    run(path, tmp_path / "first.mp4", same, end="0.3")
    assert note not in capsys.readouterr().err
    monkeypatch.setattr(traits, "_NUM_SAMPLES", 1)
    run(path, tmp_path / "late.mp4", same)
    before, after = notes(capsys)
    assert not before
    assert len(after) == 1  # only once
    assert after[0].startswith((note, "the video changes at frame 8 (0.32 s)"))


def insert(path, target, data):
    """Copy the packets of a video with some bytes before the slices of each."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        video = source.streams.video[0]
        stream = output.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is None:
                continue
            old = bytes(packet)
            at = max(0, old.find(b"\0\0\1\1"))  # the first slice of MPEG-2
            new = av.Packet(old[:at] + data + old[at:])
            new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
            new.is_keyframe, new.stream = packet.is_keyframe, stream
            output.mux(new)


# ATSC A/53: one pair of bytes of captions. SMPTE ST 2094-40 (HDR10+): one window, all
# values 0; after two bytes of zeros HEVC has a 3.
CAPTIONS = b"GA94\x03\x41\xff\xfc\x94\x20\xff"
HDR10_PLUS = bytes.fromhex("b5003c0001040140") + b"\0\0\3" * 8
SIDE_DATA = {
    "libx264": b"\0\0\1\x06\x04%c\xb5\0\x31" % (len(CAPTIONS) + 3) + CAPTIONS + b"\x80",
    "mpeg2video": b"\0\0\1\xb2" + CAPTIONS,
    "libx265": b"\0\0\1\x4e\x01\x04%c" % 24 + HDR10_PLUS + b"\x80",
}


@pytest.mark.parametrize(
    ("codec", "note"),
    [
        ("libx264", "closed captions inside the video stream are left out"),
        ("mpeg2video", "closed captions inside the video stream are left out"),
        ("libx265", "HDR10+ metadata is left out; without it, colors may change"),
    ],
)
def test_what_is_inside_the_stream_is_noted(tmp_path, same, capsys, codec, note):
    plain, frames = tmp_path / "plain.ts", videos.moving_bars(4)
    videos.write_video(plain, frames, rate=25, codec=codec, with_sound=False)
    insert(plain, tmp_path / "in.ts", SIDE_DATA[codec])
    run(tmp_path / "in.ts", tmp_path / "out.mp4", same)
    before, after = notes(capsys)
    assert [line.startswith(note) for line in before] == [True]
    assert after == []
    run(plain, tmp_path / "plain.mp4", same)
    assert notes(capsys) == [[], []]


MASTERING = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
    "L(10000000,50):max-cll=1000,400"
)


# Dolby Vision and HDR Vivid are recognized in the same way; no encoder here makes them.
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.mp4", {}),
        ("out.mkv", {"encoder_options": ("x265-params=aq-mode=1",)}),
        ("out.webm", {}),
        ("out.mkv", {"codec": "libx264"}),
        ("out", {}),
    ],
)
def test_mastering_metadata_is_kept_or_noted(tmp_path, same, capsys, name, options):
    source, target = tmp_path / "in.mp4", tmp_path / name
    x265 = {"x265-params": f"log-level=error:{MASTERING}"}
    frames = videos.moving_bars(4).astype(np.uint16) * 257
    deep = {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": x265}
    videos.write_video(source, frames, colors=(9, 1, 9, 16), with_sound=False, **deep)
    assert open_source(source).colors.hdr == MASTERING
    run(source, target, same, **options)
    before, _ = notes(capsys)
    assert open_source(target).colors.hdr == ("" if before else MASTERING)
    left_out = "HDR metadata (mastering display, light level) is left out"
    is_kept = name in ("out.mp4", "out.mkv") and "codec" not in options
    assert [line.startswith(left_out) for line in before] == [True] * (not is_kept)
