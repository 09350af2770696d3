"""Published test sets: their clips are found and compared as the tables say."""

import json
from typing import get_args

import cv2
import numpy as np
import pytest

from edvr_jax import cli
from edvr_jax.commands import eval as eval_command
from edvr_jax.config import ModelConfig, ProtocolName
from edvr_jax.data import degrade, records
from edvr_jax.data.datasets import find_layout, udm10, vid4
from edvr_jax.data.imresize import imresize, imresize_uint8
from edvr_jax.errors import InputError
from edvr_jax.evaluate import metrics, protocols
from edvr_jax.restore import restorer

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), np.uint8)


def write_clip(folder, frames, start=0):
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames, start):
        cv2.imwrite(str(folder / f"{i:08d}.png"), frame[..., ::-1])


@pytest.fixture
def vid4_root(tmp_path, monkeypatch):
    monkeypatch.setattr(vid4, "NUM_FRAMES", {"calendar": 4, "city": 3})
    write_clip(tmp_path / "vid4" / "GT" / "calendar", FRAMES)
    write_clip(tmp_path / "vid4" / "GT" / "city", FRAMES[:3])
    return tmp_path / "vid4"


@pytest.fixture
def no_network(monkeypatch):
    """Bicubic enlargement stands in for the network; list the paddings asked for."""
    paddings = []

    def restore_frames(config, params, frames, *, padding, model=None, only=None):
        del params, model
        paddings.append(padding)
        for index, frame in enumerate(frames):
            if only is None or index in only:
                yield imresize(frame / 255, config.output_scale).astype(np.float32)

    monkeypatch.setattr(restorer, "restore_frames", restore_frames)
    monkeypatch.setattr(
        eval_command.weights,
        "load_weights",
        lambda name: (ModelConfig(scale=int(name), hr_in=name == "1"), None),
    )
    return paddings


def evaluate(protocol, root, tmp_path, *options, scale=4):
    path = tmp_path / "scores.json"
    arguments = ["eval", "--protocol", protocol, "--gt", str(root), "--json", str(path)]
    assert cli.main([*arguments, "--weights", str(scale), *options]) == 0
    return json.loads(path.read_text())


def test_every_name_has_a_test_set():
    assert get_args(ProtocolName) == tuple(protocols.TEST_SETS)
    for name, test_set in protocols.TEST_SETS.items():
        assert test_set.protocol.name == name
        assert test_set.protocol.crop_border == 0


def test_vid4_makes_its_input(vid4_root, tmp_path, no_network, capsys):
    tree = evaluate("vid4", vid4_root, tmp_path)
    assert {k: v["frames"] for k, v in tree["clips"].items()} == {
        "calendar": 4,
        "city": 3,
    }
    assert tree["protocol"]["name"] == "vid4"
    assert tree["protocol"]["input"] == "MATLAB bicubic 1/4, rounded to 8 bit"
    assert no_network == ["reflection_circle"] * 2
    degraded = imresize_uint8(FRAMES[2], 1 / 4)
    expected = metrics.psnr(FRAMES[2], imresize_uint8(degraded, 4), channel="y")
    assert tree["clips"]["city"]["per_frame"]["bicubic"]["psnr_y"][2] == expected
    assert "protocol vid4: input MATLAB bicubic" in capsys.readouterr().out


def test_given_frames_come_first(vid4_root, tmp_path, no_network):
    for clip, count in (("calendar", 4), ("city", 3)):
        small = imresize_uint8(FRAMES[:count], 1 / 4) // 2
        write_clip(vid4_root / "BIx4" / clip, small)
    tree = evaluate("vid4", vid4_root, tmp_path, "--clips", "calendar")
    assert tree["protocol"]["input"] == "given: bix4"
    assert list(tree["clips"]) == ["calendar"]
    half = imresize_uint8(imresize_uint8(FRAMES[0], 1 / 4) // 2, 4)
    per_frame = tree["clips"]["calendar"]["per_frame"]
    assert per_frame["bicubic"]["psnr_rgb"][0] == metrics.psnr(FRAMES[0], half)


def test_gaussian_variant(vid4_root, tmp_path, no_network):
    tree = evaluate("vid4_bd", vid4_root, tmp_path)
    assert tree["protocol"]["input"].startswith("Gaussian blur of sigma 1.6")
    settings = degrade.DegradeConfig(track="sr_bd")
    small = degrade.shrink(FRAMES[1], settings, scale=4)
    expected = metrics.ssim(FRAMES[1], imresize_uint8(small, 4))
    assert tree["clips"]["city"]["per_frame"]["bicubic"]["ssim_rgb"][1] == expected


def test_records_give_the_same_scores(vid4_root, tmp_path, no_network):
    pytest.importorskip("tensorflow_datasets")
    records.build("vid4", find_layout("vid4", vid4_root), tmp_path / "records")
    trees = [
        evaluate("vid4", root, tmp_path) for root in (vid4_root, tmp_path / "records")
    ]
    assert trees[0]["clips"] == trees[1]["clips"]


def test_other_or_incomplete_records_are_refused(vid4_root, tmp_path, no_network):
    pytest.importorskip("tensorflow_datasets")
    layout = find_layout("vid4", vid4_root, is_partial=True)
    folder = records.build("vid4", layout, tmp_path / "partial")
    with pytest.raises(InputError, match="written with --skip-bad"):
        protocols.find_clips(protocols.TEST_SETS["vid4"], tmp_path / "partial")
    with pytest.raises(InputError, match="records of vid4, not of reds"):
        protocols.find_clips(protocols.TEST_SETS["reds4"], folder)


def test_vimeo_counts_the_center_frame_only(tmp_path, no_network):
    root = tmp_path / "vimeo"
    frames = np.concatenate([FRAMES, 255 - FRAMES[:3]])
    for name in ("00001/0001", "00007/0002"):
        folder = root / "sequences" / name
        folder.mkdir(parents=True)
        for i, frame in enumerate(frames, start=1):
            cv2.imwrite(str(folder / f"im{i}.png"), frame[..., ::-1])
    (root / "sep_testlist.txt").write_text("00001/0001\n00007/0002\n")
    tree = evaluate("vimeo90k_t", root, tmp_path)
    assert [clip["frames"] for clip in tree["clips"].values()] == [1, 1]
    enlarged = imresize_uint8(imresize_uint8(frames[3], 1 / 4), 4)
    expected = metrics.psnr(frames[3], enlarged)
    assert tree["mean"]["bicubic"]["psnr_rgb"] == pytest.approx(expected)


def test_reds4_is_found_on_its_own(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr("edvr_jax.data.datasets.reds.NUM_FRAMES", 2)
    for name in ("000", "011", "015", "020"):
        write_clip(tmp_path / "GT" / name, FRAMES[:2])
        write_clip(tmp_path / "blur" / name, FRAMES[:2] // 2)
    tree = evaluate("reds4", tmp_path, tmp_path)
    assert list(tree["clips"]) == ["000", "011", "015", "020"]
    tree = evaluate("reds4_deblur", tmp_path, tmp_path, scale=1)
    assert tree["protocol"]["input"] == "given: blur"
    assert tree["protocol"]["padding"] == "replicate"
    assert no_network[-1] == "replicate"
    expected = np.mean([metrics.psnr(f, f // 2) for f in FRAMES[:2]])
    assert tree["mean"]["input"]["psnr_rgb"] == pytest.approx(expected)
    clips = protocols.TEST_SETS["reds4_deblur_comp"]
    with pytest.raises(InputError, match=r"degraded frames \(blur_comp\) are not"):
        protocols.find_clips(clips, tmp_path)


def test_udm10_has_ten_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(udm10, "NUM_FRAMES", 1)
    for name in udm10.CLIPS:
        write_clip(tmp_path / "GT" / name, FRAMES[:1])
    clips, source = protocols.find_clips(protocols.TEST_SETS["udm10_bd"], tmp_path)
    assert [clip.name for clip in clips] == list(udm10.CLIPS)
    assert source.startswith("Gaussian")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop", "8"], "--crop is fixed by --protocol vid4"),
        (["--padding", "circle"], "--padding is fixed"),
        (["--weights", "2"], "networks of scale 4, but 2 has 2"),
        (["--clips", "walk"], "no clip named walk in this test set"),
    ],
)
def test_contradictions_are_refused(vid4_root, no_network, options, message, capsys):
    arguments = ["eval", "--protocol", "vid4", "--gt", str(vid4_root)]
    weights = [] if "--weights" in options else ["--weights", "4"]
    assert cli.main([*arguments, *weights, *options]) == 2
    assert message in capsys.readouterr().err
