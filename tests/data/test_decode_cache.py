"""Clips decoded into the cache: content, reuse, budget, cuts."""

import cv2
import numpy as np
import pytest

from edvr_jax.config import DataConfig
from edvr_jax.data.decode_cache import FrameStore
from edvr_jax.data.frames import DecodedFrames, FrameFiles
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.errors import InputError
from edvr_jax.media.read import scenes


def write_clip(folder, frames):
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{i}.png"), frame[..., ::-1])
    return folder


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, frames):
    return write_clip(tmp_path / "a", frames)


def open_clip(folder, cache, **options):
    return FrameStore(cache, DataConfig(**options)).open("a", folder)


def test_folders_are_read_as_they_are(folder, frames, tmp_path):
    opened, cuts = open_clip(folder, tmp_path / "cache", max_frames_per_clip=3)
    assert isinstance(opened, FrameFiles)
    assert (len(opened), opened.size, cuts) == (3, (20, 24), [])
    np.testing.assert_array_equal(opened[2], frames[2])
    assert not (tmp_path / "cache").exists()


def test_shrunk_frames_are_decoded_once(folder, frames, tmp_path, monkeypatch):
    options = {"gt_downscale": 2, "max_frames_per_clip": 3}
    opened, _ = open_clip(folder, tmp_path / "cache", **options)
    assert isinstance(opened, DecodedFrames)
    assert (len(opened), opened.size) == (3, (10, 12))
    np.testing.assert_array_equal(opened[2], imresize_uint8(frames[2], 1 / 2))

    monkeypatch.setattr(FrameStore, "_decode", None)
    again, _ = open_clip(folder, tmp_path / "cache", **options)
    np.testing.assert_array_equal(again[1], opened[1])
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_changed_clip_is_decoded_again(folder, tmp_path):
    before, _ = open_clip(folder, tmp_path / "cache", gt_downscale=2)
    cv2.imwrite(str(folder / "0.png"), np.zeros((20, 24, 3), np.uint8))
    after, _ = open_clip(folder, tmp_path / "cache", gt_downscale=2)
    assert before[0].any()
    assert not after[0].any()


def test_cache_on_disk_has_a_budget(folder, tmp_path):
    size = 4 * 10 * 12 * 3 + 200
    options = {"gt_downscale": 2, "max_disk_cache_gib": size / 2**30}
    store = FrameStore(tmp_path / "cache", DataConfig(**options))
    store.open("a", folder)
    assert 0 < store.used_bytes < size
    with pytest.raises(InputError, match=r"more than data\.max_disk_cache_gib"):
        store.open("b", write_clip(tmp_path / "b", np.ones((1, 20, 24, 3), np.uint8)))
    assert not [p for p in (tmp_path / "cache").iterdir() if p.suffix == ".tmp"]


def test_damaged_frame_leaves_nothing_behind(folder, tmp_path):
    (folder / "2.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"a/2\.png: not a complete image"):
        open_clip(folder, tmp_path / "cache", gt_downscale=2)
    assert not list((tmp_path / "cache").glob("*.npy"))


def pan(image, count):
    return [image[i : i + 60, 2 * i : 2 * i + 80] for i in range(count)]


def test_cuts_between_real_scenes(fixtures, tmp_path):
    """A pan over one place, one over another, and the first again.

    With the defaults, 16 of 16 cuts between real 720p clips are found, and none in
    120 frames each of 18 real clips.
    """
    image = np.load(fixtures / "psnr_ssim.npz")["a_rgb"][0]
    shots = pan(image, 6) + pan(np.roll(image, 100, axis=1), 5) + pan(image, 4)
    folder = write_clip(tmp_path / "cut", shots)
    _, cuts = open_clip(folder, tmp_path / "cache", split_scenes=True)
    assert cuts == [6, 11]
    again = open_clip(folder, tmp_path / "cache", split_scenes=True)[1]
    assert again == cuts


@pytest.mark.parametrize(
    ("differences", "cuts"),
    [
        ([0, 1, 2, 60, 2, 1], [3]),
        ([0, 1, 1, 10, 1, 1], []),  # too small
        ([0, 40, 50, 60, 50, 40], []),  # fast motion
        ([0, 80, 1, 1], [1]),
        ([0, 1, 1, 80], [3]),
        ([0], []),
        ([], []),
    ],
)
def test_find_cuts(differences, cuts):
    assert scenes.find_cuts(differences) == cuts


def test_names_with_folders_stay_in_the_cache(folder, tmp_path):
    store = FrameStore(tmp_path / "cache", DataConfig(gt_downscale=2))
    store.open("00001/0001", folder)
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".npy", ".json"}
