"""Scenes of a clip that is read frame by frame are those of the complete clip."""

import itertools

import numpy as np
import pytest

from edvr_jax.media.read import scenes


def make_frames(lengths, dtype=np.uint8):
    """Return scenes of given lengths, in different colors, with a little noise."""
    rng = np.random.default_rng(sum(lengths))
    frames = []
    for index, length in enumerate(lengths):
        color = np.array([[20, 60, 220], [200, 30, 90], [90, 200, 40]])[index % 3]
        noise = rng.integers(0, 9, (length, 18, 32, 3))
        frames.extend((color + noise).astype(np.uint8))
    if dtype == np.uint16:
        return [frame.astype(np.uint16) * 257 for frame in frames]
    if dtype == np.float32:
        return [frame / np.float32(255) for frame in frames]
    return frames


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    "lengths", [(1,), (7,), (5, 6), (4, 9, 3), (12, 5, 5, 8), (3, 3)]
)
def test_split_finds_the_cuts_of_the_whole_clip(lengths, dtype):
    frames = make_frames(lengths, dtype)
    found = [len(list(scene)) for scene in scenes.split(iter(frames))]
    assert tuple(found) == lengths
    differences = scenes.Differences()
    list(differences.watch(iter(frames)))
    cuts = scenes.find_cuts(differences.values)
    assert cuts == list(itertools.accumulate(lengths))[:-1]


def test_frames_pass_unchanged_and_few_wait():
    frames = make_frames((6, 6))
    drawn = []

    def draw():
        for frame in frames:
            drawn.append(frame)
            yield frame

    passed = []
    for scene in scenes.split(draw()):
        for frame in scene:
            passed.append(frame)
            # One more is drawn when the end of a scene is looked for.
            assert len(drawn) - len(passed) <= scenes.REACH + 1
    np.testing.assert_array_equal(passed, frames)


def test_no_frames_are_no_scenes():
    assert list(scenes.split([])) == []
