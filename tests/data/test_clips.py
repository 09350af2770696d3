"""Opening datasets for training: plain folders, videos, records; split and checks."""

import logging
import shutil

import av
import cv2
import numpy as np
import pytest

from edvr_jax.config import Config, DataConfig, DegradeConfig, ModelConfig
from edvr_jax.data import records
from edvr_jax.data.clips import open_clips
from edvr_jax.data.datasets import find_layout, reds
from edvr_jax.data.frames import DecodedFrames, FrameFiles
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.data.records import RecordFrames
from edvr_jax.errors import InputError

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (6, 40, 48, 3), np.uint8)


def write_clip(folder, frames):
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{i:08d}.png"), frame[..., ::-1])


def write_video(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))


@pytest.fixture
def root(tmp_path):
    """Two folders and a video."""
    write_clip(tmp_path / "clips" / "a", FRAMES)
    write_clip(tmp_path / "clips" / "b", FRAMES[:5])
    write_video(tmp_path / "clips" / "c.mkv", FRAMES)
    return tmp_path / "clips"


def run(root, *, scale=4, cache=None, **data):
    config = Config(
        model=ModelConfig(scale=scale),
        data=DataConfig(**{"gt_crop": 32, **data}),
    )
    return open_clips(root, config, cache or root.parent / "cache")


def names(clips):
    return [clip.name for clip in clips]


def test_split_is_disjoint_and_complete(root):
    train, val = run(root, val_clips=("b",))
    assert (names(train), names(val)) == (["a", "c"], ["b"])
    assert [type(clip.gt) for clip in train] == [FrameFiles, DecodedFrames]
    for clip in train:
        np.testing.assert_array_equal(clip.gt[5], FRAMES[5])
        assert clip.scenes == ((0, 6),)


def test_wrong_validation_clips(root):
    with pytest.raises(InputError, match="no clip named d; there are a, b, c"):
        run(root, val_clips=("d",))
    with pytest.raises(InputError, match="every clip is a validation clip"):
        run(root, val_clips=("a", "b", "c"))


def test_records_give_the_same_clips(root):
    pytest.importorskip("tensorflow_datasets")
    name = "folder_of_clips"
    target = root.parent / "records"
    records.build(name, find_layout(name, root), target)
    folders, _ = run(root, val_clips=("b",))
    train, val = run(target, val_clips=("b",), max_frames_per_clip=5)
    assert (names(train), names(val)) == (["a", "c"], ["b"])
    for clip, expected in zip(train, folders, strict=True):
        assert isinstance(clip.gt, RecordFrames)
        assert len(clip.gt) == 5
        np.testing.assert_array_equal(clip.gt[4], expected.gt[4])
    shrunk, _ = run(target, gt_downscale=2, gt_crop=16)
    np.testing.assert_array_equal(shrunk[1].gt[4], imresize_uint8(FRAMES[4], 1 / 2))
    assert len(shrunk[1].gt) == 5  # clip b, not the records of c that follow


def test_clips_are_there_again_at_smaller_sizes(root):
    """Clip b does not exist when shrunk by 2: it becomes smaller than the crop."""
    shutil.rmtree(root / "b")
    write_clip(root / "b", FRAMES[:, :24, :24])
    train, val = run(root, val_clips=("c",), more_downscales=(2, 3), gt_crop=16)
    assert (names(train), names(val)) == (["a", "b", "a by 2"], ["c"])
    for index in (0, 5):
        shrunk = imresize_uint8(FRAMES[index], 1 / 2)
        np.testing.assert_array_equal(train[2].gt[index], shrunk)
        np.testing.assert_array_equal(train[0].gt[index], FRAMES[index])


def test_given_degraded_clips(tmp_path):
    for name in ("a", "b"):
        write_clip(tmp_path / "gt" / name, FRAMES)
        write_clip(tmp_path / "lq" / name, imresize_uint8(FRAMES, 1 / 4))
    train, _ = run(tmp_path, lq="given")
    np.testing.assert_array_equal(train[1].lq[2], imresize_uint8(FRAMES[2], 1 / 4))
    made, _ = run(tmp_path)
    assert made[0].lq is None


def test_sides_that_do_not_fit_are_named(tmp_path):
    write_clip(tmp_path / "gt" / "a", FRAMES)
    write_clip(tmp_path / "lq" / "a", imresize_uint8(FRAMES, 1 / 2))
    with pytest.raises(InputError, match="a: degraded frames of 24x20 times 4 are not"):
        run(tmp_path, lq="given")
    (tmp_path / "lq" / "a" / "00000005.png").unlink()
    with pytest.raises(InputError, match=r"lq/a: no frame like 00000005\.png"):
        run(tmp_path, lq="given", scale=2)
    shutil.rmtree(tmp_path / "lq")
    with pytest.raises(InputError, match=r"no degraded frames for track sr \(lq\)"):
        run(tmp_path / "gt", lq="given")


def test_reds_with_given_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(reds, "NUM_TRAIN", 12)
    monkeypatch.setattr(reds, "NUM_FRAMES", 6)
    for k in range(12):
        write_clip(tmp_path / "train_sharp" / f"{k:03d}", FRAMES)
        write_clip(tmp_path / "train_blur" / f"{k:03d}", FRAMES // 2)
    config = {
        "dataset": "reds",
        "lq": "given",
        "degrade": DegradeConfig(track="deblur"),
        "scale": 1,
        "val_clips": ("000", "011"),
    }
    train, val = run(tmp_path, **config)
    assert (names(train)[:2], names(val)) == (["001", "002"], ["000", "011"])
    np.testing.assert_array_equal(train[0].lq[3], FRAMES[3] // 2)
    with pytest.raises(InputError, match=r"for track sr \(sharp_bicubic_x4\)"):
        run(tmp_path, dataset="reds", lq="given")


def test_test_sets_are_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr("edvr_jax.data.datasets.vid4.NUM_FRAMES", {"city": 6})
    write_clip(tmp_path / "GT" / "city", FRAMES)
    with pytest.raises(InputError, match="vid4 is a test set"):
        run(tmp_path, dataset="vid4")


BAD = {
    "short": ("4 frames, but a window needs 5", FRAMES[:4]),
    "small": ("48x24 is smaller than data.gt_crop, 32", FRAMES[:, :24]),
}


@pytest.mark.parametrize("kind", [*BAD, "truncated", "damaged"])
def test_bad_clips_are_named_or_skipped(root, kind, caplog):
    if kind in BAD:
        message, frames = BAD[kind]
        write_clip(root / "bad", frames)
    else:
        reason = (
            "2 frames, but a window" if kind == "truncated" else r"\.mkv: not a video"
        )
        message = f"bad.*{reason}"
        write_video(root / "bad.mkv", FRAMES)
        data = (root / "bad.mkv").read_bytes()
        size = len(data) // 2 if kind == "truncated" else 100
        (root / "bad.mkv").write_bytes(data[:size])
    with pytest.raises(InputError, match=message):
        run(root)
    with caplog.at_level(logging.WARNING):
        train, _ = run(root, skip_bad=True)
    assert names(train) == ["a", "b", "c"]
    assert "1 clips skipped: " in caplog.text
    assert "bad" in caplog.text


def test_windows_fit_the_degradation(root):
    blur = DegradeConfig(track="deblur", blur_frames=3, frame_step=1)
    with pytest.raises(InputError, match="6 frames, but a window needs 7"):
        run(root, scale=1, degrade=blur)
    with pytest.raises(InputError, match="no clip is left to train on"):
        run(root, scale=1, degrade=blur, skip_bad=True)


def test_two_scenes_of_one_clip(root):
    dark = np.concatenate([FRAMES // 16] * 2)
    bright = 255 - dark
    write_clip(root / "cut", np.concatenate([dark, bright]))
    train, _ = run(root, split_scenes=True, val_clips=("a", "b", "c"))
    assert train[0].scenes == ((0, 12), (12, 24))
