"""Window indices: written out, and against stored outputs of the reference."""

import json

import pytest

from edvr_jax.restore.windows import PADDING_MODES, window_indices


def test_equals_reference(fixtures):
    cases = json.loads((fixtures / "frame_indices.json").read_text())
    assert len(cases) == 324
    for case, expected in cases.items():
        padding, num_frames, num_total, center = case.split("/")
        indices = window_indices(int(center), int(num_total), int(num_frames), padding)
        assert indices == expected, case


@pytest.mark.parametrize(
    ("padding", "first", "last"),
    [
        ("replicate", [0, 0, 0, 1, 2], [6, 7, 8, 8, 8]),
        ("reflection", [2, 1, 0, 1, 2], [6, 7, 8, 7, 6]),
        ("reflection_circle", [4, 3, 0, 1, 2], [6, 7, 8, 5, 4]),
        ("circle", [3, 4, 0, 1, 2], [6, 7, 8, 4, 5]),
    ],
)
def test_ends_written_out(padding, first, last):
    assert window_indices(0, 9, 5, padding) == first
    assert window_indices(8, 9, 5, padding) == last
    assert window_indices(4, 9, 5, padding) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("padding", PADDING_MODES)
def test_short_clips_have_legal_windows(padding):
    for num_frames in (1, 3, 5, 7, 9):
        for num_total in range(1, num_frames + 2):
            for center in range(num_total):
                window = window_indices(center, num_total, num_frames, padding)
                assert len(window) == num_frames
                assert window[num_frames // 2] == center
                assert all(0 <= index < num_total for index in window)


@pytest.mark.parametrize(
    ("padding", "window"),
    [
        ("replicate", [0, 0, 0, 1, 1]),
        ("reflection", [0, 1, 0, 1, 0]),
        ("reflection_circle", [1, 1, 0, 1, 0]),
        ("circle", [0, 1, 0, 1, 0]),
    ],
)
def test_two_frames_written_out(padding, window):
    assert window_indices(0, 2, 5, padding) == window


@pytest.mark.parametrize("padding", PADDING_MODES)
def test_one_frame_is_repeated(padding):
    assert window_indices(0, 1, 7, padding) == [0] * 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 7, 5, "mirror"), "mirror"),
        ((0, 7, 4, "circle"), "num_frames"),
        ((7, 7, 5, "circle"), "center"),
        ((-1, 7, 5, "circle"), "center"),
        ((0, 0, 5, "circle"), "center"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        window_indices(*arguments)
