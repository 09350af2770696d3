"""Evaluation of whole clips against metrics computed directly."""

import dataclasses
import json
import math

import numpy as np
import pytest

from edvr_jax.commands import eval as eval_command
from edvr_jax.config import DegradeConfig
from edvr_jax.data import degrade
from edvr_jax.data.imresize import imresize
from edvr_jax.errors import InputError
from edvr_jax.evaluate import evaluator, metrics
from edvr_jax.evaluate.evaluator import ClipScores, describe_infinite, mean_over_clips
from edvr_jax.evaluate.protocols import Protocol
from edvr_jax.media.read import pixels
from edvr_jax.restore import restorer


@pytest.fixture(scope="module")
def deblur_config(tiny_config):
    return dataclasses.replace(tiny_config, scale=1)


@pytest.fixture(scope="module")
def clip(fixtures):
    """Three real frames, 50x66: not a multiple of the scale."""
    frames = np.load(fixtures / "psnr_ssim.npz")["a_rgb"]
    return [frames[0, :50, :66], frames[1, :50, :66], frames[1, 4:54, 3:69]]


@pytest.fixture
def no_network(monkeypatch):
    """Replace the network by bicubic enlargement; list the clips it was given."""
    clips = []

    def restore_frames(config, params, frames, *, padding, model=None, only=None):
        del params, model
        clips.append((padding, []))
        for index, frame in enumerate(frames):
            clips[-1][1].append(frame)
            if only is None or index in only:
                yield imresize(frame / 255, config.output_scale).astype(np.float32)

    monkeypatch.setattr(restorer, "restore_frames", restore_frames)
    return clips


def resize(image, scale):
    resized = imresize(image.astype(np.float64), scale)
    return resized.round().clip(0, 255).astype(np.uint8)


@pytest.fixture
def run(tiny_config):
    """Function that evaluates a clip, by default one to enlarge."""

    def evaluate(clip, lq=None, config=tiny_config, params=None, **protocol):
        protocol = Protocol(**protocol)
        return list(
            evaluator.evaluate_clip(config, params, clip, lq, protocol=protocol)
        )

    return evaluate


@pytest.mark.parametrize("crop", [0, 4])
def test_bicubic_row_equals_metrics_computed_directly(clip, no_network, crop, run):
    scores = run(clip, crop_border=crop)
    assert len(scores) == 3
    for image, frame in zip(clip, scores, strict=True):
        truth = image[:48, :64]
        bicubic = resize(resize(truth, 1 / 4), 4)
        for channel in ("rgb", "y"):
            options = {"crop_border": crop, "channel": channel}
            expected = metrics.psnr(truth, bicubic, **options)
            assert frame["bicubic"][f"psnr_{channel}"] == expected
            expected = metrics.ssim(truth, bicubic, **options)
            assert frame["bicubic"][f"ssim_{channel}"] == expected


def test_model_row_is_that_of_the_network(clip, no_network, run):
    for frame in run(clip):
        # float32 against float64 before rounding; measured 0.
        assert frame["model"]["psnr_y"] == pytest.approx(
            frame["bicubic"]["psnr_y"], abs=1e-3
        )
    (given,) = no_network
    assert given[0] == "reflection_circle"
    for image, lq in zip(clip, given[1], strict=True):
        np.testing.assert_array_equal(lq, resize(image[:48, :64], 1 / 4))


def test_gt_downscale_comes_first(clip, no_network, run):
    scores = run(clip, gt_downscale=2)
    truth = resize(clip[0], 1 / 2)[:24, :32]
    np.testing.assert_array_equal(no_network[0][1][0], resize(truth, 1 / 4))
    bicubic = resize(resize(truth, 1 / 4), 4)
    assert scores[0]["bicubic"]["psnr_rgb"] == metrics.psnr(truth, bicubic)


def test_still_feeds_each_frame_alone(clip, no_network, run):
    assert run(clip, still=True) == run(clip)
    assert [len(frames) for _, frames in no_network] == [1, 1, 1, 3]


def test_frames_per_clip(clip, no_network, run):
    assert run(clip, frames_per_clip=2) == run(clip)[:2]
    assert run(clip, frames_per_clip=9) == run(clip)


def test_given_degraded_clip(clip, deblur_config, no_network, run):
    lq = [frame // 2 for frame in clip]
    for image, degraded, scores in zip(
        clip, lq, run(clip, lq, config=deblur_config), strict=True
    ):
        assert list(scores) == ["model", "input"]
        assert scores["input"]["psnr_rgb"] == metrics.psnr(image, degraded)
        assert scores["model"] == scores["input"]


def test_wrong_input_is_named(clip, deblur_config, no_network, run):
    with pytest.raises(InputError, match="--lq"):
        run(clip, config=deblur_config)
    with pytest.raises(InputError, match="3 frames but the other clip has 2"):
        run(clip, clip[:2], config=deblur_config)
    with pytest.raises(InputError, match="frame 0 is 66x50, which times 4 is not"):
        run(clip, clip)
    with pytest.raises(InputError, match="frames_per_clip"):
        Protocol(frames_per_clip=0)
    with pytest.raises(InputError, match="gt_downscale"):
        Protocol(gt_downscale=0)
    with pytest.raises(InputError, match="crop"):
        Protocol(crop_border=-1)


def test_center_only(clip, no_network, run):
    (scores,) = run(clip, center_only=True)
    assert len(no_network[0][1]) == 3  # its window needs the others
    assert scores == run(clip)[1] == run(clip, center_only=True, still=True)[0]
    assert len(no_network[-1][1]) == 1


def test_gaussian_input(clip, no_network, run):
    run(clip, track="sr_bd")
    settings = DegradeConfig(track="sr_bd")
    expected = degrade.shrink(clip[0][:48, :64], settings, scale=4)
    np.testing.assert_array_equal(no_network[0][1][0], expected)


def test_output_that_is_not_finite_is_refused(clip, monkeypatch, run):
    nan = np.full((48, 64, 3), np.nan, np.float32)
    monkeypatch.setattr(restorer, "restore_frames", lambda *a, **k: iter([nan] * 3))
    with pytest.raises(InputError, match="not finite"):
        run(clip)


def test_frames_stream(clip, tiny_config, no_network):
    """Reads no further than the network asks."""
    num_read = 0

    def endless():
        nonlocal num_read
        while True:
            num_read += 1
            yield clip[0]

    protocol = Protocol()
    scores = evaluator.evaluate_clip(tiny_config, None, endless(), protocol=protocol)
    next(scores)
    next(scores)
    assert num_read <= 3


def test_real_network(clip, tiny_config, random_params, run):
    params = random_params(tiny_config, scale=0.1)
    lq = [resize(image[:48, :64], 1 / 4) for image in clip]
    restored = restorer.restore_frames(tiny_config, params, lq, padding="replicate")
    expected = [
        metrics.psnr(image[:48, :64], pixels.to_uint8(output))
        for image, output in zip(clip, restored, strict=True)
    ]
    scores = run(clip, params=params, padding="replicate")
    np.testing.assert_allclose(
        [frame["model"]["psnr_rgb"] for frame in scores], expected, atol=1e-6
    )
    still = run(clip, params=params, padding="replicate", still=True)
    assert still[1]["bicubic"] == scores[1]["bicubic"]
    assert still[1]["model"] != scores[1]["model"]


@pytest.fixture
def command(clip, tmp_path, tiny_config, monkeypatch, no_network):
    """Make a folder with two clips, and weights that need no file."""
    import cv2

    for name in ("x", "y"):
        (tmp_path / "gt" / name).mkdir(parents=True)
        for index, image in enumerate(clip):
            file = tmp_path / "gt" / name / f"{index}.png"
            cv2.imwrite(str(file), image[..., ::-1])
    monkeypatch.setattr(
        eval_command.weights, "load_weights", lambda name: (tiny_config, None)
    )
    return eval_command.Eval(
        tmp_path / "gt", weights="none", json=tmp_path / "scores.json"
    )


def test_command(command, clip, capsys, run):
    dataclasses.replace(command, crop=2).run()
    tree = json.loads(command.json.read_text())
    assert tree["weights"] == "none"
    assert tree["config"]["num_features"] == 8
    protocol = tree["protocol"]
    assert protocol["crop_border"] == 2
    assert protocol["gt_downscale"] == 1
    assert protocol["padding"] == "reflection_circle"
    assert protocol["input"] == "MATLAB bicubic 1/4, rounded to 8 bit"
    assert list(tree["clips"]) == ["x", "y"]
    direct = run(clip, crop_border=2)
    bicubic = [frame["bicubic"]["psnr_y"] for frame in direct]
    assert tree["clips"]["y"]["per_frame"]["bicubic"]["psnr_y"] == bicubic
    assert tree["mean"]["bicubic"]["psnr_y"] == pytest.approx(np.mean(bicubic))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines[1:4]] == ["x", "bicubic", "gain"]
    assert lines[1][:3] == ["x", "3", "model"]
    assert lines[-4][:3] == ["mean", "6", "model"]
    assert lines[-3][1] == f"{np.mean(bicubic):.2f}"
    assert lines[-1][:2] == ["protocol", "custom:"]


def test_command_takes_the_named_clips(command):
    dataclasses.replace(command, clips=("y",), frames_per_clip=1).run()
    tree = json.loads(command.json.read_text())
    assert {name: clip["frames"] for name, clip in tree["clips"].items()} == {"y": 1}
    with pytest.raises(InputError, match="no clip named z"):
        dataclasses.replace(command, clips=("z",)).run()


def test_a_frame_that_is_infinite_for_one_method_counts_for_none():
    """Else the gain would compare means of different frames."""
    clip = ClipScores(
        "a",
        {
            "model": [{"psnr_y": 30.0}, {"psnr_y": 40.0}, {"psnr_y": 50.0}],
            "bicubic": [{"psnr_y": 20.0}, {"psnr_y": math.inf}, {"psnr_y": 30.0}],
        },
    )
    assert clip.mean("model") == {"psnr_y": 40}
    assert clip.mean("bicubic") == {"psnr_y": 25}
    same = ClipScores("b", {m: [{"psnr_y": math.inf}] * 2 for m in clip.frames})
    assert mean_over_clips([clip, same]) == {
        "model": {"psnr_y": 40},
        "bicubic": {"psnr_y": 25},
    }
    assert mean_over_clips([same])["model"] == {"psnr_y": math.inf}
    lines = describe_infinite([clip, same])
    facts = ("1 of 3", "2 of 2", "in total: PSNR is infinite in 3 of 5")
    assert [fact in line for fact, line in zip(facts, lines, strict=True)] == [True] * 3
    many = [{"psnr_y": math.inf}] * 30
    (line,) = describe_infinite([ClipScores("c", {"model": many})])
    assert line.endswith("8, 9 and 20 more")


class Seen:
    """A recorder that lists what it sees."""

    def __init__(self):
        self.inputs, self.results = [], []

    def add_input(self, index, frame):
        self.inputs.append((index, frame))

    def add_result(self, index, images):
        self.results.append((index, images))


@pytest.mark.parametrize("center_only", [False, True])
def test_recorder_sees_what_is_compared(clip, no_network, tiny_config, center_only):
    seen = Seen()
    protocol = Protocol(center_only=center_only)
    scores = list(
        evaluator.evaluate_clip(
            tiny_config, None, clip, protocol=protocol, recorder=seen
        )
    )
    assert [index for index, _ in seen.inputs] == [0, 1, 2]
    for (_, frame), given in zip(seen.inputs, no_network[0][1], strict=True):
        np.testing.assert_array_equal(frame, given)
    indices = [index for index, _ in seen.results]
    assert indices == ([1] if center_only else [0, 1, 2])
    for (index, images), frame in zip(seen.results, scores, strict=True):
        assert list(images) == [*frame, "truth"]
        np.testing.assert_array_equal(images["truth"], clip[index][:48, :64])
        for method, values in frame.items():
            expected = metrics.psnr(images["truth"], images[method])
            assert values["psnr_rgb"] == expected
