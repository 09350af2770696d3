"""An augmentation of one's own in the data pipeline."""

import functools
import threading

import cv2
import numpy as np
import pytest

from edvr_jax.config import Config, DataConfig
from edvr_jax.data.clips import TrainClip
from edvr_jax.data.frames import FrameFiles
from edvr_jax.data.loader import TrainLoader
from tests.messages import refused

pytest.importorskip("grain")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Seven frames, which another process can read."""
    folder, names = tmp_path_factory.mktemp("files"), [f"{i}.png" for i in range(7)]
    rng = np.random.default_rng(0)
    for name in names:
        frame = rng.integers(0, 256, (64, 72, 3), np.uint8)
        cv2.imwrite(str(folder / name), frame)
    return TrainClip("files", FrameFiles(folder, tuple(names)), None, ((0, 7),))


def make_config(**data):
    return Config(data=DataConfig(gt_crop=48, batch_size=2, **data))


def take(batches, count):
    with batches:
        return [next(batches) for _ in range(count)]


def brighten(sample, rng):
    """An augmentation of one's own."""
    added = rng.integers(1, 100, dtype=np.uint8)
    return {name: np.maximum(x, added) for name, x in sample.items()}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_own_augmentation(files, num_workers):
    """Threads and workers give the same; a resumed loader continues with it."""
    plain = take(TrainLoader([files], make_config()), 4)
    expected = take(TrainLoader([files], make_config(), augment=brighten), 4)
    for before, after in zip(plain, expected, strict=True):
        for number in range(len(before["gt"])):
            added = after["gt"][number].min()
            for name in ("gt", "lq"):
                changed = np.maximum(before[name][number], added)
                np.testing.assert_array_equal(changed, after[name][number])
    config = make_config(num_workers=num_workers)
    resumed = TrainLoader([files], config, augment=lambda *args: brighten(*args))
    resumed.set_state({"windows": 4})
    for actual, batch in zip(take(resumed, 2), expected[2:], strict=True):
        for name in ("gt", "lq"):
            np.testing.assert_array_equal(actual[name], batch[name])


@pytest.mark.parametrize(
    ("augment", "facts"),
    [
        (lambda sample, rng: {"lq": sample["lq"]}, ("gt",)),
        (lambda sample, rng: {k: x / 255 for k, x in sample.items()}, ("float64",)),
        (lambda sample, rng: {k: x[:1] for k, x in sample.items()}, ("(1, 48, 3)",)),
        (lambda sample, rng: None, ("NoneType",)),
    ],
)
def test_own_augmentation_keeps_the_format(files, augment, facts):
    config = make_config(skip_bad=True)
    with refused("augment", "uint8 (48, 48, 3)", *facts):
        take(TrainLoader([files], config, augment=augment), 1)


def test_own_augmentation_that_workers_cannot_get(files):
    augment = functools.partial(lambda lock, sample, rng: sample, threading.Lock())
    with refused("augment", "data.num_workers"):
        TrainLoader([files], make_config(num_workers=1), augment=augment)
    take(TrainLoader([files], make_config(), augment=augment), 1)
