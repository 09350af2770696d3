"""Frames read at random, and the cache of those read last."""

import pickle

import cv2
import numpy as np
import pytest

from edvr_jax.data.frames import DecodedFrames, FrameCache, FrameFiles
from edvr_jax.errors import InputError


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("0.png", "1.png"):
        image = rng.integers(0, 256, (20, 24, 3), np.uint8)
        cv2.imwrite(str(tmp_path / name), image)
    return FrameFiles(tmp_path, ("0.png", "1.png"))


def test_files_are_decoded_when_read(files):
    assert (len(files), files.size) == (2, (20, 24))
    expected = cv2.imread(str(files.folder / "1.png"))[..., ::-1]
    np.testing.assert_array_equal(files[1], expected)


def test_damage_is_named(files):
    assert files.size == (20, 24)
    data = (files.folder / "0.png").read_bytes()
    (files.folder / "0.png").write_bytes(data[:500])
    with pytest.raises(InputError, match=r"0\.png: not a complete image"):
        files[0]
    cv2.imwrite(str(files.folder / "1.png"), np.zeros((10, 24, 3), np.uint8))
    with pytest.raises(InputError, match=r"1\.png is 24x10 but the first frame is"):
        files[1]
    (files.folder / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png: cannot be read"):
        files[1]


def test_size_of_other_formats(tmp_path):
    cv2.imwrite(str(tmp_path / "0.jpg"), np.zeros((12, 34, 3), np.uint8))
    assert FrameFiles(tmp_path, ("0.jpg",)).size == (12, 34)


def test_decoded_frames_travel_as_a_path(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (50, 40, 60, 3), np.uint8)
    np.save(tmp_path / "a.npy", array)
    frames = DecodedFrames(tmp_path / "a.npy")
    assert (len(frames), frames.size) == (50, (40, 60))
    np.testing.assert_array_equal(frames[7], array[7])
    data = pickle.dumps(frames)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data)[49], array[49])


def frame(value):
    return np.full((10, 10, 3), value, np.uint8)  # 300 bytes


def test_cache_keeps_what_was_used_last():
    cache, reads = FrameCache(650), []

    def get(key):
        def read():
            reads.append(key)
            return frame(key)

        assert (cache.get(key, read) == key).all()

    for key in (1, 2, 1, 3, 1, 2):
        get(key)
    assert reads == [1, 2, 3, 2]  # 3 replaced 2, which was used before 1
    assert cache.used_bytes == 600


def test_cache_holds_no_more_than_its_budget():
    for budget in (0, 299):
        cache = FrameCache(budget)
        cache.get(1, lambda: frame(1))
        assert cache.used_bytes == 0
    filled = FrameCache(1000)
    filled.get(1, lambda: frame(1))
    assert pickle.loads(pickle.dumps(filled)).used_bytes == 0
