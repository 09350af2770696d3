"""Clips written here by PyAV and OpenCV, read back; and every way to be unreadable."""

import re
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from edvr_jax.data.images import natural_key
from edvr_jax.data.video import list_clips, open_clip
from edvr_jax.errors import InputError

FPS = Fraction(30000, 1001)


def make_frames(num_frames, height=24, width=32, seed=0):
    shape = (num_frames, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_video(path, frames, codec, pix_fmt, *, fps=FPS, muxer=None, matrix=None):
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if matrix is not None:
            stream.codec_context.colorspace = matrix
            stream.codec_context.color_range = ColorRange.MPEG
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_images(folder, frames, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, frames, strict=True):
        cv2.imwrite(str(folder / name), frame[..., ::-1])


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mov", "libx264", "yuv444p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("y4m", "wrapped_avframe", "yuv420p"),
    ],
)
def test_video_has_its_frames_size_and_exact_rate(tmp_path, suffix, codec, pix_fmt):
    path = tmp_path / f"clip.{suffix}"
    levels = np.full((7, 24, 32, 3), 1, np.uint8)
    levels *= np.arange(20, 230, 30, dtype=np.uint8)[:, None, None, None]
    write_video(path, levels, codec, pix_fmt)
    clip = open_clip(path)
    assert (clip.name, clip.fps, clip.size) == ("clip", FPS, (24, 32))
    frames = list(clip)
    assert [frame.shape for frame in frames] == [(24, 32, 3)] * 7
    assert all(frame.dtype == np.uint8 for frame in frames)
    # Flat greys survive the codecs within 3 levels (measured), in their order.
    np.testing.assert_allclose(frames, levels, atol=4)


def test_lossless_video_is_exact_and_can_be_read_twice(tmp_path):
    frames = make_frames(4, 25, 33)
    write_video(tmp_path / "clip.mkv", frames, "ffv1", "bgr0")
    clip = open_clip(tmp_path / "clip.mkv")
    np.testing.assert_array_equal(list(clip), frames)
    np.testing.assert_array_equal(list(clip), frames)


def test_gif(tmp_path):
    frames = np.repeat(np.uint8([0, 255, 0])[:, None], 24 * 32 * 3, 1)
    frames = frames.reshape(3, 24, 32, 3)
    write_video(tmp_path / "clip.gif", frames, "gif", "rgb8", fps=25)
    clip = open_clip(tmp_path / "clip.gif")
    assert clip.fps == 25
    # The 256-colour palette's white is 252.
    np.testing.assert_allclose(list(clip), frames, atol=3)


@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601])
def test_colours_follow_the_tagged_matrix(tmp_path, matrix):
    frames = np.broadcast_to(np.uint8([200, 40, 90]), (2, 24, 32, 3))
    write_video(tmp_path / "clip.mp4", frames, "libx264", "yuv444p", matrix=matrix)
    # Rounding of Y, Cb and Cr moves a channel by up to 2; the wrong matrix by 13.
    np.testing.assert_allclose(list(open_clip(tmp_path / "clip.mp4")), frames, atol=3)


def test_rotation_is_applied(tmp_path):
    path = tmp_path / "clip.mp4"
    frames = np.zeros((2, 24, 32, 3), np.uint8)
    frames[:, :12, :16] = 255  # top left is white
    write_video(path, frames, "libx264", "yuv444p")
    # The track header's matrix for "show me turned clockwise by 90 degrees".
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(
        ">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30
    )
    path.write_bytes(data)
    clip = open_clip(path)
    assert clip.size == (32, 24)
    expected = np.rot90(frames[0], -1)  # top right is white
    np.testing.assert_allclose(next(iter(clip)), expected, atol=8)


def test_folder_is_read_in_natural_order(tmp_path):
    names = ["f1.png", "f2.PNG", "f10.png"]
    frames = make_frames(3)
    write_images(tmp_path / "clip", frames, names)
    (tmp_path / "clip" / "notes.txt").write_text("not a frame")
    clip = open_clip(tmp_path / "clip")
    assert (clip.name, clip.fps, clip.num_frames) == ("clip", None, 3)
    assert [path.name for path in clip.frame_paths] == names
    np.testing.assert_array_equal(list(clip), frames)


@pytest.mark.parametrize("suffix", ["bmp", "tif", "webp", "jpg"])
def test_folder_of_other_images(tmp_path, suffix):
    frames = np.full((2, 8, 16, 3), 90, np.uint8)
    write_images(tmp_path / "clip", frames, [f"0.{suffix}", f"1.{suffix}"])
    np.testing.assert_allclose(list(open_clip(tmp_path / "clip")), frames, atol=3)


def test_natural_key_mixes_digits_and_letters(tmp_path):
    names = ["a", "2b", "1", "b10", "b9", "10"]
    order = sorted((tmp_path / name for name in names), key=natural_key)
    assert [path.name for path in order] == ["1", "2b", "10", "a", "b9", "b10"]


def test_list_clips(tmp_path):
    write_images(tmp_path / "clip10", make_frames(1), ["0.png"])
    write_images(tmp_path / "clip9", make_frames(1), ["0.png"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "README.txt").write_text("")
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    names = [path.name for path in list_clips(tmp_path)]
    assert names == ["a.mp4", "clip9", "clip10"]
    assert list_clips(tmp_path / "clip9") == [tmp_path / "clip9"]
    assert list_clips(tmp_path / "a.mp4") == [tmp_path / "a.mp4"]
    for folder in ("empty", "nowhere"):
        with pytest.raises(InputError, match=folder):
            list_clips(tmp_path / folder)


def test_missing_path():
    with pytest.raises(InputError, match=r"^nowhere\.mp4: no such file or folder"):
        open_clip("nowhere.mp4")


def test_text_file_named_mp4(tmp_path):
    (tmp_path / "clip.mp4").write_text("hello\n" * 100)
    with pytest.raises(InputError, match=r"clip\.mp4: not a video that can be read"):
        open_clip(tmp_path / "clip.mp4")


@pytest.mark.parametrize(("name", "text"), [("a.txt", "hello\n" * 9), ("a.mp4", "")])
def test_other_files_that_are_no_video(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=name):
        open_clip(tmp_path / name)


def test_empty_folder_and_folder_without_images(tmp_path):
    with pytest.raises(InputError, match="this folder is empty"):
        open_clip(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"no images in this folder.*png, jpg"):
        open_clip(tmp_path)


def test_one_image_is_no_clip(tmp_path):
    write_images(tmp_path, make_frames(1), ["a.png"])
    with pytest.raises(InputError, match=r"a\.png: this is one image"):
        open_clip(tmp_path / "a.png")


def test_unequal_sizes_name_the_frame_and_both_sizes(tmp_path):
    frames = [*make_frames(2), make_frames(1, 20, 30)[0]]
    write_images(tmp_path, frames, ["0.png", "1.png", "2.png"])
    frames = iter(open_clip(tmp_path))
    assert len([next(frames), next(frames)]) == 2
    message = re.escape("2.png is 30x20 but the first frame is 32x24")
    with pytest.raises(InputError, match=message):
        next(frames)


def test_corrupt_image(tmp_path):
    write_images(tmp_path, make_frames(2), ["0.png", "1.png"])
    data = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"1\.png: not a complete image"):
        list(open_clip(tmp_path))
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"0\.png: not a complete image"):
        open_clip(tmp_path)


def test_video_without_video_stream(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = np.zeros((1, 4096), np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"sound\.mp4: no video stream"):
        open_clip(path)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9")]
)
def test_truncated_video_keeps_its_frames_then_raises(tmp_path, suffix, codec):
    path = tmp_path / f"clip.{suffix}"
    write_video(path, make_frames(10), codec, "yuv420p")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    frames = []
    with pytest.raises(InputError) as caught:
        frames.extend(open_clip(path))
    num_read = int(re.search(r"(\d+) frames were read", str(caught.value))[1])
    assert 0 < num_read < 10
    assert str(path) in str(caught.value)


def test_video_cut_before_its_index(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, make_frames(10), "libx264", "yuv420p")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"clip\.mp4: not a video that can be read"):
        open_clip(path)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_short_videos(tmp_path, num_frames):
    write_video(tmp_path / "clip.mkv", make_frames(num_frames), "ffv1", "bgr0")
    assert len(list(open_clip(tmp_path / "clip.mkv"))) == num_frames
