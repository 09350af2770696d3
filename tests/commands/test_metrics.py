"""The command ``edvr metrics`` on folders of frames, of clips, and on videos."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from edvr_jax.commands.metrics import Metrics
from edvr_jax.errors import InputError
from edvr_jax.evaluate import metrics


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
    noise = rng.integers(-20, 21, gt.shape)
    return gt, np.clip(gt + noise, 0, 255).astype(np.uint8)


def write_frames(folder, images):
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index}.png"), image[..., ::-1])
    return folder


def write_video(path, images):
    """Write a lossless video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", Fraction(25))
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "bgr0"
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("channel", ["rgb", "y"])
def test_folders_of_frames(frames, tmp_path, capsys, channel):
    paths = [write_frames(tmp_path / n, f) for n, f in zip("ab", frames, strict=True)]
    file = tmp_path / "scores.json"
    Metrics(*paths, channel=channel, crop=4, json=file).run()
    options = {"crop_border": 4, "channel": channel}
    psnr = [metrics.psnr(*pair, **options) for pair in zip(*frames, strict=True)]
    ssim = [metrics.ssim(*pair, **options) for pair in zip(*frames, strict=True)]
    tree = json.loads(file.read_text())
    assert tree["protocol"]["channel"] == channel
    assert tree["protocol"]["crop_border"] == 4
    assert {"metric", "y", "rounding", "mean"} <= set(tree["protocol"])
    clip = tree["clips"]["a"]
    assert clip["frames"] == 3
    assert clip["per_frame"]["pred"] == {"psnr": psnr, "ssim": ssim}
    assert tree["mean"]["pred"]["psnr"] == pytest.approx(np.mean(psnr))
    assert tree["mean"]["pred"]["ssim"] == pytest.approx(np.mean(ssim))
    header, first, mean = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "clip",
        "frames",
        *f"PSNR-{channel} SSIM-{channel}".upper().split(),
    ]
    values = [f"{np.mean(psnr):.4f}", f"{np.mean(ssim):.4f}"]
    assert first.split() == ["a", "3", *values]
    assert mean.split() == ["mean", "3", *values]


def test_mean_gives_each_clip_the_same_weight(frames, tmp_path):
    gt, pred = frames
    for name, part in (("x", slice(0, 1)), ("y", slice(1, 3))):
        write_frames(tmp_path / "gt" / name, gt[part])
        write_frames(tmp_path / "pred" / name, pred[part])
    file = tmp_path / "scores.json"
    Metrics(tmp_path / "gt", tmp_path / "pred", json=file).run()
    psnr = [metrics.psnr(*pair) for pair in zip(gt, pred, strict=True)]
    expected = (psnr[0] + (psnr[1] + psnr[2]) / 2) / 2
    mean = json.loads(file.read_text())["mean"]["pred"]["psnr"]
    assert mean == pytest.approx(expected, abs=1e-12)


def test_two_videos(frames, tmp_path):
    gt, pred = frames
    paths = write_video(tmp_path / "a.mkv", gt), write_video(tmp_path / "b.mkv", pred)
    file = tmp_path / "scores.json"
    Metrics(*paths, json=file).run()
    expected = [metrics.psnr(*pair) for pair in zip(gt, pred, strict=True)]
    clip = json.loads(file.read_text())["clips"]["a"]
    assert clip["per_frame"]["pred"]["psnr"] == pytest.approx(expected, abs=1e-9)


def test_equal_clips_are_null_in_json(frames, tmp_path, capsys):
    path = write_frames(tmp_path / "a", frames[0])
    file = tmp_path / "scores.json"
    Metrics(path, path, json=file).run()
    mean = json.loads(file.read_text())["mean"]["pred"]
    assert mean == {"psnr": None, "ssim": pytest.approx(1)}
    assert "inf" in capsys.readouterr().out


def test_equal_frames_are_named_and_not_in_the_mean(frames, tmp_path, capsys):
    """Black frames, frames that were copied; one clip of them among others.

    The same means serve edvr eval, protocols and validation, see
    tests/evaluate/test_evaluator.py.
    """
    gt, pred = frames
    black = np.zeros_like(gt[:1])
    for name, images in (("gt", gt), ("pred", pred)):
        mixed = np.concatenate([black, images[:2], black, gt[2:]])
        write_frames(tmp_path / name / "mixed", mixed)
        write_frames(tmp_path / name / "plain", images)
        write_frames(tmp_path / name / "same", gt)
    file = tmp_path / "scores.json"
    Metrics(tmp_path / "gt", tmp_path / "pred", json=file).run()
    psnrs = [metrics.psnr(*pair) for pair in zip(gt, pred, strict=True)]
    ssims = [metrics.ssim(*pair) for pair in zip(gt, pred, strict=True)]
    tree = json.loads(file.read_text())
    clip = tree["clips"]["mixed"]
    assert clip["infinite_frames"] == {"psnr": [0, 3, 4]}
    mean = clip["mean"]["pred"]
    assert mean["psnr"] == pytest.approx(np.mean(psnrs[:2]))
    assert mean["ssim"] == pytest.approx((3 + sum(ssims[:2])) / 5)  # all of them count
    total = tree["mean"]["pred"]["psnr"]
    assert total == pytest.approx(np.mean([mean["psnr"], np.mean(psnrs)]))
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 3
    assert "mixed" in notes[0]
    assert "3 of 5 frames" in notes[0]
    assert notes[0].endswith(": 0, 3, 4")
    assert "same" in notes[1]
    assert "in total" in notes[2]
    assert tree["infinite_frames"] == {"psnr": 6}


def test_wrong_input_is_named(frames, tmp_path):
    gt, pred = frames
    whole = write_frames(tmp_path / "whole", gt)
    shorter = write_frames(tmp_path / "shorter", pred[:2])
    smaller = write_frames(tmp_path / "smaller", pred[:, :20])
    with pytest.raises(InputError, match="missing: no such"):
        Metrics(whole, tmp_path / "missing").run()
    with pytest.raises(InputError, match=r"shorter: no frame like"):
        Metrics(whole, shorter).run()
    with pytest.raises(InputError, match=r"smaller: frame 0: .*\(20, 32, 3\)"):
        Metrics(whole, smaller).run()
    with pytest.raises(InputError, match="cannot crop 12"):
        Metrics(whole, whole, crop=12).run()
    with pytest.raises(InputError, match="does not exist"):
        Metrics(whole, whole, json=tmp_path / "no" / "a.json").run()


def test_clips_without_partner_are_named(frames, tmp_path):
    for folder, name in (("gt", "x"), ("gt", "y"), ("pred", "x"), ("pred", "z")):
        write_frames(tmp_path / folder / name, frames[0][:1])
    with pytest.raises(InputError, match="pred: no clip named y"):
        Metrics(tmp_path / "gt", tmp_path / "pred").run()
