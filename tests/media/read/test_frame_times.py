"""Times of frames that are missing, equal or jump back."""

from fractions import Fraction
from types import SimpleNamespace

import pytest

from edvr_jax.media.read import frame_times
from edvr_jax.media.read.timeline import Trim
from tests.messages import refused


def repair(times, *, is_avi=False, decoded=None):
    frames = (
        SimpleNamespace(pts=pts, dts=dts)
        for pts, dts in zip(times, decoded or times, strict=True)
    )
    options = {"first": 100, "usual": 40, "time_base": Fraction(1, 1000)}
    repaired = frame_times.repair(frames, "a.ts", is_avi=is_avi, **options)
    return [time for _, time in repaired]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 40, 95], [0, 40, 95]),
        ([None, None, 180], [100, 140, 180]),
        ([0, 40, 40, 30, 80], [0, 40, 41, 42, 80]),
    ],
)
def test_times_rise(times, expected):
    assert repair(times) == expected


def test_avi_stores_when_frames_are_decoded():
    shown = [80, None, 0, None]
    assert repair(shown, decoded=[0, 40, 80, 120], is_avi=True) == [80, 120, 160, 200]


def test_times_that_jump_back_are_refused():
    with refused("a.ts", "2.0 s", "1.5 s"):
        repair([0, 2000, 500])


@pytest.mark.parametrize(
    ("start", "end", "max_frames", "expected"),
    [
        (0, None, None, range(50)),
        (1, None, 3, range(25, 28)),
        (Fraction(1, 2), 1, None, range(13, 25)),
        (9, None, None, range(0)),
    ],
)
def test_frames_of_a_part(start, end, max_frames, expected):
    trim = Trim(Fraction(start), None if end is None else Fraction(end), max_frames)
    assert list(trim.select(range(50), Fraction(25))) == list(expected)
