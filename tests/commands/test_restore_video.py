"""``edvr restore`` on videos as people have them: everything but the pixels stays."""

import contextlib
import itertools
import json
import os
import re
import subprocess
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edvr_jax import cli, weights
from edvr_jax.commands.restore import Restore
from edvr_jax.errors import InputError
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.read.pixels import to_uint8
from edvr_jax.media.read.source import open_source
from edvr_jax.restore.restorer import restore_frames
from tests import videos
from tests.messages import refused

# BT.601 in full range, and BT.2020 with its own transfer, as FFmpeg numbers them.
SD_FULL = (6, 2, 6, 6)
UHD = (9, 1, 9, 14)


def run(source, target, weights_path, **options):
    return Restore(source, target, weights=(weights_path,), **options).run()


def mean_difference(path, expected):
    frames = [frame[..., :3].astype(float) for frame in open_source(path)]
    return np.abs(np.stack(frames) - expected).mean()


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_phone_video_keeps_everything(tmp_path, same, suffix):
    source, target = tmp_path / "phone.mp4", tmp_path / f"out.{suffix}"
    frames = videos.moving_bars(25)
    videos.write_video(source, frames, rotation=90, colors=SD_FULL)
    before = videos.describe(source)
    assert before["rotation"] == -90
    run(source, target, same, crf=1)
    after = videos.describe(target)
    assert after["rotation"] == 0
    assert after["size"] == (64, 48)  # upright
    # Matroska begins with the sound, which begins before the video stream.
    shift = after["times"][0]
    assert shift < 0.03
    times = [time - shift for time in after["times"]]
    np.testing.assert_allclose(times, before["times"], atol=2e-3)
    assert after["audio"] == before["audio"]
    for key in ("title", "colors", "chapters"):
        assert after[key] == before[key], key
    if suffix != "mov":  # whose list of languages is an older one
        assert after["languages"] == ["deu"]
    for kind, seconds in after["durations"].items():
        assert abs(seconds - before["durations"][kind]) < 0.04
    upright = np.stack([np.rot90(frame, -1) for frame in frames])
    assert mean_difference(target, upright) < 4  # 4:2:0 twice


def test_varying_frame_times_are_kept(tmp_path, same):
    times = list(itertools.accumulate([0, 33, 17, 250, 8, 41, 999, 16, 16, 16, 70]))
    source, target = tmp_path / "screen.mkv", tmp_path / "out.mp4"
    frames = videos.moving_bars(len(times))
    videos.write_video(source, frames, times=times, subtitles=True)
    assert videos.describe(source)["times"] == [time / 1000 for time in times]
    for target in (tmp_path / "out.mkv", tmp_path / "out.mp4"):
        streams = "video" if target.suffix == ".mp4" else "all"
        run(source, target, same, streams=streams)
        after = videos.describe(target)
        assert after["times"] == [time / 1000 for time in times]
    end = times[-1] / 1000
    assert end < after["durations"]["video"] < end + 0.1
    assert videos.describe(tmp_path / "out.mkv")["subtitles"] == [b"Hello"]
    with pytest.raises(InputError, match=r"subtitle stream 2 .* --streams video"):
        run(source, tmp_path / "other.mp4", same)


def test_ten_bits_stay_ten_bits(tmp_path, same):
    frames = videos.moving_bars(6).astype(np.uint16) * 256 + 77
    source, target = tmp_path / "hdr.mp4", tmp_path / "out.mp4"
    videos.write_video(
        source, frames, codec="libx265", pix_fmt="yuv444p10le", colors=UHD
    )
    run(source, target, same, crf=1, pix_fmt="yuv444p10le")
    after = videos.describe(target)
    assert (after["codec"], after["pix_fmt"]) == ("hevc", "yuv444p10le")
    assert after["colors"] == UHD
    decoded = np.stack(list(open_source(source))).astype(float)
    assert decoded.dtype != np.uint8
    # Less than a level of 8 bits; measured 0.4 of one.
    assert mean_difference(target, decoded) < 257 * 0.7
    run(source, tmp_path / "frames", same)
    first = cv2.imread(str(tmp_path / "frames" / "00000000.png"), cv2.IMREAD_UNCHANGED)
    assert first.dtype == np.uint16
    run(tmp_path / "frames", tmp_path / "again", same, image_format="tif")
    image = cv2.imread(str(tmp_path / "again" / "00000000.tif"), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16
    run(source, tmp_path / "flat.mp4", same, pix_fmt="yuv420p", codec="libx264")
    assert videos.describe(tmp_path / "flat.mp4")["pix_fmt"] == "yuv420p"


@pytest.mark.parametrize(
    ("name", "codec", "limit"),
    [
        ("out.webm", "vp9", 9),
        ("out.gif", "gif", 12),
        ("out.y4m", "rawvideo", 7),
    ],
)
def test_other_formats(tmp_path, same, name, codec, limit, capsys):
    source, target = tmp_path / "in.mp4", tmp_path / name
    frames = videos.moving_bars(12)
    videos.write_video(source, frames, with_sound=name == "out.gif")
    run(source, target, same)
    after = videos.describe(target)
    assert after["codec"] == codec
    assert len(after["times"]) == 12
    np.testing.assert_allclose(after["times"], np.arange(12) * 0.04, atol=6e-3)
    assert mean_difference(target, frames) < limit
    notes = capsys.readouterr().err
    assert ("audio stream 1 (aac) cannot be stored in .gif" in notes) == (
        name == "out.gif"
    )


def test_one_frame_of_gif(tmp_path, same):
    videos.write_video(
        tmp_path / "in.gif",
        videos.moving_bars(1),
        codec="gif",
        pix_fmt="rgb8",
        with_sound=False,
    )
    run(tmp_path / "in.gif", tmp_path / "out.gif", same)
    assert len(videos.describe(tmp_path / "out.gif")["times"]) == 1


def test_part_of_a_film_with_its_sound(tmp_path, same):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    frames = videos.moving_bars(50)
    videos.write_video(source, frames)
    run(source, target, same, start="0.4", end="0:01.2", crf=1)
    after = videos.describe(target)
    assert after["times"] == [round(0.04 * i, 3) for i in range(20)]
    assert mean_difference(target, frames[10:30]) < 4
    assert abs(after["durations"]["audio"] - 0.8) < 0.05
    assert [c[:2] for c in after["chapters"]] == [(0.0, 0.8)]
    run(source, tmp_path / "few.mp4", same, preview=3, start="1")
    assert mean_difference(tmp_path / "few.mp4", frames[25:28]) < 5
    run(source, tmp_path / "late", same, start="0:00:01.9")
    assert len(list((tmp_path / "late").iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"start": "9"}, ("in.mp4", "no frame", "start", "end")),
        ({"start": "1", "end": "0.5"}, ("end", "start")),
        ({"start": "soon"}, ("start", "H:MM:SS", "'soon'")),
        ({"preview": 0}, ("at least one frame",)),
        ({"scale": 0.0}, ("scale", "1/16..64")),
        ({"fps": "30"}, ("--fps", "in.mp4", "folder of frames")),
        ({"image_format": "jpg"}, ("--image-format", "out.mp4")),
        ({"tile": 60}, ("60 pixels", "65")),
        ({"codec": "libx999"}, ("no video encoder", "'libx999'")),
        ({"codec": "aac"}, ("no video encoder", "'aac'")),
        ({"pix_fmt": "yuv410p"}, ("libx264", "pixel format", "'yuv410p'")),
        ({"crf": 77}, ("crf", "libx264", "0..51", "77")),
        ({"codec": "ffv1", "crf": 3}, ("ffv1", "crf")),
        ({"encoder_options": ("speed=9",)}, ("encoder option", "'speed=9'")),
        (
            {"encoder_options": ("preset=warp",)},
            ("libx264", "preset=warp", "64x48", ".mp4"),
        ),
        ({"codec": "prores_ks"}, ("prores_ks", "cannot write", ".mp4")),
        ({"codec": "mpeg4"}, ("mpeg4", "cannot write", ".mp4")),
        ({"artifact": "x.edvr"}, ("--artifact x.edvr", "--weights")),
        ({"stage2": "edvr_s_x4"}, ("edvr_s_x4", "second stage", 4)),
        ({"report": "no/where.json"}, ("no/where.json", "folder")),
    ],
)
def test_impossible_wishes_leave_nothing(tmp_path, same, options, facts):
    source = tmp_path / "in.mp4"
    # As a phone writes it: units of a 90000th of a second.
    videos.write_video(source, videos.moving_bars(3), with_sound=False, clock=90000)
    if "report" in options:
        options = {"report": tmp_path / options["report"]}
    with refused(*facts):
        run(source, tmp_path / "out.mp4", same, **options)
    assert list(tmp_path.iterdir()) == [source]


def test_any_scale_and_comparisons(tmp_path, same, save_network):
    frames = videos.moving_bars(2, 40, 60)
    source = videos.write_folder(tmp_path / "in", frames)
    double = save_network("double.safetensors", scale=2, strength=0.001)
    for scale, size in ((1.5, (60, 90)), (3.0, (120, 180)), (0.5, (20, 30))):
        target = tmp_path / f"scale{scale}"
        run(source, target, double, scale=scale)
        assert open_clip(target).size == size
    expected = np.stack(
        [cv2.resize(f, (30, 20), interpolation=cv2.INTER_AREA) for f in frames]
    )
    assert mean_difference(tmp_path / "scale0.5", expected) < 6  # no aliasing
    run(source, tmp_path / "side", double, compare="side")
    run(source, tmp_path / "plain", double)
    side, plain = (
        list(open_clip(tmp_path / "side")),
        list(open_clip(tmp_path / "plain")),
    )
    assert side[0].shape == (80, 240, 3)
    np.testing.assert_array_equal(np.stack(side)[:, :, 120:], plain)
    bicubic = cv2.resize(frames[1], (120, 80), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(side[1][:, :120], bicubic)
    run(source, tmp_path / "split", double, compare="split")
    split = np.stack(list(open_clip(tmp_path / "split")))
    np.testing.assert_array_equal(split[:, :, 61:], np.stack(plain)[:, :, 61:])
    assert (split[:, :, 59:61] == 255).all()


def test_chain_and_second_stage(tmp_path, same, save_network):
    source = videos.write_folder(tmp_path / "in", videos.moving_bars(4, 16, 16))
    double = save_network("twice.safetensors", scale=2)
    stage2 = save_network("stage2.safetensors", scale=1, hr_in=True)
    Restore(source, tmp_path / "out", weights=(same, double), stage2=stage2).run()
    frames = list(open_clip(source))
    for path in (same, double, stage2):
        network = weights.load_weights(path)
        frames = [np.clip(frame, 0, 1) for frame in restore_frames(*network, frames)]
        frames = [frame.astype(np.float32) for frame in frames]
    restored = np.stack(list(open_clip(tmp_path / "out"))).astype(int)
    assert np.abs(restored - np.stack(list(map(to_uint8, frames)))).max() <= 1


def test_pipes(tmp_path, same):
    source = tmp_path / "in.y4m"
    videos.write_video(
        source, videos.moving_bars(5), codec="wrapped_avframe", with_sound=False
    )
    with source.open("rb") as file:
        process = videos.start_edvr(
            *("restore", "-", "-", "--weights", same),
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    (tmp_path / "out.y4m").write_bytes(out)
    assert mean_difference(tmp_path / "out.y4m", videos.moving_bars(5)) < 7
    process = videos.start_edvr(
        *("restore", "-", tmp_path / "none.mp4", "--weights", same),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, errors = process.communicate(b"no video at all", timeout=300)
    assert process.returncode == 2
    assert (
        errors.decode()
        .splitlines()[-1]
        .startswith("error: the input pipe: not a video")
    )


def test_report_says_what_was_done(tmp_path, same):
    source, report = tmp_path / "in.mp4", tmp_path / "report.json"
    videos.write_video(source, videos.moving_bars(4))
    run(source, tmp_path / "out.mp4", same, report=report)
    found = json.loads(report.read_text())
    assert found["frames"] == found["restored_frames"] == 4
    assert set(found["stages"]) == {"decode", "restore", "encode"}
    assert sum(found["stages"].values()) > 0
    assert found["settings"]["weights"] == {
        same: weights.fingerprint(weights.load_weights(same)[1])
    }
    assert found["settings"]["encoding"]["codec"] == "libx264"
    with pytest.raises(InputError, match=r"report\.json: exists already"):
        run(source, tmp_path / "other.mp4", same, report=report)


@pytest.mark.parametrize("name", ["empty.mp4", "cut.mp4"])
def test_files_that_are_no_videos(tmp_path, same, name):
    whole = tmp_path / "whole.mp4"
    videos.write_video(whole, videos.moving_bars(9))
    data = b"" if name == "empty.mp4" else whole.read_bytes()[:999]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: not a video that can be read"):
        run(tmp_path / name, tmp_path / "out.mp4", same)
    assert not list(tmp_path.glob("*out*"))


def test_corrupt_middle_loses_no_frame_silently(tmp_path, same, capsys):
    source = tmp_path / "in.mkv"
    videos.write_video(source, videos.moving_bars(30), with_sound=False)
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    source.write_bytes(data)
    count = _count_decodable(source)
    assert 0 < count < 30
    assert run(source, tmp_path / "out.mp4", same) is None
    assert len(videos.describe(tmp_path / "out.mp4")["times"]) == count
    note = (
        rf"note: {source} announces 1\.20 s of video, but it ends .* \({count} came\)"
    )
    assert re.search(note, capsys.readouterr().err)


def _count_decodable(path):
    """Count the frames that FFmpeg decodes, past packets that it refuses."""
    count = 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for packet in container.demux(video=0):
            with contextlib.suppress(av.error.InvalidDataError):
                count += len(packet.decode())
    return count


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_full_disk(tmp_path, same):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], check=False
    )
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        source = tmp_path / "in.mp4"
        noise = np.random.default_rng(0).integers(0, 256, (12, 96, 96, 3), np.uint8)
        videos.write_video(source, noise, with_sound=False)
        for target in (disk / "out.mp4", disk / "frames"):
            with pytest.raises(InputError, match="No space left on device") as caught:
                run(source, target, same, crf=0)
            assert "\n" not in str(caught.value)
            assert not target.exists()
            subprocess.run(["rm", "-rf", *disk.glob(".*.restoring")], check=True)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc")
def test_output_that_cannot_be_written(tmp_path, same):
    source = tmp_path / "in.mp4"
    videos.write_video(source, videos.moving_bars(3), with_sound=False)
    for target in ("/proc/out.mp4", "/proc/out"):
        with pytest.raises(InputError, match=r"/proc/out.*: cannot be written"):
            Restore(source, type(tmp_path)(target), weights=(same,)).run()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_that_cannot_be_listed(tmp_path, same):
    (tmp_path / "in").mkdir(mode=0)
    with pytest.raises(InputError, match="in: cannot be listed: Permission denied"):
        run(tmp_path / "in", tmp_path / "out", same)


def test_artifact_restores_what_its_network_does(tmp_path, save_network, capsys):
    source = videos.write_folder(tmp_path / "in", videos.moving_bars(3, 21, 30))
    double = save_network("exported.safetensors", scale=2)
    artifact = tmp_path / "network.edvr"
    arguments = ["export", double, str(artifact)]
    assert cli.main(arguments) == 0
    assert "for cpu, cuda, tpu" in capsys.readouterr().out
    assert cli.main(arguments) == 2  # exists already
    page = tmp_path / "a.html"
    Restore(source, tmp_path / "a", artifact=artifact, report_html=page).run()
    assert "exported network gives no maps" in page.read_text("utf-8")
    run(source, tmp_path / "b", double)
    a, b = (np.stack(list(open_clip(tmp_path / name))).astype(int) for name in "ab")
    assert np.abs(a - b).max() <= 1
    (tmp_path / "no.edvr").write_bytes(b"PK no")
    with pytest.raises(InputError, match=r"no\.edvr: not an artifact of edvr export"):
        Restore(source, tmp_path / "c", artifact=tmp_path / "no.edvr").run()
