"""Which clip belongs to which, and walking two of them side by side."""

import cv2
import numpy as np
import pytest

from edvr_jax.media.read.clip_pairs import (
    clip_name,
    join_frames,
    match_clips,
    note_gaps,
    select_clips,
)
from tests.messages import refused


def make_clip(folder, num_frames=1):
    folder.mkdir(parents=True)
    for index in range(num_frames):
        cv2.imwrite(str(folder / f"{index}.png"), np.zeros((4, 6, 3), np.uint8))
    return folder


@pytest.fixture
def gt(tmp_path):
    for name in ("a", "b", "c10", "c9"):
        make_clip(tmp_path / "gt" / name)
    return tmp_path / "gt"


def test_select_clips(gt):
    assert [p.name for p in select_clips(gt)] == ["a", "b", "c9", "c10"]
    assert select_clips(gt, ["c9", "a"]) == [gt / "c9", gt / "a"]
    assert select_clips(gt / "a") == [gt / "a"]
    with refused("gt", "x", "a, b"):
        select_clips(gt, ["x"])


def test_clip_name(gt, tmp_path):
    (tmp_path / "rain.v2.mp4").touch()
    assert clip_name(tmp_path / "rain.v2.mp4") == "rain.v2"
    assert clip_name(make_clip(tmp_path / "rain.v2")) == "rain.v2"


def test_match_clips_by_name(gt, tmp_path):
    other = tmp_path / "other"
    for name in ("c9", "c10", "b", "a"):
        make_clip(other / name)
    expected = [(gt / name, other / name) for name in ("a", "b", "c9", "c10")]
    assert match_clips(gt, other, is_exact=True) == expected
    assert match_clips(gt, other, names=["b"]) == [(gt / "b", other / "b")]


def test_single_clips_need_no_common_name(gt, tmp_path):
    other = make_clip(tmp_path / "other" / "x")
    assert match_clips(gt / "a", other) == [(gt / "a", other)]
    assert match_clips(gt / "a", other.parent) == [(gt / "a", other)]
    with refused("other: no clip named a"):
        match_clips(gt, other.parent, names=["a"])


def test_clips_without_partner_are_named(gt, tmp_path):
    other = tmp_path / "other"
    for name in ("a", "b", "x"):
        make_clip(other / name)
    with refused("other: no clip named c9, c10"):
        match_clips(gt, other)
    for name in ("c9", "c10"):
        make_clip(other / name)
    assert len(match_clips(gt, other)) == 4
    with refused("gt: no clip named x"):
        match_clips(gt, other, is_exact=True)


def test_two_clips_of_one_name(gt):
    (gt / "a.mp4").touch()
    with refused("a.mp4", "clip a"):
        select_clips(gt)


def test_join_frames():
    frames = np.arange(3)
    joined = list(join_frames(frames, frames + 10, name="x"))
    assert joined == [(0, 10), (1, 11), (2, 12)]


@pytest.mark.parametrize(("counts"), [(2, 5), (5, 2), (0, 1)])
def test_different_frame_counts_are_named(counts):
    with refused("x: the ground truth has {} frames".format(*counts), counts[1]):
        list(join_frames(*map(np.arange, counts), name="x"))


def write_names(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((4, 4, 3), np.uint8))
    return folder


def match(tmp_path, gt, other):
    folders = [write_names(tmp_path / k, n) for k, n in (("gt", gt), ("lq", other))]
    return match_clips(*folders)


def numbered(*numbers, form="{:04d}.png"):
    return [form.format(number) for number in numbers]


@pytest.mark.parametrize(
    ("gt", "other", "named"),
    [
        # One frame is missing on each side: as many files, and 3 met 4.
        (numbered(0, 1, 2, 3, 4), numbered(0, 1, 2, 4, 5), "0005.png"),
        # Also: another start, other padding, another suffix, two numbers in a name.
        (numbered(0, 1, 2), numbered(1, 2, 3), "0003.png"),
        (numbered(0, 1, 2), numbered(1, 2, 3, form="{}.png"), "3.png"),
        (numbered(0, 1), numbered(0, 2, form="{:04d}.jpg"), "0002.jpg"),
        (["v2_f1.png", "v2_f2.png"], ["v2_f1.png", "v2_f3.png"], "v2_f3.png"),
        # Names without numbers, and takes whose numbers begin anew.
        (["cat.png", "dog.png"], ["cat.png", "fox.png"], "fox.png"),
        (["a_1.png", "b_1.png"], ["a_1.png", "b_2.png"], "b_2.png"),
    ],
)
def test_frames_of_one_scheme_belong_together_by_number(tmp_path, gt, other, named):
    with refused(named, tmp_path / "gt"):
        match(tmp_path, gt, other)


def test_padding_and_suffix_do_not_matter(tmp_path, caplog):
    match(tmp_path, numbered(1, 2, 10), numbered(1, 2, 10, form="{}.jpg"))
    (message,) = caplog.messages
    assert message == (
        f"{tmp_path / 'gt'}: there is no frame between 0002.png and 0010.png"
    )


@pytest.mark.parametrize(
    "names", [["cat.png", "dog.png"], ["a_1.png", "b_1.png"], ["x.png"]]
)
def test_equal_names_give_no_warning(tmp_path, names, caplog):
    match(tmp_path, names, [name.replace("png", "jpg") for name in names])
    assert not caplog.messages


def test_gaps_and_other_names_are_reported_once(tmp_path, caplog):
    """Also: numbers that are times, and frames that were taken at a distance."""
    kinds = {"a": (1, 2, 9), "b": (1, 2, 9), "times": (1, 10**15, 10**15 + 1)}
    for name, numbers in {**kinds, "every tenth": (0, 10, 20)}.items():
        for side, form in (("gt", "{}.png"), ("lq", "lq{:020d}.png")):
            (tmp_path / side / name).mkdir(parents=True)
            for number in numbers:
                (tmp_path / side / name / form.format(number)).touch()
    match_clips(tmp_path / "gt", tmp_path / "lq")
    order, gaps = caplog.messages
    assert "paired by order: " in order
    assert order.endswith(" and 2 more")
    assert "gt/a: there is no frame between 2.png and 9.png; " in gaps
    assert gaps.endswith(" and 3 more")
    note_gaps([tmp_path / "gt" / "every tenth", tmp_path / "gt" / "times"])
    assert caplog.messages[2].endswith(f"no frame between 1.png and {10**15}.png")


@pytest.mark.parametrize(
    "other", [["a1.png", "a3.png"], ["x.png", "y.png"], ["1.png", "b2.png"]]
)
def test_other_schemes_are_paired_by_order_with_a_warning(tmp_path, other, caplog):
    match(tmp_path, numbered(0, 1), other)
    (message,) = caplog.messages
    assert "paired by order" in message
    assert str(tmp_path / "lq") in message
