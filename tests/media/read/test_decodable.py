"""Files that cannot be decoded as video are refused by what they are."""

import functools
import io
import itertools
import struct
from pathlib import Path

import av
import cv2
import pytest
from PIL import Image

from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.read.source import open_source
from tests import videos
from tests.messages import refused

write_video = functools.partial(videos.write_video, with_sound=False)


# Also one image: a JPEG of two images (MPO), such as a photo and its preview.
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_one_image_is_no_clip(tmp_path, suffix):
    path = tmp_path / f"0.{suffix}"
    cv2.imwrite(str(path), videos.moving_bars(1)[0])
    with refused(path, "this is one image"):
        open_clip(path)


@pytest.mark.parametrize("name", ["a.webp", "a.tif", "a.mp4"])
def test_images_of_several_frames_are_named(tmp_path, name):
    images = [Image.fromarray(frame) for frame in videos.moving_bars(3)]
    kind = "tiff" if name == "a.tif" else "webp"
    images[0].save(tmp_path / name, kind, save_all=True, append_images=images[1:])
    with refused(tmp_path / name, "3 frames", f"magick {name} -coalesce"):
        open_clip(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "muxer", "codec", "pix_fmt"),
    [
        ("a.png", "apng", "apng", "rgb24"),
        ("a.apng", "apng", "apng", "rgb24"),
        ("b.png", "mp4", "libx264", "yuv420p"),
    ],
)
def test_video_under_the_name_of_an_image(tmp_path, name, muxer, codec, pix_fmt):
    path, frames = tmp_path / name, videos.moving_bars(4)
    write_video(tmp_path / f"a.{muxer}", frames, codec=codec, pix_fmt=pix_fmt)
    (tmp_path / f"a.{muxer}").rename(path)
    assert len(list(open_clip(path))) == 4


@pytest.mark.parametrize("kind", ["empty", "mp4"])
def test_pipe_of_another_format(tmp_path, kind):
    write_video(tmp_path / "a.mp4", videos.moving_bars(3))
    data = b"" if kind == "empty" else (tmp_path / "a.mp4").read_bytes()
    with refused("the pipe: ", "-f yuv4mpegpipe -"):
        open_source(Path("the pipe"), pipe=io.BytesIO(data))


def test_change_of_size_has_a_way_on(tmp_path):
    """Where frames are compared or learned from, none is resized in silence."""
    for index, size in enumerate([(48, 64), (64, 96)]):
        write_video(tmp_path / f"{index}.ts", videos.moving_bars(3, *size))
    both = b"".join((tmp_path / f"{i}.ts").read_bytes() for i in range(2))
    (tmp_path / "both.ts").write_bytes(both)
    with refused("both.ts: frame 3", "96x64", "64x48", "ffmpeg -i IN"):
        list(open_clip(tmp_path / "both.ts"))


def _encrypt(path, *, kind):
    """Encrypt a video, or make it look encrypted where it is not read that far."""
    data = bytearray(path.read_bytes())
    if kind == "cenc":
        scheme = {f"encryption_{name}": f"{5:032x}" for name in ("key", "kid")}
        options = {"options": {"encryption_scheme": "cenc-aes-ctr", **scheme}}
        with av.open(io.BytesIO(data)) as plain, av.open(path, "w", **options) as c:
            stream = c.add_stream_from_template(plain.streams.video[0])
            for packet in itertools.takewhile(lambda p: p.size, plain.demux()):
                packet.stream = stream
                c.mux(packet)
        return
    if kind == "dvb":
        for start in range(0, len(data), 188):
            if data[start + 1] & 0x1F == 1:  # the video's, 256
                data[start + 3] |= 0x80
                data[start + 5 : start + 188] = bytes(183)
    elif kind == "windows media":  # a Content Encryption Object, by Microsoft's ASF
        parts = [struct.pack("<I", 4) + text for text in (b"abcd", b"DRM\0", b"key\0")]
        body = b"".join(parts) + struct.pack("<I", 0)
        guid = bytes.fromhex("FBB3112223BDD211B4B700A0C955FC6E")
        data[30:30] = guid + struct.pack("<Q", 24 + len(body)) + body
        size, count = struct.unpack_from("<QI", data, 16)
        struct.pack_into("<QI", data, 16, size + 24 + len(body), count + 1)
    elif kind in ("encv", "drmi"):
        data = data.replace(b"avc1", kind.encode())
    path.write_bytes(data)


# Members of the kind: common encryption with and without the original codec's name,
# iTunes, Windows Media, WebM (tried by hand), recordings of DVB. Not recognized: DVD
# (CSS) and Blu-ray (AACS), of which FFmpeg shows nothing.
@pytest.mark.parametrize(
    ("kind", "name", "codec"),
    [
        ("cenc", "a.mp4", "libx264"),
        ("encv", "a.mp4", "libx264"),
        ("drmi", "a.m4v", "libx264"),
        ("windows media", "a.wmv", "wmv2"),
        ("dvb", "a.ts", "libx264"),
    ],
)
def test_encrypted_videos_are_not_called_damaged(tmp_path, kind, name, codec):
    path = tmp_path / name
    write_video(path, videos.moving_bars(5), codec=codec)
    _encrypt(path, kind=kind)
    with refused(path, "encrypted (DRM)"):
        open_clip(path)


# evc1 is a codec that FFmpeg knows and cannot decode; Matroska's names are not shown.
@pytest.mark.parametrize(
    ("name", "codec", "tag", "other", "shown"),
    [
        ("a.mp4", "libx264", b"avc1", b"braw", " (braw)"),
        ("a.mov", "libx264", b"avc1", b"evc1", " (evc)"),
        ("a.avi", "mpeg4", b"FMP4", b"ZZZ4", " (ZZZ4)"),
        ("a.mkv", "libx264", b"ISO/AVC", b"ISO/XYZ", ""),
    ],
)
def test_codec_without_a_decoder_is_named(tmp_path, name, codec, tag, other, shown):
    path = tmp_path / name
    write_video(path, videos.moving_bars(3), codec=codec)
    path.write_bytes(path.read_bytes().replace(tag, other))
    with refused(path, f"no decoder for the codec of this video{shown};"):
        open_clip(path)
