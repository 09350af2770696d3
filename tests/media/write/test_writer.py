"""Frames written and read back: exact folders, videos of the right size and rate."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from edvr_jax.errors import InputError
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.write.writer import open_writer
from tests.messages import refused

FPS = Fraction(24000, 1001)


def make_frames(num_frames, height=24, width=32):
    """Smooth colors: chroma halved by 4:2:0 comes back."""
    y, x, t = np.meshgrid(
        np.arange(height), np.arange(width), np.arange(num_frames), indexing="ij"
    )
    rgb = np.stack([60 + 4 * x, 60 + 4 * y, 120 + 2 * (x - y) + 5 * t], axis=-1)
    return np.moveaxis(rgb, 2, 0).clip(0, 255).astype(np.uint8)


def write(path, frames, **options):
    with open_writer(path, options.pop("fps", FPS), **options) as writer:
        for frame in frames:
            writer.write(frame)


def leftovers(folder: Path):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "m4v"])
@pytest.mark.parametrize(
    ("num_frames", "height", "width"), [(1, 24, 32), (2, 25, 33), (10, 33, 24)]
)
def test_video_round_trip(tmp_path, suffix, num_frames, height, width):
    frames = make_frames(num_frames, height, width)
    path = tmp_path / f"out.{suffix}"
    write(path, frames, crf=1)
    clip = open_clip(path)
    assert clip.size == (height, width)
    if num_frames > 1 or suffix != "mkv":
        assert clip.fps == FPS
    # Measured with libx264 at crf 1: at most 5 levels off.
    np.testing.assert_allclose(list(clip), frames, atol=8)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(("width", "pix_fmt"), [(32, "yuv420p"), (33, "yuv444p")])
def test_video_is_tagged_and_encoded_as_bt709(tmp_path, width, pix_fmt):
    red = np.broadcast_to(np.uint8([200, 40, 90]), (2, 24, width, 3))
    write(tmp_path / "out.mp4", red)
    with av.open(str(tmp_path / "out.mp4")) as container:
        codec = container.streams.video[0].codec_context
        tags = codec.colorspace, codec.color_primaries, codec.color_trc
        frame = next(container.decode(video=0))
        levels = [np.frombuffer(plane, np.uint8)[0] for plane in frame.planes]
    assert codec.pix_fmt == pix_fmt
    assert tags == (1, 1, 1)  # AVCOL_*_BT709
    assert codec.color_range == 1  # limited
    # By hand: Y' = 16 + 219 (0.2126 R + 0.7152 G + 0.0722 B), Cb and Cr likewise.
    np.testing.assert_allclose(levels, [82.7, 133.9, 196.3], atol=1.5)


def test_lower_crf_is_closer(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 24, 33, 3), np.uint8)
    errors = []
    for crf in (0, 17, 40):
        write(tmp_path / f"{crf}.mp4", frames, crf=crf)
        written = np.stack(list(open_clip(tmp_path / f"{crf}.mp4")))
        errors.append(np.abs(written.astype(float) - frames).mean())
    assert errors[0] < 1  # lossless but for the rounding to YUV
    assert errors[0] < errors[1] < errors[2]


def test_folder_is_exact(tmp_path):
    frames = make_frames(3)
    write(tmp_path / "out", frames / np.float32(255))  # floats in [0, 1]
    clip = open_clip(tmp_path / "out")
    assert [p.name for p in clip.frame_paths] == [f"0000000{i}.png" for i in range(3)]
    np.testing.assert_array_equal(list(clip), frames)


@pytest.mark.parametrize("name", ["out.mp4", "out"])
@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt])
def test_failure_leaves_the_old_output_and_nothing_else(tmp_path, name, error):
    path = tmp_path / name
    write(path, make_frames(1))
    before = list(open_clip(path))
    frame = make_frames(1, 48, 48)[0]

    def fail_halfway():
        yield frame
        assert len(leftovers(tmp_path)) == 1
        raise error("stop")

    with pytest.raises(error, match="stop"):
        write(path, fail_halfway(), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(list(open_clip(path)), before)


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_overwrite(tmp_path, name):
    write(tmp_path / name, make_frames(3))
    with refused(tmp_path / name, "--overwrite"):
        write(tmp_path / name, make_frames(1))
    write(tmp_path / name, make_frames(1, 48, 48), overwrite=True)
    clip = open_clip(tmp_path / name)
    assert (clip.size, len(list(clip))) == ((48, 48), 1)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_folder_of_other_things_is_never_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", make_frames(1))  # an empty folder may be filled
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with refused(tmp_path / "out"):
        write(tmp_path / "out", make_frames(1), overwrite=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("out.avi", (" .avi;", ".mp4", ".mkv", "folder")),
        ("out.flv", (" .flv;", ".mp4", ".mkv", "folder")),
        ("out.png", (" .png;", ".mp4", ".mkv", "folder")),
        ("nowhere/out.mp4", ("no folder", "nowhere")),
        ("file/out.mp4", ("no folder",)),
        ("file", ("is a file",)),
        ("folder.mp4", ("is a folder",)),
        ("..", ("name",)),
    ],
)
def test_impossible_outputs(tmp_path, name, facts):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    with refused(tmp_path / name, *facts):
        write(tmp_path / name, make_frames(1))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_unwritable_folder(name):
    with refused(f"/proc/{name}", "cannot be written"):
        write(Path("/proc") / name, make_frames(1))


def test_no_frames_and_bad_crf(tmp_path):
    with refused(tmp_path / "out.mp4", "no frames"):
        write(tmp_path / "out.mp4", [])
    with refused("crf", "libx264", "0..51", 99):
        write(tmp_path / "out.mp4", make_frames(1), crf=99)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_or_shape(tmp_path):
    frames = [make_frames(1)[0], make_frames(1, 48, 48)[0]]
    with refused("frame 1", (48, 48), (24, 32), error=ValueError):
        write(tmp_path / "out", frames)
    with refused("[H, W, 3]", (24, 32, 1), error=ValueError):
        write(tmp_path / "out", [np.zeros((24, 32, 1), np.uint8)])
