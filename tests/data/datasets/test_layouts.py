"""The published datasets in miniature: what is found, and what is missed by name."""

import logging

import cv2
import numpy as np
import pytest

from edvr_jax.config import REDS4
from edvr_jax.data.datasets import find_layout, reds, udm10, vid4, vimeo90k
from edvr_jax.errors import InputError


@pytest.fixture(autouse=True)
def tiny_datasets(monkeypatch):
    """Keep the folder names, but with few clips and frames."""
    monkeypatch.setattr(reds, "NUM_TRAIN", 22)
    monkeypatch.setattr(reds, "OFFICIAL_VAL", ("022", "023"))
    monkeypatch.setattr(reds, "NUM_FRAMES", 3)
    monkeypatch.setattr(vid4, "NUM_FRAMES", {"calendar": 3, "city": 2})
    monkeypatch.setattr(udm10, "NUM_FRAMES", 2)


@pytest.fixture
def write(tmp_path):
    """Write empty frames: ``write("train/000", ["0.png"])``."""

    def write(folder, names):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (tmp_path / folder / name).touch()

    return write


def frames(count, width=8):
    return [f"{i:0{width}d}.png" for i in range(count)]


def write_reds(write, archive, *, val="val/val_", train="train/train_"):
    for k in range(22):
        write(f"{train}{archive}/{k:03d}", frames(3))
    for k in range(2):
        name = f"{k:03d}" if val.startswith("val") else f"{22 + k:03d}"
        write(f"{val}{archive}/{name}", frames(3))


def test_reds(write, tmp_path):
    write_reds(write, "sharp")
    write_reds(write, "sharp_bicubic/X4")
    layout = find_layout("reds", tmp_path)
    assert list(layout.streams) == ["gt", "sharp_bicubic_x4"]
    gt, lq = (layout.streams[layout.lq_streams["sr"]], layout.streams["gt"])
    assert list(gt) == list(lq) == [f"{k:03d}" for k in range(24)]
    assert gt["023"] == tmp_path / "val" / "val_sharp_bicubic" / "X4" / "001"
    assert set(gt) - set(layout.train) == set(REDS4) == {"000", "011", "015", "020"}


def test_reds_regrouped_without_train_folder(write, tmp_path):
    write_reds(write, "sharp", train="train_", val="train_")
    layout = find_layout("reds", tmp_path)
    assert layout.streams["gt"]["023"] == tmp_path / "train_sharp" / "023"


def test_missing_clips_and_frames_are_named(write, tmp_path, caplog):
    write_reds(write, "sharp")
    (tmp_path / "train/train_sharp/007/00000001.png").unlink()
    for path in (tmp_path / "train/train_sharp/009").iterdir():
        path.unlink()
    (tmp_path / "train/train_sharp/009").rmdir()
    with pytest.raises(InputError) as caught:
        find_layout("reds", tmp_path)
    assert "007: 2 frames instead of 3, 00000001 missing" in str(caught.value)
    assert "009: this clip is missing" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        layout = find_layout("reds", tmp_path, is_partial=True)
    assert len(layout.streams["gt"]) == 22
    assert "2 clips left out" in caplog.text


@pytest.mark.parametrize("name", ["reds", "vid4"])
def test_frames_of_other_numbers_are_refused(write, tmp_path, name):
    """As many frames on both sides, but those of the input begin one later."""
    shifted = [f"{i:08d}.png" for i in (1, 2, 3)]
    if name == "reds":
        write_reds(write, "sharp")
        write_reds(write, "blur")
        wrong = "train/train_blur/003"
    else:
        for folder, count in (("calendar", 3), ("city", 2)):
            write(f"GT/{folder}", frames(count))
        write("BIx4/city", frames(2))
        wrong = "BIx4/calendar"
    for path in (tmp_path / wrong).glob("*"):
        path.unlink()
    write(wrong, shifted)
    with pytest.raises(InputError, match=r"no frame like .*\.png") as error:
        find_layout(name, tmp_path)
    assert wrong in str(error.value)


def test_many_faults_are_counted(write, tmp_path):
    write("train_sharp/000", frames(3))
    with pytest.raises(InputError, match=r"and 18 more;"):
        find_layout("reds", tmp_path)


@pytest.mark.parametrize(
    ("name", "missing"),
    [("reds", "train_sharp"), ("vid4", "GT"), ("udm10", "GT")],
)
def test_empty_folder(tmp_path, name, missing):
    with pytest.raises(InputError, match=f"no folder .*{missing}"):
        find_layout(name, tmp_path)


def test_vimeo90k(write, tmp_path):
    septuplet = [f"im{i}.png" for i in range(1, 8)]
    root = tmp_path / "vimeo_septuplet"
    for name in ("00001/0001", "00001/0002", "00002/0001"):
        write(f"vimeo_septuplet/sequences/{name}", septuplet)
        write(f"vimeo_septuplet_matlabLRx4/sequences/{name}", septuplet)
    with pytest.raises(InputError, match=r"sep_testlist\.txt: the list"):
        find_layout("vimeo90k", tmp_path)
    (root / vimeo90k.TRAIN_LIST).write_text("00001/0001\n00002/0001\n\n")
    (root / vimeo90k.TEST_LIST).write_text("00001/0002\n")
    for folder in (tmp_path, root):
        layout = find_layout("vimeo90k", folder)
        assert layout.train == ("00001/0001", "00002/0001")
        assert set(layout.streams["gt"]) - set(layout.train) == {"00001/0002"}
        assert set(layout.streams) == {"gt", "bix4"}
    (root / "sequences/00001/0002/im4.png").unlink()
    with pytest.raises(InputError, match="0002: 6 frames instead of 7, 4 missing"):
        find_layout("vimeo90k", root)


def test_vid4_and_udm10_are_test_sets(write, tmp_path):
    for stream in ("GT", "BDx4"):
        write(f"{stream}/calendar", frames(3))
        write(f"{stream}/city", frames(2))
        for clip in udm10.CLIPS:
            write(f"{stream}/{clip}", frames(2, 4))
    for name, num_clips in (("vid4", 2), ("udm10", 10)):
        layout = find_layout(name, tmp_path)
        assert layout.train == ()
        assert len(layout.streams["gt"]) == num_clips
        assert layout.lq_streams["sr_bd"] in layout.streams
        assert layout.lq_streams["sr"] not in layout.streams


def test_folder_of_clips_with_partners(tmp_path):
    for kind in ("gt", "lq"):
        for name in ("a", "b"):
            (tmp_path / kind / name).mkdir(parents=True)
            cv2.imwrite(
                str(tmp_path / kind / name / "0.png"), np.zeros((4, 4, 3), np.uint8)
            )
    layout = find_layout("folder_of_clips", tmp_path)
    assert layout.streams["lq"] == {n: tmp_path / "lq" / n for n in ("a", "b")}
    assert layout.train == ("a", "b")
    (tmp_path / "lq" / "b" / "0.png").unlink()
    with pytest.raises(InputError, match="no clip named b"):
        find_layout("folder_of_clips", tmp_path)
    only_gt = find_layout("folder_of_clips", tmp_path / "gt")
    assert list(only_gt.streams) == ["gt"]
