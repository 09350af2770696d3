import cv2
import numpy as np
import pytest

from edvr_jax.config import DataConfig
from edvr_jax.data.frame_store import open_frames, split_clips
from edvr_jax.data.imresize import imresize
from edvr_jax.errors import InputError
from edvr_jax.metrics import to_uint8


@pytest.fixture
def folder(tmp_path):
    """Three clips of four random frames, as PNG folders a, b, c."""
    rng = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / name).mkdir()
        for i in range(4):
            image = rng.integers(0, 256, (20, 24, 3), np.uint8)
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), image)
    return tmp_path


def test_split_is_disjoint_and_complete(folder):
    train, val = split_clips(folder, DataConfig(val_clips=("b",)))
    assert [path.name for path in train] == ["a", "c"]
    assert [path.name for path in val] == ["b"]


def test_missing_validation_clip_is_named(folder):
    with pytest.raises(InputError, match="no clip named d; there are a, b, c"):
        split_clips(folder, DataConfig(val_clips=("d",)))
    with pytest.raises(InputError, match="every clip is a validation clip"):
        split_clips(folder, DataConfig(val_clips=("a", "b", "c")))


def test_frames_are_downscaled_limited_and_cached(folder, tmp_path, monkeypatch):
    config = DataConfig(gt_downscale=2, max_frames_per_clip=3)
    (frames,) = open_frames([folder / "a"], config, tmp_path / "cache")
    assert frames.shape == (3, 10, 12, 3)
    image = cv2.imread(str(folder / "a" / "2.png"))[..., ::-1]
    np.testing.assert_array_equal(frames[2], to_uint8(imresize(image, 0.5) / 255))

    monkeypatch.setattr("edvr_jax.data.frame_store._decode", None)
    (again,) = open_frames([folder / "a"], config, tmp_path / "cache")
    np.testing.assert_array_equal(again, frames)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_changed_clip_is_decoded_again(folder, tmp_path):
    config = DataConfig()
    (before,) = open_frames([folder / "a"], config, tmp_path / "cache")
    image = np.zeros((20, 24, 3), np.uint8)
    cv2.imwrite(str(folder / "a" / "0.png"), image)
    (after,) = open_frames([folder / "a"], config, tmp_path / "cache")
    assert before[0].any()
    assert not after[0].any()
