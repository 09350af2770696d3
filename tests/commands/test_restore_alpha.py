"""``edvr restore`` of clips with transparency: kept where the output can, or a note.

Members of the kind: videos whose frames contain it (QuickTime animation, ProRes 4444,
PNG, also with a palette or of 16 bits, APNG, FFV1, Ut Video), beside the packets (VP8,
VP9), on or off (GIF); frames of PNG (RGBA, gray with alpha, one transparent color),
TIFF and WebP; folders of which only some frames have it.
"""

import re
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from edvr_jax.commands.restore import Restore
from edvr_jax.errors import ResourceError
from edvr_jax.media.read import decode, frame_rgb
from edvr_jax.media.read.pixels import resize
from edvr_jax.media.read.source import open_source
from edvr_jax.media.write import segments
from edvr_jax.restore import postprocess
from tests import videos

LOSSLESS = {"libvpx-vp9": {"lossless": "1"}, "libvpx": {"auto-alt-ref": "0"}}


def moving_disc(count=3, dtype=np.uint8):
    """RGBA frames, [count, 48, 64, 4]: a disc with a soft edge moves."""
    y, x, t = np.ogrid[:48, :64, :count]
    distance = np.hypot(y - 24, x - 20 - 8 * t)
    alpha = np.clip((20 - distance) / 8, 0, 1)
    largest = np.iinfo(dtype).max
    alpha = np.moveaxis(np.rint(largest * alpha), -1, 0).astype(dtype)
    colors = videos.moving_bars(count).astype(dtype) * (largest // 255)
    return np.concatenate([colors, alpha[..., None]], -1)


def write_video(path, frames, codec, pix_fmt):
    layout = "rgba64le" if frames.dtype == np.uint16 else "rgba"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25, options=LOSSLESS.get(codec, {}))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.color_range = 1
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), layout)
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_folder(path, frames, suffix):
    path.mkdir()
    for index, image in enumerate(frames):
        bgra = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA)
        options = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
        assert cv2.imwrite(str(path / f"{index}{suffix}"), bgra, options)


def restore(source, target, weights_path, **options):
    assert Restore(source, target, weights=(weights_path,), **options).run() is None


def read_alpha(path):
    return [image[..., 3] for image in open_source(path)]


def notes(capsys):
    return [x for x in capsys.readouterr().err.splitlines() if x.startswith("note: ")]


def check(before, target, scale=1.0, error=0.0):
    """Compare with the alpha of the input, resized; the error is of 255."""
    assert min(x.min() for x in before) == 0
    for old, new in zip(before, read_alpha(target), strict=True):
        size = (round(old.shape[0] * scale), round(old.shape[1] * scale))
        wanted = resize(old, size) / np.iinfo(old.dtype).max
        actual = new / np.iinfo(new.dtype).max
        assert np.abs(actual - wanted).max() * 255 <= error + 1e-9


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name", "output", "options", "error"),
    [
        ("qtrle", "argb", "in.mov", "out", {}, 0),
        ("png", "rgba64be", "in.mov", "out", {"image_format": "tif"}, 0),
        ("ffv1", "yuva422p10le", "in.mkv", "out", {"image_format": "webp"}, 1),
        ("apng", "rgba", "in.apng", "out.mkv", {"codec": "ffv1"}, 0),
        ("utvideo", "gbrap", "in.avi", "out.mov", {"codec": "qtrle"}, 0),
        ("prores_ks", "yuva444p10le", "in.mov", "out.mov", {"codec": "prores_ks"}, 0.3),
        ("prores_ks", "yuva444p10le", "in.mov", "out.webm", {}, 1),
        ("libvpx-vp9", "yuva420p", "in.webm", "out.webm", {}, 0),
        ("libvpx", "yuva420p", "in.webm", "out", {}, 0),
    ],
)
def test_videos(tmp_path, same, capsys, codec, pix_fmt, name, output, options, error):
    source, target = tmp_path / name, tmp_path / output
    deep = np.uint16 if "10" in pix_fmt or "64" in pix_fmt else np.uint8
    frames = moving_disc(dtype=deep)
    write_video(source, frames, codec, pix_fmt)
    before = read_alpha(source)
    off = np.abs(np.stack(before).astype(float) - frames[..., 3]) / np.iinfo(deep).max
    # The input's writer, FFmpeg, rounds coarsely; VP8 is not lossless.
    limit = {"libvpx": 8, "libvpx-vp9": 1, "prores_ks": 0.5, "ffv1": 0.5}.get(codec, 0)
    limit /= 255
    assert off.max() <= limit
    if output == "out.webm":
        options = {"crf": 0, "encoder_options": ("lossless=1",)}
    restore(source, target, same, scale=2.0, **options)
    assert not notes(capsys)
    check(before, target, 2, error)


@pytest.mark.parametrize("after", ["png", "tif", "webp"])
@pytest.mark.parametrize(
    ("before", "dtype"),
    [("png", "uint8"), ("png", "uint16"), ("tif", "uint16"), ("webp", "uint8")],
)
def test_folders(tmp_path, same, capsys, before, dtype, after):
    source, target = tmp_path / "in", tmp_path / "out"
    frames = moving_disc(2, np.dtype(dtype))
    write_folder(source, frames, f".{before}")
    np.testing.assert_array_equal(read_alpha(source), frames[..., 3])
    restore(source, target, same, scale=0.5, image_format=after)
    assert not notes(capsys)
    is_exact = after != "webp" or dtype == "uint8"
    check(frames[..., 3], target, 0.5, 0 if is_exact else 1)


def test_kinds_of_images(tmp_path, same, capsys):
    """Gray with alpha, one transparent color, a palette, none, TIFF, and turned."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    red, _, blue, alpha = map(Image.fromarray, np.moveaxis(moving_disc(1)[0], -1, 0))
    Image.merge("RGB", [red, blue, red]).save(source / "0.png")
    Image.merge("LA", [red, alpha]).save(source / "1.png")
    Image.merge("RGB", [red] * 3).save(source / "2.png", transparency=(90, 90, 90))
    indices = Image.fromarray(np.asarray(red) % 4).convert("P")
    indices.save(source / "3.png", transparency=2)
    both, turned = Image.merge("RGBA", [red, blue, red, alpha]), Image.Exif()
    both.save(source / "4.tif")
    turned[ExifTags.Base.Orientation] = 3  # by 180 degrees
    both.save(source / "5.png", exif=turned)
    levels = np.asarray(red)
    wanted = np.stack(
        [
            np.full((48, 64), 255),
            np.asarray(alpha),
            np.where(levels == 90, 0, 255),
            np.where(levels % 4 == 2, 0, 255),
            np.asarray(alpha),
            np.rot90(np.asarray(alpha), 2),
        ]
    )
    assert wanted.min((1, 2)).tolist() == [255, 0, 0, 0, 0, 0]
    frames = list(open_source(source))
    np.testing.assert_array_equal(frames[4][..., 0], levels)  # also where transparent
    np.testing.assert_array_equal(frames[5][..., 0], np.rot90(levels, 2))
    restore(source, target, same)
    assert not notes(capsys)
    np.testing.assert_array_equal(read_alpha(target), wanted)
    for before, after in zip(frames, open_source(target), strict=True):
        assert np.abs(before.astype(int) - after).max() < 16


def test_palette_of_a_video(tmp_path, same, capsys):
    """Transparent in QuickTime PNG; without a transparent color it is opaque."""
    indices = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % 4
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0], palette[:4, 3] = 255, (0, 100, 200, 255)
    for name, opaque in (("in", 0), ("opaque", 255)):
        folder = tmp_path / name
        folder.mkdir()
        image = Image.fromarray(indices).convert("P")
        levels = np.maximum(palette[:4, 3], opaque)
        image.save(folder / "0.png", transparency=bytes(levels))
        with av.open(str(tmp_path / f"{name}.mov"), "w") as container:
            stream = container.add_mux_stream("png", width=64, height=48)
            packet = av.Packet((folder / "0.png").read_bytes())
            packet.pts = packet.dts = 0
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.is_keyframe, packet.duration = True, 1
            container.mux(packet)
    restore(tmp_path / "in.mov", tmp_path / "out", same)
    np.testing.assert_array_equal(read_alpha(tmp_path / "out")[0], palette[indices, 3])
    restore(tmp_path / "opaque.mov", tmp_path / "out.mp4", same)
    assert not notes(capsys)


@pytest.mark.parametrize("before", ["gif", "mov"])
def test_gif(tmp_path, same, capsys, before):
    source, target = tmp_path / f"in.{before}", tmp_path / "out.gif"
    frames = moving_disc(4)
    write_video(tmp_path / "in.mov", frames, "qtrle", "argb")
    if before == "gif":
        restore(tmp_path / "in.mov", source, same)
    restore(source, target, same, scale=2.0)
    assert not notes(capsys)
    first = frames[..., 3]
    if before == "gif":
        first = np.where(first >= 128, 255, 0).astype(np.uint8)
    for old, new in zip(first, read_alpha(target), strict=True):
        assert set(np.unique(new)) == {0, 255}
        resized = resize(old, (96, 128))
        is_clear = np.abs(resized.astype(int) - 128) > 1
        np.testing.assert_array_equal(new[is_clear] > 0, resized[is_clear] > 128)


@pytest.mark.parametrize(
    ("output", "options", "what"),
    [
        ("out.mp4", {}, r"\.mp4 with libx264 \(yuv420p\) stores no transparency"),
        ("out.mov", {}, r"\.mov with libx264 \(yuv420p\)"),
        ("out.mkv", {}, r"\.mkv with libx264 \(yuv420p\)"),
        ("out.y4m", {}, r"\.y4m with wrapped_avframe"),
        ("out.mp4", {"codec": "libvpx-vp9"}, r"\.mp4 with libvpx-vp9 \(yuv420p\)"),
        ("out.webm", {"pix_fmt": "yuv444p"}, r"\.webm with libvpx-vp9 \(yuv444p\)"),
        ("out", {"image_format": "jpg"}, "jpg stores no transparency"),
        ("out.webm", {"compare": "side"}, "--compare leaves the transparency"),
        ("out", {"compare": "split"}, "--compare leaves the transparency"),
    ],
)
def test_one_note_where_it_is_left_out(tmp_path, same, capsys, output, options, what):
    source, target = tmp_path / "in.webm", tmp_path / output
    write_video(source, moving_disc(2), "libvpx-vp9", "yuva420p")
    restore(source, target, same, **options)
    (note,) = notes(capsys)
    assert re.search(what, note)
    assert "in.webm" in note
    assert not open_source(target).has_alpha
    if target.is_file():
        with av.open(str(target)) as container:
            assert "alpha_mode" not in container.streams.video[0].metadata


@pytest.mark.parametrize("output", ["out.webm", "out.gif", "out"])
def test_part_of_a_clip_and_resume(tmp_path, same, monkeypatch, output):
    source, target = tmp_path / "in.mov", tmp_path / output
    frames = moving_disc(24)
    write_video(source, frames, "qtrle", "argb")
    write, left = postprocess.add_alpha, iter(range(12))

    def stop(image, alpha):
        if next(left, None) is None:
            raise ResourceError("full disk")
        return write(image, alpha)

    options = {"start": "0.2", "preview": 16}
    monkeypatch.setattr(postprocess, "add_alpha", stop)
    monkeypatch.setattr(segments, "MAX_FRAMES", 8)
    with pytest.raises(ResourceError):
        restore(source, target, same, **options)
    monkeypatch.setattr(postprocess, "add_alpha", write)
    restore(source, target, same, **options, resume=True)
    limit = {"out.webm": 12, "out.gif": 127, "out": 0}[output]
    check(frames[5:21, ..., 3], target, 1, limit)


def test_decoder_of_transparency_keeps_the_colors(tmp_path):
    source = tmp_path / "in.webm"
    write_video(source, moving_disc(1), "libvpx-vp9", "yuva420p")
    plain = [frame_rgb.to_rgb(frame) for frame in decode.decode(source)]
    (image,) = open_source(source)
    np.testing.assert_array_equal(image[..., :3], plain[0])
