"""Levels of every depth and floats, converted into each other."""

import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.media.read import pixels


@pytest.mark.parametrize("xp", [np, jnp])
def test_levels_are_rounded_to_the_nearest(xp):
    bytes_, words = np.arange(256), np.arange(65536)
    for array, dtype, expected in [
        (bytes_.astype(np.uint8), np.uint16, bytes_ * 257),
        (words.astype(np.uint16), np.uint8, np.rint(words / 257)),
        (np.float32(words / 65535), np.uint16, words),
        (np.float32([-0.2, 0.1, 1.2]), np.uint8, [0, 26, 255]),
    ]:
        converted = pixels.to_levels(xp.asarray(array), dtype)
        assert isinstance(converted, np.ndarray) == (xp is np)
        assert converted.dtype == dtype
        np.testing.assert_array_equal(converted, expected)


def test_conversion_to_the_same_type_and_to_float_changes_nothing():
    for dtype in (np.uint8, np.uint16, np.float32):
        image = np.ones((2, 3, 3), dtype)
        assert pixels.to_levels(image, dtype) is image
        assert pixels.to_levels(image, np.float32) is image


def test_to_float():
    for dtype, largest in [(np.uint8, 255), (np.uint16, 65535), (np.float64, 1)]:
        scaled = pixels.to_float(np.array([0, largest], dtype))
        assert scaled.dtype == np.float32
        np.testing.assert_array_equal(scaled, [0, 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(8, 12), (8, 12, 3), (8, 12, 4)])
def test_resize_keeps_type_and_channels(dtype, shape):
    image = np.full(shape, 100, dtype)
    for size in [(4, 6), (16, 30), (8, 12)]:
        resized = pixels.resize(image, size)
        assert (resized.shape, resized.dtype) == (size + shape[2:], dtype)
        assert (resized == 100).all()
