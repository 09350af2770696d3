"""Clips written here by PyAV and OpenCV, read back; and every way to be unreadable."""

import functools
import struct
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from edvr_jax.media.read import decode, frame_rgb, yuv
from edvr_jax.media.read.clip_reader import list_clips, open_clip
from edvr_jax.media.read.images import natural_key
from tests import videos
from tests.messages import refused
from tests.videos import write_folder

FPS = Fraction(30000, 1001)
write_video = functools.partial(videos.write_video, with_sound=False)


def make_frames(num_frames, height=24, width=32, seed=0):
    shape = (num_frames, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


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
    write_video(path, levels, rate=FPS, codec=codec, pix_fmt=pix_fmt)
    clip = open_clip(path)
    assert (clip.name, clip.fps, clip.size) == ("clip", FPS, (24, 32))
    frames = list(clip)
    assert [frame.shape for frame in frames] == [(24, 32, 3)] * 7
    assert all(frame.dtype == np.uint8 for frame in frames)
    # Flat grays survive the codecs within 3 levels (measured), in their order.
    np.testing.assert_allclose(frames, levels, atol=4)


def test_lossless_video_is_exact_and_can_be_read_twice(tmp_path):
    frames = make_frames(4, 25, 33)
    path = tmp_path / "clip.mkv"
    write_video(path, frames, codec="ffv1", pix_fmt="bgr0")
    clip = open_clip(path)
    np.testing.assert_array_equal(list(clip), frames)
    np.testing.assert_array_equal(list(clip), frames)


def test_gif(tmp_path):
    frames = np.repeat(np.uint8([0, 255, 0])[:, None], 24 * 32 * 3, 1)
    frames = frames.reshape(3, 24, 32, 3)
    write_video(tmp_path / "clip.gif", frames, rate=25, codec="gif", pix_fmt="rgb8")
    clip = open_clip(tmp_path / "clip.gif")
    assert clip.fps == 25
    # The 256-color palette's white is 252.
    np.testing.assert_allclose(list(clip), frames, atol=3)


@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601])
def test_colors_follow_the_tagged_matrix(tmp_path, matrix):
    frames = np.broadcast_to(np.uint8([200, 40, 90]), (2, 24, 32, 3))
    colors = (matrix, ColorRange.MPEG, 1, 1)
    write_video(tmp_path / "clip.mp4", frames, pix_fmt="yuv444p", colors=colors)
    # Rounding of Y, Cb and Cr moves a channel by up to 2; the wrong matrix by 13.
    np.testing.assert_allclose(list(open_clip(tmp_path / "clip.mp4")), frames, atol=3)


@pytest.mark.parametrize(
    ("number", "name"), [(8, "YCgCo"), (10, "bt2020c"), (14, "ICtCp")]
)
def test_colors_that_cannot_be_converted(tmp_path, number, name):
    options = {"x264-params": f"colormatrix={name}"}
    write_video(tmp_path / "clip.mp4", make_frames(2), options=options)
    with refused("clip.mp4", f"matrix is {number} ", "zscale"):
        open_clip(tmp_path / "clip.mp4")


def apply_filters(image, filters):
    graph = av.filter.Graph()
    height, width = image.shape[:2]
    given = graph.add_buffer(
        width=width, height=height, format="rgb24", time_base=Fraction(1, 25)
    )
    nodes = [graph.add(*name.split("=")) for name in filters]
    graph.link_nodes(given, *nodes, graph.add("buffersink")).configure()
    graph.push(av.VideoFrame.from_ndarray(image, "rgb24"))
    return graph.pull().to_ndarray()


@pytest.mark.parametrize(
    ("matrix", "filters"),  # those that FFmpeg itself inserts
    [
        ((1, 0, 0, 1), []),
        ((-1, 0, 0, 1), ["hflip"]),
        ((1, 0, 0, -1), ["vflip"]),
        ((-1, 0, 0, -1), ["hflip", "vflip"]),
        ((0, 1, -1, 0), ["transpose=clock"]),
        ((0, -1, 1, 0), ["transpose=cclock"]),
        ((0, 1, 1, 0), ["transpose=cclock_flip"]),
        ((0, -1, -1, 0), ["transpose=clock_flip"]),
    ],
)
def test_display_matrix_is_applied_as_ffmpeg_does(tmp_path, matrix, filters):
    path = tmp_path / "clip.mp4"
    write_video(path, make_frames(2), pix_fmt="yuv444p", display_matrix=matrix)
    frame = next(decode.decode(path))
    stored = yuv.read_frame(
        frame, frame_rgb.matrix_of(frame), frame_rgb.range_of(frame), np.uint8
    )
    expected = apply_filters(stored, filters)
    np.testing.assert_array_equal(frame_rgb.to_rgb(frame), expected)
    assert open_clip(path).size == expected.shape[:2]


def test_looking_at_the_orientation_does_not_keep_the_frame(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, make_frames(2), display_matrix=(0, 1, -1, 0))
    frame = next(decode.decode(path))
    before = sys.getrefcount(frame)
    assert frame_rgb.orientation(frame) == (3, False)
    assert sys.getrefcount(frame) == before


def test_rotation_of_jpeg_frames_with_exif(tmp_path):
    """PyAV gives such frames a rotation but no side data."""
    data = cv2.imencode(".jpg", make_frames(1)[0])[1].tobytes()
    # Orientation 6: turn it clockwise to show it.
    tags = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x112, 3, 1, 6, 0)
    exif = b"\xff\xe1" + struct.pack(">H", len(tags) + 8) + b"Exif\0\0" + tags
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", 25)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuvj420p"
        packet = av.Packet(data[:2] + exif + data[2:])
        packet.stream, packet.pts, packet.dts = stream, 0, 0
        packet.time_base, packet.is_keyframe = Fraction(1, 25), True
        container.mux(packet)
    assert frame_rgb.orientation(next(decode.decode(tmp_path / "clip.mkv"))) == (
        3,
        False,
    )
    assert open_clip(tmp_path / "clip.mkv").size == (32, 24)


def test_title_that_is_not_utf8(tmp_path):
    path = tmp_path / "clip.avi"
    write_video(path, make_frames(2), rate=25, codec="mpeg4")
    path.write_bytes(path.read_bytes().replace(b"My video", b"My vid\xe9o"))
    assert len(list(open_clip(path))) == 2
    with decode.open_container(path) as (container, _):
        title = container.metadata["title"]
    assert title == "My vid\N{REPLACEMENT CHARACTER}o"
    # It can be written again.
    with av.open(str(tmp_path / "copy.mkv"), "w") as container:
        container.add_stream("ffv1", 25)
        container.metadata["title"] = title
        container.start_encoding()


def test_name_with_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "take-12:30.mp4", make_frames(2))
    clip = open_clip("take-12:30.mp4")
    assert (clip.name, len(list(clip))) == ("take-12:30", 2)


def test_folder_is_read_in_natural_order(tmp_path):
    names = ["f1.png", "f2.PNG", "f10.png"]
    frames = make_frames(3)
    write_folder(tmp_path / "clip", frames, names)
    (tmp_path / "clip" / "notes.txt").write_text("not a frame")
    clip = open_clip(tmp_path / "clip")
    assert (clip.name, clip.fps, clip.num_frames) == ("clip", None, 3)
    assert [path.name for path in clip.frame_paths] == names
    np.testing.assert_array_equal(list(clip), frames)


@pytest.mark.parametrize("suffix", ["bmp", "tif", "webp", "jpg"])
def test_folder_of_other_images(tmp_path, suffix):
    frames = np.full((2, 8, 16, 3), 90, np.uint8)
    write_folder(tmp_path / "clip", frames, [f"0.{suffix}", f"1.{suffix}"])
    np.testing.assert_allclose(list(open_clip(tmp_path / "clip")), frames, atol=3)


def test_natural_key_mixes_digits_and_letters(tmp_path):
    names = ["a", "2b", "1", "b10", "b9", "10"]
    order = sorted((tmp_path / name for name in names), key=natural_key)
    assert [path.name for path in order] == ["1", "2b", "10", "a", "b9", "b10"]


def test_list_clips(tmp_path):
    write_folder(tmp_path / "clip10", make_frames(1))
    write_folder(tmp_path / "clip9", make_frames(1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "README.txt").write_text("")
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    names = [path.name for path in list_clips(tmp_path)]
    assert names == ["a.mp4", "clip9", "clip10"]
    assert list_clips(tmp_path / "clip9") == [tmp_path / "clip9"]
    assert list_clips(tmp_path / "a.mp4") == [tmp_path / "a.mp4"]
    for folder in ("empty", "nowhere"):
        with refused(folder):
            list_clips(tmp_path / folder)


def test_missing_path():
    with refused("nowhere.mp4: no such file or folder"):
        open_clip("nowhere.mp4")


def test_text_file_named_mp4(tmp_path):
    (tmp_path / "clip.mp4").write_text("hello\n" * 100)
    with refused("clip.mp4: not a video"):
        open_clip(tmp_path / "clip.mp4")


@pytest.mark.parametrize(("name", "text"), [("a.txt", "hello\n" * 9), ("a.mp4", "")])
def test_other_files_that_are_no_video(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with refused(name):
        open_clip(tmp_path / name)


def test_empty_folder_and_folder_without_images(tmp_path):
    with refused(tmp_path, "empty"):
        open_clip(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with refused(tmp_path, "no images", "png, jpg"):
        open_clip(tmp_path)


def test_unequal_sizes_name_the_frame_and_both_sizes(tmp_path):
    frames = [*make_frames(2), make_frames(1, 20, 30)[0]]
    frames = iter(open_clip(write_folder(tmp_path / "clip", frames)))
    assert len([next(frames), next(frames)]) == 2
    with refused("2.png", "30x20", "32x24"):
        next(frames)


def test_corrupt_image(tmp_path):
    folder = write_folder(tmp_path / "clip", make_frames(2))
    data = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(data[: len(data) // 2])
    with refused("1.png: not a complete image"):
        list(open_clip(folder))
    (folder / "0.png").write_bytes(b"")
    with refused("0.png: not a complete image"):
        open_clip(folder)


def test_video_without_video_stream(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = np.zeros((1, 4096), np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with refused(path, "no video stream"):
        open_clip(path)


def test_video_cut_before_its_index(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, make_frames(10))
    path.write_bytes(path.read_bytes()[:5000])
    with refused("clip.mp4: not a video"):
        open_clip(path)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_short_videos(tmp_path, num_frames):
    write_video(tmp_path / "clip.mkv", make_frames(num_frames), codec="ffv1")
    assert len(list(open_clip(tmp_path / "clip.mkv"))) == num_frames


# Decoders refuse with different codes: H.263 with "Operation not permitted", rawvideo
# with "Invalid argument", PNG with that of an external library.
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("clip.mov", "png", "rgb24"),
        ("clip.mp4", "libvpx-vp9", "yuv420p"),
        ("clip.3gp", "h263", "yuv420p"),
    ],
)
def test_packets_that_the_decoder_refuses_are_read_past(
    tmp_path, caplog, name, codec, pix_fmt
):
    path, frames = tmp_path / name, videos.moving_bars(12, 96, 128)
    options = {"lag-in-frames": "0"} if codec == "libvpx-vp9" else {}
    write_video(path, frames, codec=codec, pix_fmt=pix_fmt, options=options)
    videos.blank_packets(path, [4, 7, 11])
    assert len(list(open_clip(path))) == 9
    assert caplog.messages == [f"{path} announces 12 frames, but 9 came"]


def test_packet_whose_compression_is_damaged(tmp_path, caplog):
    path = tmp_path / "clip.mov"
    write_video(path, videos.moving_bars(12, 96, 128), codec="png", pix_fmt="rgb24")
    videos.damage_packet(path, 5)
    assert len(list(open_clip(path))) == 11
    assert caplog.messages == [f"{path} announces 12 frames, but 11 came"]


def test_raw_video_that_is_cut_within_a_frame(tmp_path, caplog):
    path = tmp_path / "clip.avi"
    write_video(path, videos.moving_bars(12), rate=25, codec="rawvideo")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 5 // 8])
    assert len(list(open_clip(path))) == 7
    assert caplog.messages == [f"{path} announces 12 frames, but 7 came"]


def test_video_of_which_nothing_can_be_decoded(tmp_path):
    path = tmp_path / "clip.3gp"
    write_video(path, videos.moving_bars(3, 96, 128), codec="h263")
    videos.blank_packets(path, range(3))
    with refused(path, "damaged", "0 frames were read"):
        open_clip(path)
