"""What is kept of a clip for its report."""

import dataclasses

import numpy as np
import pytest

from edvr_jax.report import recorder
from edvr_jax.report.recorder import ClipRecorder, central_box
from edvr_jax.restore.windows import window_indices


def frame(index, size=(12, 16)):
    """A frame whose levels tell its index."""
    return np.full((*size, 3), index % 256, np.uint8)


@pytest.fixture
def record(tiny_config):
    """Function that records a clip of frames."""

    def run(frames, config=tiny_config, padding="reflection", **options):
        clip = ClipRecorder("clip", config, padding=padding, **options)
        for index, image in enumerate(frames):
            clip.add_input(index, image)
            enlarged = image.repeat(2, axis=0).repeat(2, axis=1)
            clip.add_result(index, {"model": enlarged, "input": enlarged // 2})
        return clip.finish()

    return run


@pytest.mark.parametrize("count", [1, 2, 5, 9, 60, 250])
def test_shown_frames_are_spread_over_the_clip(record, count):
    kept = record(map(frame, range(count)))
    indices = [shot.index for shot in kept.shots]
    assert len(indices) == min(count, recorder.MAX_SHOTS)
    assert indices[0] == 0
    assert indices[-1] >= 0.8 * (count - 1)
    gaps = np.diff(indices)
    assert not len(gaps) or gaps.max() <= 2 * gaps.min()
    for shot in kept.shots:
        assert shot.position == shot.index
        assert (shot.images["model"] == shot.index).all()
        assert (shot.images["input"] == shot.index // 2).all()
    np.testing.assert_array_equal(kept.profile["model"][:, 3, 0], np.arange(count))


@pytest.mark.parametrize("padding", ["replicate", "reflection", "reflection_circle"])
@pytest.mark.parametrize("count", [1, 3, 4, 40])
def test_window_is_the_one_that_the_network_saw(record, count, padding):
    kept = record(map(frame, range(count)), padding=padding)
    expected = window_indices(kept.window_index, count, 3, padding)
    assert kept.window[:, 0, 0, 0].tolist() == expected


def test_window_around_a_center_that_is_not_the_middle(record, tiny_config):
    config = dataclasses.replace(tiny_config, center_frame_index=0)
    kept = record(map(frame, range(20)), config=config)
    first = kept.window_index
    assert kept.window[:, 0, 0, 0].tolist() == [first, first + 1, first + 2]
    assert kept.window_center == 0


def test_window_stays_in_its_scene(record):
    # Of five frames the one shown third is frame 3, right after the cut.
    frames = [frame(index + (200 if index >= 3 else 0)) for index in range(5)]
    kept = record(frames, scene_cuts=True)
    assert kept.window_index == 3
    assert kept.window[:, 0, 0, 0].tolist() == [204, 203, 204]
    across = record(frames)
    assert across.window[:, 0, 0, 0].tolist() == [2, 203, 204]


def test_window_of_a_still_evaluation(record):
    kept = record(map(frame, range(5)), still=True)
    assert kept.window[:, 0, 0, 0].tolist() == [kept.window_index] * 3


def test_large_frames_are_cut(record, monkeypatch):
    monkeypatch.setattr(recorder, "MAX_PIXELS", 200)
    monkeypatch.setattr(recorder, "MAX_INPUT_PIXELS", 100)
    image = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16, 1).repeat(3, axis=2)
    kept = record([image] * 2)
    box = kept.box
    assert (box.y, box.x, box.height, box.width) == (6, 8, 12, 16)
    assert box.size == (24, 32)
    large = image.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(kept.shots[0].images["model"], large[6:18, 8:24])
    np.testing.assert_array_equal(kept.window[0], image[0:8, 4:12])


def test_frames_of_more_than_8_bits(record):
    kept = record([np.full((8, 8, 3), 65535, np.uint16)])
    assert kept.window.dtype == kept.profile["model"].dtype == np.uint8
    assert (kept.shots[0].images["model"] == 255).all()


def test_nothing_was_restored(record):
    kept = record([])
    assert (kept.num_frames, kept.box, kept.shots) == (0, None, ())


def test_central_box_keeps_the_shape():
    box = central_box((1080, 1920), 640 * 360, multiple=4)
    assert (box.height, box.width) == (360, 640)
    assert (box.y, box.x) == (360, 640)
    assert central_box((50, 70), 10**6).is_whole


def test_row_with_the_most_detail():
    image = np.zeros((16, 16, 3), np.uint8)
    image[9, ::2] = 255
    image[0, ::2] = 255  # not at the border
    assert recorder.busiest_row(image) == 9
