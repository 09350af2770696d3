"""Images of every depth, read as frames."""

import cv2
import numpy as np
import pytest

from edvr_jax.data.images import read_image
from edvr_jax.errors import InputError


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_depth(tmp_path, suffix, dtype):
    path = tmp_path / f"a.{suffix}"
    levels = np.linspace(0, np.iinfo(dtype).max, 8 * 9 * 3)
    image = levels.reshape(8, 9, 3).astype(dtype)
    cv2.imwrite(str(path), image[..., ::-1])
    read = read_image(path, any_depth=True)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)
    read = read_image(path)
    assert read.dtype == np.uint8
    # OpenCV drops the lower byte or divides by 256.
    np.testing.assert_allclose(read, levels.reshape(8, 9, 3) * 255 / levels[-1], atol=1)


@pytest.mark.parametrize("any_depth", [False, True])
@pytest.mark.parametrize(
    ("dtype", "channels", "message"),
    [
        (np.float32, 3, r"its pixels are float32; save .* 8 or 16 bits"),
        (np.float32, 1, r"not a complete image with 8 or 16 bits"),
        (np.int16, 3, r"its pixels are int16; save .* 8 or 16 bits"),
    ],
)
def test_other_depths_are_refused(tmp_path, any_depth, dtype, channels, message):
    cv2.imwrite(str(tmp_path / "a.tif"), np.ones((8, 9, channels), dtype))
    with pytest.raises(InputError, match=rf"^{tmp_path}/a\.tif: {message}"):
        read_image(tmp_path / "a.tif", any_depth=any_depth)
