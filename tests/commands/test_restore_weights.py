"""Without ``--weights`` the network follows from how much a video is compressed."""

import json

import cv2
import numpy as np
import pytest

from edvr_jax.commands.restore import Restore
from edvr_jax.media.read.source import open_source
from edvr_jax.media.read.timeline import Trim
from tests import videos


def write_texture(path, crf, count=100):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 16, 3), np.uint8)
    frame = cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([np.roll(frame, index, axis=1) for index in range(count)])
    options = {"crf": str(crf)}
    videos.write_video(path, frames, options=options, with_sound=False)


@pytest.mark.parametrize(
    ("crf", "is_compressed", "name", "scale"),
    [(51, True, "edvr_s_x2_web", 2), (5, False, "edvr_s_x4", 4)],
)
def test_compressed_video_has_its_own_network(
    tmp_path, capsys, crf, is_compressed, name, scale
):
    source, report = tmp_path / "in.mp4", tmp_path / "report.json"
    write_texture(source, crf)
    Restore(source, tmp_path / "out", preview=1, report=report).run()
    assert ("looks compressed" in capsys.readouterr().err) == is_compressed
    assert cv2.imread(str(tmp_path / "out/00000000.png")).shape[0] == 48 * scale
    assert list(json.loads(report.read_text())["settings"]["weights"]) == [name]


def test_chosen_weights_are_taken(tmp_path, capsys, tiny):
    source = tmp_path / "in.mp4"
    write_texture(source, 51)
    Restore(source, tmp_path / "out", weights=(tiny,), preview=1).run()
    assert "looks compressed" not in capsys.readouterr().err


def test_folders_are_not_compressed(tmp_path):
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.jpg"), np.zeros((48, 64, 3), np.uint8))
    assert open_source(tmp_path).bits_per_pixel() is None


@pytest.mark.parametrize(("pix_fmt", "expected"), [("yuv420p", 12), ("yuv444p", 24)])
def test_bits_per_pixel_of_raw_video(tmp_path, pix_fmt, expected):
    path = tmp_path / "in.y4m"
    frames = videos.moving_bars(5)
    settings = {"codec": "rawvideo", "pix_fmt": pix_fmt, "options": {}}
    videos.write_video(path, frames, with_sound=False, **settings)
    source = open_source(path)
    assert source.bits_per_pixel() == expected
    with path.open("rb") as pipe:
        assert open_source(path, pipe=pipe).bits_per_pixel() is None


def test_bits_per_pixel_counts_the_part_alone(tmp_path):
    """The first half is a still image, the second half is noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (50, 48, 64, 3), np.uint8)
    frames = np.concatenate([np.zeros_like(noise), noise])
    path = tmp_path / "in.mp4"
    options = {"crf": "20", "g": "25"}
    videos.write_video(path, frames, options=options, with_sound=False)
    whole = open_source(path).bits_per_pixel()
    late = open_source(path, Trim(start=2)).bits_per_pixel()
    assert late == pytest.approx(2 * whole, rel=0.05)
