"""MATLAB bicubic against stored outputs of the reference, and by hand."""

import numpy as np
import pytest

from edvr_jax.data.imresize import EXACT_SCALES, cubic, imresize, imresize_uint8

SCALES = {"0.2500": 1 / 4, "0.5000": 1 / 2, "0.3333": 1 / 3, "2.0000": 2.0}


@pytest.fixture(scope="module")
def golden(fixtures):
    return np.load(fixtures / "matlab_imresize.npz")


# Stored as float32: the largest difference measured is 2.0e-7 (x86-64), and
# 2.4e-7 when the computation is in float32 as well.
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SCALES)
def test_equals_reference(golden, name, dtype):
    image = (golden["image_uint8"] / 255.0).astype(dtype)
    resized = imresize(image, SCALES[name])
    assert resized.dtype == dtype
    np.testing.assert_allclose(resized, golden[f"float_scale_{name}"], atol=1e-6)


def test_equals_reference_scale_4(golden):
    resized = imresize(golden["image_uint8"] / 255.0, 4)
    expected = golden["float_scale_4.0000_every_7th_row"]
    np.testing.assert_allclose(resized[::7], expected, atol=1e-6)


@pytest.mark.parametrize("scale", [0.25, 2.0])
def test_equals_reference_for_odd_sizes(golden, scale):
    resized = imresize(golden["odd"], scale)
    assert resized.shape[:2] == (np.ceil(37 * scale), np.ceil(53 * scale))
    np.testing.assert_allclose(resized, golden[f"odd_scale_{scale:.4f}"], atol=1e-6)


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 1 / 2, 2, 3, 4])
def test_uint8_is_resized_as_float64(golden, scale):
    image = golden["image_uint8"][:60, :84]
    resized = imresize(image, scale)
    assert resized.dtype == np.float64
    expected = imresize(image.astype(np.float64), scale)
    if scale in EXACT_SCALES:
        np.testing.assert_array_equal(resized, expected)
    np.testing.assert_allclose(resized, expected, atol=1e-9)


@pytest.mark.parametrize("name", SCALES)
def test_rounded_equals_rounded_reference(golden, name):
    expected = golden[f"float_scale_{name}"].astype(np.float64) * 255
    is_clear = np.abs(expected % 1 - 0.5) > 1e-4  # stored as float32
    assert is_clear.mean() > 0.99
    resized = imresize_uint8(golden["image_uint8"], SCALES[name])
    rounded = np.clip(np.rint(expected), 0, 255)
    np.testing.assert_array_equal(resized[is_clear], rounded[is_clear])


def test_halves_round_to_even():
    image = np.repeat(np.uint8([0, 1, 2, 3]), 4)[None, :, None] * np.ones(
        (4, 1, 1), np.uint8
    )
    exact = imresize(image, 1 / 4)
    np.testing.assert_array_equal(imresize_uint8(image, 1 / 4), np.rint(exact).clip(0))
    assert imresize_uint8(image, 1) is image


def test_batch_equals_single_images():
    images = np.random.default_rng(0).random((2, 3, 20, 26, 3))
    resized = imresize(images, 0.25)
    assert resized.shape == (2, 3, 5, 7, 3)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(resized[index], imresize(images[index], 0.25))


def test_input_need_not_be_contiguous():
    image = np.random.default_rng(0).random((20, 26, 6))
    view = image[::2, 1::2, ::2]
    np.testing.assert_array_equal(imresize(view, 2), imresize(view.copy(), 2))


def test_channels_do_not_mix():
    image = np.random.default_rng(0).random((24, 20, 5))
    alone = [imresize(image[..., c : c + 1], 0.5) for c in range(5)]
    np.testing.assert_allclose(imresize(image, 0.5), np.concatenate(alone, axis=-1))


@pytest.mark.parametrize("scale", [0.1, 0.25, 1 / 3, 0.7, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (41, 70)])
def test_constant_image_stays_constant(scale, size):
    resized = imresize(np.full((*size, 3), 0.7), scale)
    assert resized.shape == (*(int(np.ceil(n * scale)) for n in size), 3)
    np.testing.assert_allclose(resized, 0.7, rtol=1e-12)


def test_straight_ramp_stays_straight_inside():
    ramp = np.arange(40.0)[:, None, None] * np.ones((1, 8, 1))
    centers = (np.arange(20) + 0.5) * 2 - 0.5
    resized = imresize(ramp, 0.5)[:, 0, 0]
    np.testing.assert_allclose(resized[2:-2], centers[2:-2], rtol=1e-12)


def test_scale_1_changes_nothing():
    image = np.random.default_rng(0).random((9, 70, 3))
    np.testing.assert_allclose(imresize(image, 1), image, atol=1e-15)


def test_kernel_by_hand():
    values = cubic(np.array([0, 0.5, -0.5, 1, 1.5, 2, 3]))
    np.testing.assert_allclose(values, [1, 0.5625, 0.5625, 0, -0.0625, 0, 0])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        imresize(np.zeros((4, 5)), 2)
    with pytest.raises(ValueError, match="-2"):
        imresize(np.zeros((4, 5, 3)), -2)
