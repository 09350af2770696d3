"""``edvr prepare``: what it writes, again and after an interruption."""

import dataclasses
import itertools

import cv2
import numpy as np
import pytest

from edvr_jax import cli
from edvr_jax.commands.prepare import Prepare
from edvr_jax.config import DegradeConfig, WebConfig
from edvr_jax.data import degrade, motion_blur
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.errors import InputError, OutputError
from edvr_jax.media.read.clip_reader import open_clip


@pytest.fixture
def clips(fixtures, tmp_path):
    """Two clips of seven frames, 42x58, that pan over a real frame."""
    image = np.load(fixtures / "psnr_ssim.npz")["a_rgb"][0]
    for name, first in (("a", 0), ("b", 20)):
        folder = tmp_path / "clips" / name
        folder.mkdir(parents=True)
        for i in range(7):
            crop = image[first + i : first + i + 42, i : i + 58, ::-1]
            cv2.imwrite(str(folder / f"{i}.png"), crop)
    return tmp_path / "clips"


def read(folder):
    return np.stack(list(open_clip(folder)))


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_super_resolution_pairs(clips, tmp_path, capsys):
    command = ["prepare", str(clips), str(tmp_path / "out"), "--track", "sr"]
    assert cli.main([*command, "--scale", "4"]) == 0
    assert capsys.readouterr().out.endswith("out: 2 clips\n")
    gt = read(tmp_path / "out" / "gt" / "b")
    np.testing.assert_array_equal(gt, read(clips / "b")[:, :40, :56])
    lq = read(tmp_path / "out" / "lq" / "b")
    np.testing.assert_array_equal(lq, imresize_uint8(gt, 1 / 4))
    names = [
        [p.name for p in sorted((tmp_path / "out" / k / "a").iterdir())]
        for k in ("gt", "lq")
    ]
    assert names[0] == names[1] == [f"{i:08d}.png" for i in range(7)]


def test_deblurring_pairs_of_shrunk_clips(clips, tmp_path):
    blur = DegradeConfig(track="deblur", blur_frames=3, frame_step=2)
    Prepare(clips, tmp_path / "out", blur, scale=1, gt_downscale=2).run()
    sharp = imresize_uint8(read(clips / "a"), 1 / 2)
    np.testing.assert_array_equal(read(tmp_path / "out" / "gt" / "a"), sharp[1:6:2])
    blurred = [motion_blur.average(sharp[k : k + 3]) for k in (0, 2, 4)]
    np.testing.assert_array_equal(read(tmp_path / "out" / "lq" / "a"), blurred)


def test_the_same_seed_gives_the_same_bytes(clips, tmp_path):
    assert_seed_decides(
        clips, tmp_path, DegradeConfig("deblur_comp", 3, noise_sigma=2.0), scale=1
    )


def test_web_clips_can_be_continued(clips, tmp_path):
    """Its settings are written and compared like those of the other tracks."""
    assert_seed_decides(clips, tmp_path, DegradeConfig("web"), scale=2)
    again = Prepare(clips, tmp_path / "one", DegradeConfig("web"), scale=2)
    again.run()
    other = DegradeConfig("web", web=WebConfig(clean=0.2))
    with pytest.raises(InputError, match="other settings"):
        dataclasses.replace(again, degrade=other).run()


def assert_seed_decides(clips, tmp_path, noisy, *, scale):
    trees = []
    for target, seed in (("one", 0), ("two", 0), ("three", 1)):
        Prepare(clips, tmp_path / target, noisy, scale=scale, seed=seed).run()
        trees.append(files(tmp_path / target / "lq"))
    assert trees[0] == trees[1]
    assert trees[0] != trees[2]


def test_goes_on_after_an_interruption(clips, tmp_path, monkeypatch):
    command = Prepare(clips, tmp_path / "whole")
    command.run()
    stopped = dataclasses.replace(command, target=tmp_path / "stopped")
    real = degrade.degrade_clip

    def stop(frames, config, **options):
        couples = real(frames, config, **options)
        if len(list((tmp_path / "stopped" / "gt").glob("[!.]*"))) == 1:
            yield from itertools.islice(couples, 2)
            raise KeyboardInterrupt
        yield from couples

    with monkeypatch.context() as patch:
        patch.setattr(degrade, "degrade_clip", stop)
        assert stopped.run() == 130
    assert [p.name for p in (tmp_path / "stopped" / "lq").iterdir()] == ["a"]
    before = (tmp_path / "stopped" / "gt" / "a" / "00000000.png").stat().st_mtime_ns
    stopped.run()
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    after = (tmp_path / "stopped" / "gt" / "a" / "00000000.png").stat().st_mtime_ns
    assert before == after


def test_bad_clips_are_named_or_counted(clips, tmp_path, capsys):
    (clips / "a" / "3.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"a/3\.png: not a complete image"):
        Prepare(clips, tmp_path / "out").run()
    assert not list((tmp_path / "out" / "gt").iterdir())
    Prepare(clips, tmp_path / "out", skip_bad=True).run()
    captured = capsys.readouterr()
    assert "1 clips, 1 skipped" in captured.out
    assert "3.png" in captured.err
    assert [p.name for p in (tmp_path / "out" / "gt").iterdir()] == ["b"]


def test_wrong_settings_and_targets(clips, tmp_path):
    with pytest.raises(InputError, match="sr does not go with scale 1"):
        Prepare(clips, tmp_path / "out", scale=1).run()
    assert not (tmp_path / "out").exists()
    Prepare(clips, tmp_path / "out").run()
    with pytest.raises(InputError, match="other settings"):
        Prepare(clips, tmp_path / "out", scale=2).run()
    with pytest.raises(InputError, match="the output is the input"):
        Prepare(clips, clips).run()
    with pytest.raises(InputError, match="not an empty folder"):
        Prepare(clips, tmp_path / "out" / "gt").run()
    long = DegradeConfig(track="deblur", blur_frames=9)
    with pytest.raises(InputError, match="7 frames, but one blurred frame takes 9"):
        Prepare(clips, tmp_path / "blurred", long, scale=1).run()


def test_full_disk_is_no_bad_clip(clips, tmp_path, monkeypatch, capsys):
    def refuse(self, path):
        raise OutputError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(Prepare, "_prepare", refuse)
    command = ["prepare", str(clips), str(tmp_path / "out"), "--track", "sr"]
    assert cli.main([*command, "--scale", "4", "--skip-bad"]) == 2
    assert "No space left" in capsys.readouterr().err


def test_target_below_a_file_is_refused(clips, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "out"
    assert cli.main(["prepare", str(clips), str(target), "--track", "sr"]) == 2
    assert "out: cannot be written: Not a directory" in capsys.readouterr().err
