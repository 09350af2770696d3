"""Images of every depth, read as frames."""

import resource

import cv2
import numpy as np
import pytest
from PIL import Image

from edvr_jax.media.read import images
from edvr_jax.media.read.images import read_image
from tests.messages import refused


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_depth(tmp_path, suffix, dtype):
    path = tmp_path / f"a.{suffix}"
    levels = np.linspace(0, np.iinfo(dtype).max, 8 * 9 * 3)
    image = levels.reshape(8, 9, 3).astype(dtype)
    cv2.imwrite(str(path), image[..., ::-1])
    read = read_image(path, keep_bit_depth=True)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)
    read = read_image(path)
    assert read.dtype == np.uint8
    # OpenCV drops the lower byte or divides by 256.
    np.testing.assert_allclose(read, levels.reshape(8, 9, 3) * 255 / levels[-1], atol=1)


@pytest.mark.parametrize("keep_bit_depth", [False, True])
@pytest.mark.parametrize(
    ("dtype", "channels", "message"),
    [
        (np.float32, 3, "float32"),
        (np.float32, 1, "not a complete image"),
        (np.int16, 3, "int16"),
    ],
)
def test_other_depths_are_refused(tmp_path, keep_bit_depth, dtype, channels, message):
    cv2.imwrite(str(tmp_path / "a.tif"), np.ones((8, 9, channels), dtype))
    with refused(f"{tmp_path}/a.tif: ", message, "8 or 16 bits"):
        read_image(tmp_path / "a.tif", keep_bit_depth=keep_bit_depth)


# Also looked for: GIF, which is read as a video, and multi-page TIFF, whose other pages
# are mostly thumbnails.
@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_animations_are_no_frames(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    frames = [Image.new("RGB", (9, 8), (level, 0, 0)) for level in (0, 100, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    for read in (read_image, lambda path: images.check_all([path])):
        with refused(path, "3 frames"):
            read(path)


def test_a_part_that_claims_gigabytes_takes_none(tmp_path):
    """OpenCV took 4 GiB; also a file that was cut at the end of a part."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((8, 9, 3), np.uint8))
    data = path.read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = data.index(b"IDAT") - 4
    for wrong in (data[:start] + b"\xff\xff\xff\xfe" + data[start + 4 :], data[:-12]):
        path.write_bytes(wrong)
        with refused(path, "not a complete image"):
            read_image(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    path.write_bytes(data + b"more")  # readers ignore what follows
    assert read_image(path).shape == (8, 9, 3)


def test_image_that_can_be_read_one_way_only(tmp_path, monkeypatch):
    """A damaged TIFF of 16 bits, which OpenCV does not convert to 8."""
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), np.zeros((8, 9, 3), np.uint16))
    found = iter([np.zeros((8, 9, 3), np.uint16), None])
    monkeypatch.setattr(cv2, "imdecode", lambda *_: next(found))
    with refused(path, "not a complete image"):
        read_image(path)
