"""``edvr restore`` between formats that do not store the same: times, colors, sound."""

import json
import re
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edvr_jax.commands.restore import Restore
from edvr_jax.commands.values import parse_rate
from edvr_jax.errors import InputError
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.read.source import open_source
from tests import videos
from tests.messages import check_message, refused


def run(source, target, weights_path, **options):
    return Restore(source, target, weights=(weights_path,), **options).run()


def test_last_frame_of_varying_times_ends_when_it_should(tmp_path, same):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mkv"
    times = [0, 40, 80, 1500, 1540, 1580, 1620]
    videos.write_video(source, videos.moving_bars(7), times=times, with_sound=False)
    run(source, target, same)
    with av.open(str(target)) as container:
        assert abs(container.duration / av.time_base - 1.66) < 0.05
    assert len(list(open_clip(target))) == 7  # else it seems to be cut short


def test_mean_rate_of_a_phone_in_y4m(tmp_path, same, caplog):
    source, target = tmp_path / "in.mp4", tmp_path / "out.y4m"
    # A mean rate of 30.01, as a phone's clock has it.
    times = [round(i * 3332.2 / 100) for i in range(12)]
    videos.write_video(source, videos.moving_bars(12), times=times, clock=90000)
    run(source, target, same)
    after = videos.describe(target)
    np.testing.assert_allclose(after["times"], np.array(times) / 1000, atol=8e-3)
    assert not caplog.messages


def test_times_that_a_fixed_rate_cannot_keep_are_a_warning(tmp_path, same, caplog):
    source, target = tmp_path / "in.mkv", tmp_path / "out.y4m"
    times = [0, 40, 80, 120, 160, 1500, 1540, 1580, 1620, 1660, 1700]
    videos.write_video(source, videos.moving_bars(11), times=times)
    run(source, target, same)
    assert len(list(open_source(target))) == 11
    (message,) = caplog.messages
    check_message(message, target, "frame 5 ", ".mp4", ".mkv")


@pytest.mark.parametrize("levels", [1, 2])
def test_colors_that_a_format_does_not_store(tmp_path, same, levels):
    # Enlarged to a size for which players take another matrix.
    source, target = tmp_path / "in.mp4", tmp_path / "out.y4m"
    frames = videos.moving_bars(2, 150, 192)
    colors = (6, levels, 6, 6)
    videos.write_video(source, frames, colors=colors, with_sound=False)
    run(source, target, same, scale=4.0)
    small = [cv2.resize(x, None, fx=0.25, fy=0.25) for x in open_source(target)]
    # Not the mean, as the bars have hard edges; 4 and more by the wrong matrix.
    assert np.median(np.abs(np.stack(small) - frames.astype(float))) < 2


def test_gif_of_a_fast_film(tmp_path, same):
    source, target = tmp_path / "in.mp4", tmp_path / "out.gif"
    times = [4 * i for i in range(9)]
    frames = videos.moving_bars(9)
    videos.write_video(source, frames, times=times, with_sound=False)
    run(source, target, same)
    assert len(videos.describe(target)["times"]) == 9


def test_times_that_jump_back_are_refused(tmp_path, same):
    parts = []
    for index in range(2):
        path = tmp_path / f"{index}.ts"
        videos.write_video(path, videos.moving_bars(60))
        parts.append(path.read_bytes())
    (tmp_path / "in.ts").write_bytes(b"".join(parts))
    with refused("in.ts", "jump back by 2.", "60 frames restored"):
        run(tmp_path / "in.ts", tmp_path / "out.mp4", same)
    assert len(videos.describe(tmp_path / "out.partial.mp4")["times"]) == 60


def test_frames_that_the_decoder_leaves_out_are_told(tmp_path, same, capsys):
    source, target = tmp_path / "in.ts", tmp_path / "out.mkv"
    videos.write_video(
        source, videos.moving_bars(30), codec="libx265", with_sound=False
    )
    videos.blank_packets(source, [9, 10])
    run(source, target, same)
    count = len(videos.describe(target)["times"])
    assert count < 30
    # Of the packets that are found again in the damaged stream.
    note = rf"in\.ts is damaged: ({29 - count}|{30 - count}) frames cannot be decoded"
    assert re.search(note, capsys.readouterr().err)


# The reading of 200 cuts and of other suspicions: tests/media/read/test_truncation.py.
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_cut_video_is_restored_whole(tmp_path, same, capsys, suffix):
    whole, source = tmp_path / "whole.mp4", tmp_path / f"in.{suffix}"
    target, report = tmp_path / "out.mp4", tmp_path / "report.json"
    options = {"x264-params": "keyint=20:bframes=3"}
    videos.write_video(whole, videos.moving_bars(60), options=options)
    count = videos.cut(whole, source, 1.02, 0.5)
    assert run(source, target, same, report=report) is None
    assert len(videos.describe(target)["times"]) == count
    with av.open(str(target)) as container:
        first = {}
        for packet in container.demux(video=0, audio=0):
            first.setdefault(packet.stream.type, packet.pts * packet.time_base)
            if len(first) == 2:
                break
    # MP4 hides more than 0.2 s of sound; Matroska shows all from the key frame on.
    assert suffix == "mkv" or abs(first["audio"] - first["video"]) < 0.13
    assert {path.name for path in tmp_path.iterdir()} == {
        *("whole.mp4", source.name, "out.mp4", "report.json")
    }
    lines = capsys.readouterr().err
    assert "note: " not in lines
    facts = json.loads(report.read_text())
    assert (facts["frames"], facts["decoded_frames"]) == (count, count)
    assert facts["is_read_to_end"]
    if suffix == "mp4":
        assert facts["announced_frames"] == count
        assert f"in.mp4: {count} frames, " in lines
    else:
        assert abs(facts["announced_end_seconds"] - facts["decoded_end_seconds"]) < 0.04


@pytest.mark.parametrize("suffix", ["mkv", "y4m", "nut"])
def test_suspicion_is_a_note(tmp_path, same, capsys, suffix):
    """Cut off; cut within a frame; and a frame that repeats, which is none."""
    source, target = tmp_path / f"in.{suffix}", tmp_path / "out.mkv"
    whole, report = tmp_path / "whole.mkv", tmp_path / "report.json"
    codec = "wrapped_avframe" if suffix == "y4m" else "mjpeg"
    options = {"codec": codec, "pix_fmt": "yuv420p", "with_sound": False}
    if suffix != "y4m":
        options["pix_fmt"] = "yuvj420p"
    path = whole if suffix == "nut" else source
    videos.write_video(path, videos.moving_bars(8), **options)
    if suffix == "nut":
        videos.empty_packets(whole, source, (3, 7))
    else:
        data = source.read_bytes()
        source.write_bytes(data[: len(data) * 7 // 8])
    assert run(source, target, same, report=report) is None
    count = 6 if suffix == "nut" else json.loads(report.read_text())["decoded_frames"]
    assert 4 < count < 8
    assert len(videos.describe(target)["times"]) == count
    assert not (tmp_path / "out.partial.mkv").exists()
    notes = [x for x in capsys.readouterr().err.splitlines() if "note: " in x]
    wanted = {
        "mkv": f"{source} announces 0.32 s of video, but it ends at",
        "y4m": f"{source} announces {count + 1} frames, but {count} came",
        "nut": None,
    }[suffix]
    assert len(notes) == (wanted is not None)
    assert not wanted or notes[0].startswith(f"note: {wanted}")


def test_mirrored_film_comes_out_as_players_show_it(tmp_path, same):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    frames = videos.moving_bars(3)
    videos.write_video(source, frames, display_matrix=(-1, 0, 0, 1), with_sound=False)
    run(source, target, same, crf=1)
    restored = np.stack(list(open_clip(target))).astype(float)
    assert np.abs(restored - frames[:, :, ::-1]).mean() < 4
    assert videos.describe(target)["rotation"] == 0


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("29.97", "30000/1001"),
        ("23.976", "24000/1001"),
        ("23.98", "24000/1001"),
        ("60000/1001", "60000/1001"),
        ("25", "25"),
        ("12.5", "25/2"),
        ("30.01", "3001/100"),
    ],
)
def test_rates_are_exact(text, rate):
    assert str(parse_rate(text)) == rate


def test_names_that_look_like_a_protocol(tmp_path, same, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, target = Path("in-12:30.mp4"), Path("out-12:30.mp4")
    videos.write_video(source.absolute(), videos.moving_bars(3))
    run(source, target, same)
    assert len(videos.describe(target.absolute())["times"]) == 3
    run(source, Path("out-12:30.gif"), same)
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".gif"}


@pytest.mark.parametrize(
    ("name", "pix_fmt"),
    [
        ("out.mp4", "yuv420p10le"),
        ("out.mov", "yuv420p10le"),
        ("out.mkv", "yuv420p10le"),
        ("out.webm", "yuv420p10le"),
        ("out.y4m", "yuv420p10le"),
        ("out.gif", "bgra"),
    ],
)
def test_more_than_eight_bits_into_every_format(tmp_path, same, name, pix_fmt):
    source, target = tmp_path / "in", tmp_path / name
    source.mkdir()
    ramp = np.linspace(5000, 60000, 64 * 48).reshape(48, 64, 1)
    images = [np.repeat(ramp + 500 * i, 3, 2).astype(np.uint16) for i in range(2)]
    for index, image in enumerate(images):
        cv2.imwrite(str(source / f"{index}.png"), image)
    run(source, target, same)
    after = videos.describe(target)
    assert after["pix_fmt"] == pix_fmt
    restored = [image[..., :3].astype(float) for image in open_source(target)]
    if target.suffix == ".gif":  # 8 bits
        restored = [257 * image for image in restored]
    assert len(restored) == 2
    for image, expected in zip(restored, images, strict=True):
        assert np.abs(image - expected).mean() < 3 * 257


def test_prores_keeps_colors(tmp_path, same):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mov"
    colors = (9, 1, 9, 14)
    frames = videos.moving_bars(3).astype(np.uint16) * 256
    videos.write_video(
        source, frames, codec="libx265", pix_fmt="yuv420p10le", colors=colors
    )
    run(source, target, same, codec="prores_ks")
    assert videos.describe(target)["colors"] == colors


@pytest.mark.parametrize("before", [".mp4", ".mkv"])
@pytest.mark.parametrize("after", [".mp4", ".mkv", ".mov"])
def test_names_and_languages_of_sound(tmp_path, same, capsys, before, after):
    source, target = tmp_path / f"in{before}", tmp_path / f"out{after}"
    videos.write_video(source, videos.moving_bars(2), sound_title="Director")
    run(source, target, same)
    with av.open(str(target)) as container:
        tags = container.streams.audio[0].metadata
    # FFmpeg's reader calls the titles of MP4 and QuickTime names.
    assert tags["title" if after == ".mkv" else "name"] == "Director"
    assert "NAME" not in tags
    # QuickTime numbers languages, and FFmpeg knows German's number by an older code.
    assert tags.get("language") == (None if after == ".mov" else "deu")
    notes = capsys.readouterr().err
    assert ("deu may be left out; .mp4 and .mkv keep" in notes) == (after == ".mov")


@pytest.mark.parametrize("name", ["out", "out.y4m", "out.gif"])
def test_sound_that_is_left_out_is_told(tmp_path, same, capsys, name):
    source = tmp_path / "in.mkv"
    videos.write_video(source, videos.moving_bars(2), subtitles=True)
    run(source, tmp_path / name, same)
    notes = capsys.readouterr().err
    assert "note: audio stream 1 (aac) cannot be stored in" in notes
    assert "note: subtitle stream 2 (srt) cannot be stored in" in notes
    run(source, tmp_path / f"again{name}", same, streams="video")
    assert "note" not in capsys.readouterr().err


def test_damage_is_told_also_of_a_part(tmp_path, same, capsys):
    source, report = tmp_path / "in.mp4", tmp_path / "report.json"
    options = {"x264-params": "keyint=10"}
    frames = videos.moving_bars(20, 96, 128)
    videos.write_video(source, frames, options=options, with_sound=False)
    videos.damage_packet(source, 12)
    note = "note: .* the decoder guessed parts of [1-9].*, the first one at 0.4"
    run(source, tmp_path / "all.mp4", same, report=report)
    assert re.search(note, capsys.readouterr().err)
    assert json.loads(report.read_text())["concealed_frames"] > 0
    run(source, tmp_path / "part.mp4", same, preview=16)
    assert re.search(note, capsys.readouterr().err)


def test_avi_with_frames_that_are_decoded_in_another_order(tmp_path, same):
    source = tmp_path / "in.avi"
    options = {"x264-params": "bframes=3"}
    frames = videos.moving_bars(14)
    videos.write_video(source, frames, rate=25, options=options, with_sound=False)
    run(source, tmp_path / "out.mp4", same)
    times = videos.describe(tmp_path / "out.mp4")["times"]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-3)
    run(source, tmp_path / "out.y4m", same)
    assert len(list(open_source(tmp_path / "out.y4m"))) == 14


def test_damaged_times_are_left_to_the_decoder(tmp_path, same):
    source = tmp_path / "in.y4m"
    frames = videos.moving_bars(5)
    videos.write_video(source, frames, codec="wrapped_avframe", with_sound=False)
    data = source.read_bytes()
    place = data.rindex(b"FRAME")
    source.write_bytes(data[:place] + b"BROKE" + data[place + 5 :])
    with refused(source, "damaged", "4 frames restored"):
        run(source, tmp_path / "out.y4m", same)


def test_report_replaces_no_weights(tmp_path, same):
    weights = tmp_path / "mine.safetensors"
    shutil.copyfile(same, weights)
    source = tmp_path / "in.mp4"
    videos.write_video(source, videos.moving_bars(2), with_sound=False)
    for report in (weights, source):
        with pytest.raises(InputError, match=r"--report .*is the (weights|input)"):
            run(source, tmp_path / "o.mp4", weights, report=report, overwrite=True)
    assert weights.read_bytes() == Path(same).read_bytes()


def test_film_without_a_count_of_frames_has_an_estimate(tmp_path, same, capsys):
    source = tmp_path / "in.mkv"
    videos.write_video(source, videos.moving_bars(12))
    run(source, tmp_path / "all", same)
    assert re.search(r"in\.mkv: about 1[23] frames, 64x48", capsys.readouterr().err)
    run(source, tmp_path / "part", same, preview=3)
    assert "in.mkv: 3 frames, 64x48" in capsys.readouterr().err
