"""tools/make_stage2_pairs.py: what the first stage gives, beside the truth."""

import dataclasses

import cv2
import numpy as np
import pytest

from edvr_jax import weights
from edvr_jax.config import DegradeConfig
from edvr_jax.data.degrade import clip_seed, cut_truth, degrade_clip
from edvr_jax.media.read.clip_reader import open_clip
from tests.messages import refused
from tests.videos import write_folder
from tools import make_stage2_pairs
from tools.make_stage2_pairs import MakeStage2Pairs

SIZES = ((64, 96), (48, 64))


def pan(height, width, count=20):
    """Frames of a texture that moves by two pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width + 40, 3), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return [smooth[:, 2 * i : 2 * i + width] for i in range(count)]


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory, tiny_config, random_params):
    """Weights that return their input."""
    path = tmp_path_factory.mktemp("weights") / "first.safetensors"
    config = dataclasses.replace(tiny_config, scale=1, with_tsa=False)
    params = random_params(config, scale=0)
    weights.save_weights(path, config, params, origin="", license="")
    return str(path)


def test_pairs_are_what_the_first_stage_gives_beside_the_truth(
    first_stage, tmp_path, monkeypatch
):
    monkeypatch.setattr(make_stage2_pairs, "SIZES", SIZES)
    monkeypatch.setattr(make_stage2_pairs, "SPEEDS", (1.0, 2.0))
    clips, pairs = tmp_path / "clips", tmp_path / "pairs"
    clips.mkdir()
    for name in ("train", "val"):
        write_folder(clips / name, pan(320, 400))
    make = MakeStage2Pairs(clips, pairs, first_stage, val_clips=("val",))
    make.run()
    short = [f"train_{index}" for index in range(4)]
    for kind in ("gt", "lq"):
        assert sorted(p.name for p in (pairs / kind).iterdir()) == [*short, "val"]
    for name in short:
        truth, given = (list(open_clip(pairs / k / name)) for k in ("gt", "lq"))
        assert len(truth) == len(given) == 12
        shapes = {x.shape[:2] for x in truth + given}
        assert len(shapes) == 1
        assert shapes < set(SIZES)
        assert not np.array_equal(truth, given)

    sharp = [cut_truth(x, gt_downscale=2, scale=1) for x in pan(320, 400)[:7]]
    degrade = DegradeConfig(track="deblur", shutter=0.5, shake=4.0)
    expected = list(degrade_clip(sharp, degrade, scale=1, seed=clip_seed("val")))
    assert len(expected) == 5
    for kind, index in (("gt", 0), ("lq", 1)):
        frames = list(open_clip(pairs / kind / "val"))
        np.testing.assert_array_equal(frames, [pair[index] for pair in expected])

    # What is there stays.
    written = {path: path.stat().st_mtime_ns for path in pairs.rglob("*.png")}
    make.run()
    assert {path: path.stat().st_mtime_ns for path in pairs.rglob("*.png")} == written
    with refused(pairs, "edvr_s_deblur", "not made by"):
        dataclasses.replace(make, weights="edvr_s_deblur").run()
    with refused(clips, "not made by"):  # files of another kind
        dataclasses.replace(make, pairs=clips).run()


def test_clips_that_are_too_small_are_named(first_stage, tmp_path):
    (tmp_path / "clips").mkdir()
    write_folder(tmp_path / "clips" / "small", pan(240, 320))
    make = MakeStage2Pairs(tmp_path / "clips", tmp_path / "pairs", first_stage)
    with refused("small", "pixels are left"):
        make.run()
