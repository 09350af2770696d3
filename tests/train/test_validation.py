"""Validation windows: where they lie in a clip."""

import dataclasses

import cv2
import numpy as np
import pytest

from edvr_jax.config import Config, EvalConfig
from edvr_jax.data.clips import TrainClip
from edvr_jax.data.datasets import vid4
from edvr_jax.data.imresize import imresize, imresize_uint8
from edvr_jax.errors import InputError
from edvr_jax.evaluate import metrics
from edvr_jax.restore import restorer
from edvr_jax.train import validation


@dataclasses.dataclass
class NotedFrames:
    """Frames that note which of them are read."""

    indices: list[int] = dataclasses.field(default_factory=list)
    size: tuple[int, int] = (32, 48)

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> np.ndarray:
        self.indices.append(int(index))
        return np.full((*self.size, 3), 10 * index, np.uint8)


@dataclasses.dataclass
class Stored:
    """Frames in memory."""

    frames: np.ndarray
    size: tuple[int, int] = (32, 48)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.frames[index]


def test_windows_are_spread_and_cross_no_cut(tiny_config, tmp_path):
    frames = NotedFrames()
    clip = TrainClip("two scenes", frames, None, ((0, 4), (4, 9)))
    config = Config(model=tiny_config, eval=EvalConfig(frames_per_clip=3))
    validation.make_validation(config, [clip], tmp_path)
    indices = frames.indices[: 3 * tiny_config.num_frames]
    windows = np.reshape(indices, (-1, tiny_config.num_frames)).tolist()
    assert windows == [[0, 1, 2], [4, 5, 6], [6, 7, 8]]


def test_protocol_gives_the_scores_of_eval(
    tiny_config, random_params, tmp_path, monkeypatch
):
    """Full frames of a published test set, and the image of a crop."""
    monkeypatch.setattr(vid4, "NUM_FRAMES", {"calendar": 4, "city": 3})
    rng = np.random.default_rng(0)
    clips = {}
    for name, count in vid4.NUM_FRAMES.items():
        folder = tmp_path / "GT" / name
        folder.mkdir(parents=True)
        clips[name] = rng.integers(0, 256, (count, 48, 64, 3), np.uint8)
        for index, frame in enumerate(clips[name]):
            cv2.imwrite(str(folder / f"{index:08d}.png"), frame[..., ::-1])
    # Bicubic enlargement stands in for the network.
    monkeypatch.setattr(
        restorer,
        "restore_frames",
        lambda config, params, frames, **_: (
            imresize(frame / 255, config.output_scale).astype(np.float32)
            for frame in frames
        ),
    )
    config = Config(
        model=tiny_config, eval=EvalConfig(protocol="vid4", frames_per_clip=3)
    )
    validate = validation.make_validation(config, [], tmp_path)
    validated = validate(random_params(tiny_config))
    expected = np.mean(
        [
            np.mean(
                [
                    metrics.psnr(
                        gt, imresize_uint8(imresize_uint8(gt, 1 / 4), 4), channel="y"
                    )
                    for gt in frames[:3]
                ]
            )
            for frames in clips.values()
        ]
    )
    assert validated.decisive == "psnr_y"
    assert validated.score == pytest.approx(expected, rel=1e-9)
    assert validated.scores["psnr_y_bicubic"] == pytest.approx(expected, rel=1e-9)
    assert validated.image is not None
    assert validated.image.shape == (48, 3 * 48, 3)
    np.testing.assert_array_equal(
        validated.image[:, 96:], clips["calendar"][1, :, 8:56]
    )
    half = dataclasses.replace(tiny_config, scale=2)
    config = dataclasses.replace(config, model=half)
    with pytest.raises(InputError, match="scale 4, not 2"):
        validation.make_validation(config, [], tmp_path)


def test_black_frames_spoil_no_mean(tiny_config, random_params, tmp_path, caplog):
    """A clip that is black throughout, and black frames within a clip.

    All methods keep the same crops, else a gain would compare different frames.
    """
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (6, 32, 48, 3), np.uint8)
    mixed = texture.copy()
    mixed[:3] = 0
    clips = [
        TrainClip("plain", Stored(texture), None, ((0, 6),)),
        TrainClip("mixed", Stored(mixed), None, ((0, 6),)),
        TrainClip("black", Stored(np.zeros_like(texture)), None, ((0, 6),)),
    ]
    config = Config(model=tiny_config, eval=EvalConfig(frames_per_clip=0))
    params = random_params(tiny_config)

    def scores(chosen):
        return validation.make_validation(config, chosen, tmp_path)(params).scores

    found = scores(clips)
    plain, shown = scores(clips[:1]), scores(clips[1:2])
    for name in ("psnr_y", "psnr_y_bicubic", "psnr_y_still"):
        assert found[name] == pytest.approx((plain[name] + shown[name]) / 2)
        assert np.isfinite(found[name])
    lines = sorted(set(caplog.messages))
    assert [line.split(":")[1] for line in lines] == [" black", " in total", " mixed"]
    assert scores(clips[2:])["psnr_y"] == np.inf
