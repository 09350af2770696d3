"""tools/make_text_clips.py: posters that a camera moves over."""

import itertools

import cv2
import numpy as np
import pytest
from PIL import ImageFont

from edvr_jax.media.read.clip_reader import open_clip
from tests.messages import refused
from tools import make_text_clips
from tools.make_text_clips import MakeTextClips

SIZE = (90, 160)


@pytest.fixture
def fonts(tmp_path, monkeypatch):
    """A folder with Pillow's own font, and small frames."""
    monkeypatch.setattr(make_text_clips, "SIZE", SIZE)
    (tmp_path / "fonts" / "sans").mkdir(parents=True)
    data = ImageFont.load_default(20).path.getvalue()
    (tmp_path / "fonts" / "sans" / "default.ttf").write_bytes(data)
    return tmp_path / "fonts"


def read(folder):
    return {path.name: np.array(list(open_clip(path))) for path in folder.iterdir()}


def test_clips_follow_from_their_numbers_and_stay(fonts, tmp_path):
    make = MakeTextClips(fonts, tmp_path / "clips", count=2, frames=3)
    make.run()
    clips = read(tmp_path / "clips")
    assert sorted(clips) == ["text_00", "text_01"]
    for frames in clips.values():
        assert frames.shape == (3, *SIZE, 3)
        assert frames.std() > 20  # measured 46 and 59
        steps = np.diff(frames.astype(int), axis=0)
        assert np.abs(steps).mean() > 1  # measured 2.6 and 42
    again = MakeTextClips(fonts, tmp_path / "again", count=2, frames=3)
    again.run()
    for name, frames in read(tmp_path / "again").items():
        np.testing.assert_array_equal(frames, clips[name])
    kept = tmp_path / "clips" / "text_01" / "00000000.png"
    kept.write_bytes(b"")
    make.run()
    assert kept.read_bytes() == b""


def test_camera_moves_evenly(fonts, monkeypatch):
    """Without turns and zoom, each frame is the one before, shifted by as much."""
    monkeypatch.setattr(make_text_clips, "MAX_TURN", 0)
    monkeypatch.setattr(make_text_clips, "MAX_ZOOM", 0)
    rng = np.random.default_rng(3)
    poster = make_text_clips.draw_poster(rng, sorted(fonts.rglob("*.ttf")))
    frames = make_text_clips.move_camera(rng, poster, num_frames=5)
    gray = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(np.float32) for x in frames]
    shifts = [_shift(*pair) for pair in itertools.pairwise(gray)]
    assert 0.5 < np.linalg.norm(shifts[0]) < make_text_clips.MAX_SPEED * np.sqrt(2)
    np.testing.assert_allclose(shifts, [shifts[0]] * 4, atol=0.05)


def _shift(before, after):
    start = np.eye(2, 3, dtype=np.float32)
    _, found = cv2.findTransformECC(before, after, start, cv2.MOTION_TRANSLATION)
    return found[:, 2]


def test_a_folder_without_fonts_is_named(tmp_path):
    with refused(tmp_path, ".ttf"):
        MakeTextClips(tmp_path, tmp_path / "clips").run()
    assert not (tmp_path / "clips").exists()
