"""``edvr restore`` on tiny clips with a tiny network, and on everything unreadable."""

import contextlib
import re
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file

from edvr_jax import progress, weights
from edvr_jax.commands import restore
from edvr_jax.errors import InputError
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.read.pixels import to_uint8
from edvr_jax.media.write.writer import open_writer
from edvr_jax.restore.restorer import restore_frames
from tests.messages import refused
from tests.videos import write_folder, write_video

FPS = Fraction(30000, 1001)
HEIGHT, WIDTH = 25, 33


def make_frames(num_frames, height=HEIGHT, width=WIDTH):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (num_frames, 5, 6, 3), np.uint8)
    return [cv2.resize(frame, (width, height)) for frame in small]


def run(source, target, weights_path, **options):
    return restore.Restore(source, target, weights=(weights_path,), **options).run()


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_video_to_video_of_odd_size(tmp_path, tiny, capsys, num_frames):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    with open_writer(source, FPS) as writer:
        for frame in make_frames(num_frames):
            writer.write(frame)
    assert run(source, target, tiny, crf=1) is None
    restored = open_clip(target)
    assert (restored.fps, restored.size) == (FPS, (2 * HEIGHT, 2 * WIDTH))
    config, params = weights.load_weights(tiny)
    expected = list(restore_frames(config, params, open_clip(source)))
    # 4:2:0 blurs the colors of this noisy network: 5 levels on average (measured).
    difference = np.stack(list(restored)) - 255.0 * np.clip(expected, 0, 1)
    assert np.abs(difference).mean(axis=(1, 2, 3)).max() < 7
    line = capsys.readouterr().out.splitlines()[-1]
    frames = "1 frame" if num_frames == 1 else f"{num_frames} frames"
    assert line.startswith(f"{target}: {frames}, 33x25 -> 66x50, ")
    assert line.endswith(" s per frame")


def test_folder_to_folder_keeps_names_and_order(tmp_path, tiny):
    names = ["f9.jpg", "f10.jpg", "f11.jpg"]
    source = write_folder(tmp_path / "in", make_frames(3), names)
    run(source, tmp_path / "out", tiny, padding="replicate")
    restored = open_clip(tmp_path / "out")
    assert [p.name for p in restored.frame_paths] == ["f9.png", "f10.png", "f11.png"]
    config, params = weights.load_weights(tiny)
    expected = restore_frames(config, params, open_clip(source), padding="replicate")
    np.testing.assert_array_equal(list(restored), list(map(to_uint8, expected)))


def test_folder_to_video_has_the_given_rate(tmp_path, tiny):
    source = write_folder(tmp_path / "in", make_frames(2))
    run(source, tmp_path / "out.mkv", tiny, fps="29.97")
    assert open_clip(tmp_path / "out.mkv").fps == pytest.approx(29.97, abs=1e-3)
    with pytest.raises(InputError, match="fps must be a number above 0"):
        run(source, tmp_path / "other.mkv", tiny, fps="0")


def test_output_is_replaced_only_when_asked(tmp_path, tiny):
    source = write_folder(tmp_path / "in", make_frames(1))
    run(source, tmp_path / "out", tiny)
    with pytest.raises(InputError, match=r"out: exists already; pass --overwrite"):
        run(source, tmp_path / "out", tiny)
    run(source, tmp_path / "out", tiny, overwrite=True)


def make_unreadable(tmp_path, case):
    """Make the input of a case; returns its path and what the message must say."""
    path = tmp_path / "in"
    if case == "missing":
        return path, "in: no such file or folder"
    if case == "text":
        path = tmp_path / "in.mp4"
        path.write_text("hello\n" * 100)
        return path, r"in\.mp4: not a video"
    if case == "empty":
        path.mkdir()
        return path, "in: this folder is empty"
    if case == "unequal":
        frames = [*make_frames(3), make_frames(1, 20, 30)[0]]
        write_folder(path, frames)
        return path, r"3\.png is 30x20 but the first frame is 33x25"
    if case == "deep":
        write_folder(path, make_frames(2))
        cv2.imwrite(str(path / "2.png"), np.full((HEIGHT, WIDTH, 3), 300, np.uint16))
        return path, r"2\.png is uint16 but the first frame is uint8"
    if case == "damaged":
        write_folder(path, make_frames(3))
        data = (path / "2.png").read_bytes()
        (path / "2.png").write_bytes(data[: len(data) // 2])
        return path, r"2\.png: not a complete image"
    path = tmp_path / "in.y4m"
    frames = np.stack(make_frames(6))
    write_video(path, frames, codec="wrapped_avframe", with_sound=False)
    path.write_bytes(b"BROKE".join(path.read_bytes().rsplit(b"FRAME", 2)))
    return path, r"in\.y4m: the video is damaged .*: 4 frames were read"


@pytest.mark.parametrize(
    "case", ["missing", "text", "empty", "unequal", "damaged", "deep"]
)
@pytest.mark.parametrize("target", ["out", "out.mp4"])
def test_bad_input_is_named_and_nothing_is_written(tmp_path, tiny, case, target):
    source, message = make_unreadable(tmp_path, case)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=message) as caught:
        run(source, tmp_path / target, tiny)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("target", ["out", "out.mp4"])
def test_good_frames_of_a_damaged_clip_are_kept(tmp_path, tiny, target):
    source, message = make_unreadable(tmp_path, "unreadable")
    with pytest.raises(InputError, match=message) as caught:
        run(source, tmp_path / target, tiny)
    assert "\n" not in str(caught.value)
    partial = tmp_path / target.replace("out", "out.partial")
    assert str(partial) in str(caught.value)
    assert sorted(tmp_path.iterdir()) == sorted([source, partial])
    good = []
    with contextlib.suppress(InputError):
        good.extend(open_clip(source))
    restored = list(open_clip(partial))
    assert len(restored) == len(good) > 0
    config, params = weights.load_weights(tiny)
    expected = list(map(to_uint8, restore_frames(config, params, good)))
    difference = np.abs(np.stack(restored).astype(float) - expected).mean()
    assert difference < (7 if target.endswith("mp4") else 1e-6)
    with refused(partial, "exists already"):
        run(source, tmp_path / target, tiny)


def test_what_is_seen_of_a_folder_is_told(tmp_path, tiny, capsys):
    frames = make_frames(3)
    source = tmp_path / "in"
    source.mkdir()
    for number, frame in zip((8, 9, 11), frames, strict=True):
        cv2.imwrite(str(source / f"take2_{number}.png"), frame)
    run(source, tmp_path / "out", tiny, precision="bfloat16")
    lines = capsys.readouterr().err.splitlines()
    for line in (
        f"note: {source}: there is no frame between take2_9.png and take2_11.png",
        "note: bfloat16 is slower than float32 on CPU",
        f"{source}: 3 frames, 33x25 -> 66x50 by {tiny}; png images in the folder "
        f"{tmp_path / 'out'}",
    ):
        assert line in lines
    # Of every third of thirty frames a second, named by the time.
    names = ["t033.png", "t066.png", "t100.png"]
    plain = write_folder(tmp_path / "plain", make_frames(3), names)
    run(plain, tmp_path / "again", tiny)
    assert "note" not in capsys.readouterr().err


def test_progress_in_a_log_shows_the_tiles(tmp_path, tiny, capsys, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    source = write_folder(tmp_path / "in", make_frames(2, 80, 120))
    run(source, tmp_path / "out", tiny, tile=96)
    lines = capsys.readouterr().err.splitlines()
    for form in (r"0 of 2, .* left, tile 2 of 2", r"1 of 2, .* left, tile 2 of 2"):
        assert any(re.fullmatch(form, line) for line in lines), lines


@pytest.mark.parametrize("target", ["in", "in/out", "in/out.mp4", ".", "in/../in"])
def test_output_and_input_must_be_apart(tmp_path, tiny, target):
    source = write_folder(tmp_path / "in", make_frames(1))
    message = r"output (is the|is inside the) input|holds other things than frames"
    with pytest.raises(InputError, match=message):
        run(source, tmp_path / target, tiny, overwrite=True)
    assert [path.name for path in source.iterdir()] == ["0.png"]


def test_video_is_not_its_own_output(tmp_path, tiny):
    source = tmp_path / "in.mp4"
    with open_writer(source, FPS) as writer:
        writer.write(make_frames(1)[0])
    (tmp_path / "link.mp4").symlink_to(source)
    with pytest.raises(InputError, match="the output is the input"):
        run(source, tmp_path / "link.mp4", tiny, overwrite=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("no_such_weights", None),
        ("missing.safetensors", None),
        ("missing.pth", None),
        ("truncated.safetensors", b"half"),
        ("truncated.pth", b"PK\x03\x04half"),
        ("text.pth", b"hello"),
        ("video.mp4", b"not a weights file"),
    ],
)
def test_bad_weights(tmp_path, tiny, name, content):
    source = write_folder(tmp_path / "in", make_frames(1))
    path = tmp_path / name if "." in name else name
    if content == b"half":
        content = Path(tiny).read_bytes()[:5000]
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        run(source, tmp_path / "out", str(path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_weights_of_another_architecture(tmp_path):
    source = write_folder(tmp_path / "in", make_frames(1))
    path = tmp_path / "other.safetensors"
    save_file({"backbone.weight": np.zeros((4, 3, 3, 3), np.float32)}, path)
    with pytest.raises(InputError, match=r"other\.safetensors"):
        run(source, tmp_path / "out", str(path))
    assert not (tmp_path / "out").exists()


def test_weights_for_other_channels(tmp_path, save_network):
    gray = save_network("gray.safetensors", in_channels=1, out_channels=1)
    source = write_folder(tmp_path / "in", make_frames(1))
    with refused(gray, "1 channels", "RGB"):
        run(source, tmp_path / "out", gray)


def test_weights_in_a_pytorch_layout(tmp_path, fixtures):
    source = write_folder(tmp_path / "in", make_frames(1))
    path = fixtures / "models" / "basicsr_sr_without_tsa.safetensors"
    run(source, tmp_path / "out", str(path))
    assert open_clip(tmp_path / "out").size == (4 * HEIGHT, 4 * WIDTH)
