"""PSNR, SSIM and luma against stored outputs of the reference, and by hand."""

import json

import cv2
import numpy as np
import pytest

from edvr_jax.errors import InputError
from edvr_jax.evaluate.metrics import crop_border, psnr, rgb_to_y, ssim
from edvr_jax.media.read.pixels import to_uint8


@pytest.fixture(scope="module")
def golden(fixtures):
    return np.load(fixtures / "psnr_ssim.npz")


@pytest.fixture
def pair(golden):
    return golden["a_rgb"][0], golden["b_rgb"][0]


# Largest difference measured (x86-64): PSNR 0, SSIM 1.1e-14.
def test_equals_reference(golden):
    cases = json.loads(str(golden["expected"]))
    assert len(cases) == 12
    for case in cases:
        a, b = (golden[name][case["frame"]] for name in ("a_rgb", "b_rgb"))
        channel = "y" if case["y"] else "rgb"
        options = {"crop_border": case["crop"], "channel": channel}
        assert psnr(a, b, **options) == pytest.approx(case["psnr"], abs=1e-9)
        assert ssim(a, b, **options) == pytest.approx(case["ssim"], abs=1e-9)


def test_ssim_equals_slow_loop():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 13, 12, 1), dtype=np.uint8)
    window = cv2.getGaussianKernel(11, 1.5) @ cv2.getGaussianKernel(11, 1.5).T
    values = []
    for y, x in np.ndindex(3, 2):
        u, v = (p[y : y + 11, x : x + 11, 0].astype(float) for p in (a, b))
        mean_u, mean_v = (window * u).sum(), (window * v).sum()
        var_u = (window * u * u).sum() - mean_u**2
        var_v = (window * v * v).sum() - mean_v**2
        cov = (window * u * v).sum() - mean_u * mean_v
        top = (2 * mean_u * mean_v + 2.55**2) * (2 * cov + 7.65**2)
        values.append(
            top / (mean_u**2 + mean_v**2 + 2.55**2) / (var_u + var_v + 7.65**2)
        )
    assert ssim(a, b) == pytest.approx(np.mean(values), abs=1e-12)


def test_psnr_by_hand():
    a = np.full((12, 12, 3), 100, np.uint8)
    assert psnr(a, a + np.uint8(5)) == pytest.approx(20 * np.log10(255 / 5))


def test_equal_images(pair):
    assert psnr(pair[0], pair[0]) == float("inf")
    assert ssim(pair[0], pair[0]) == pytest.approx(1, abs=1e-12)


def test_symmetric_and_bounded(pair):
    a, b = pair
    assert psnr(a, b) == psnr(b, a)
    assert ssim(a, b) == pytest.approx(ssim(b, a), abs=1e-15)
    assert -1 <= ssim(a, 255 - a) < ssim(a, b) < 1


def test_floats_are_rounded_to_8_bit_first(pair):
    a, b = pair
    noise = np.random.default_rng(0).uniform(-0.4, 0.4, a.shape) / 255
    almost_a = (a / 255 + noise).astype(np.float32)
    assert psnr(almost_a, b / 255) == psnr(a, b)
    assert ssim(almost_a, b / 255) == ssim(a, b)


def test_crop_leaves_out_the_border(pair):
    a, b = pair
    damaged = b.copy()
    damaged[:3] = damaged[:, -3:] = 0
    assert psnr(a, damaged, crop_border=3) == psnr(a, b, crop_border=3)
    assert psnr(a, damaged) < psnr(a, b)
    assert crop_border(a, 3).shape == (154, 194, 3)
    np.testing.assert_array_equal(crop_border(a, 0), a)


def test_luma_of_known_colours():
    colors = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0]], np.uint8)
    luma = rgb_to_y(colors)
    assert luma.dtype == np.float64
    assert luma.shape == (3, 1)
    np.testing.assert_allclose(luma[:, 0], [16, 235, 81.481], atol=2e-5)


def test_to_uint8_clips_and_rounds():
    image = np.array([-0.1, 0.0, 0.5 / 255 + 1e-4, 0.2, 1.0, 7.0], np.float32)
    np.testing.assert_array_equal(to_uint8(image), [0, 0, 1, 51, 255, 255])
    for dtype in (np.float32, np.float64):
        levels = np.arange(256, dtype=np.uint8)
        np.testing.assert_array_equal(to_uint8((levels / 255).astype(dtype)), levels)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((20, 20, 3), (20, 21, 3)), {}, r"\(20, 21, 3\)"),
        (((20,), (20,)), {}, r"\(20,\)"),
        (((2, 20, 20, 3),) * 2, {}, r"\(2, 20, 20, 3\)"),
        (((20, 20),) * 2, {"channel": "y"}, "1 channels"),
        (((20, 20, 3),) * 2, {"crop_border": 10}, "crop 10"),
        (((20, 20, 3),) * 2, {"crop_border": -1}, "crop -1"),
        (((20, 20, 3),) * 2, {"channel": "yuv"}, "yuv"),
        (((20, 20, 1),) * 2, {"channel": "y"}, "1 channels"),
    ],
)
def test_wrong_input_is_named(metric, shapes, options, message):
    a, b = (np.zeros(shape, np.uint8) for shape in shapes)
    with pytest.raises(InputError, match=message):
        metric(a, b, **options)


def test_wrong_types_and_sizes_are_named():
    with pytest.raises(InputError, match="int64"):
        to_uint8(np.zeros((3, 3, 3), np.int64))
    with pytest.raises(InputError, match='channel="y"'):
        psnr(*rgb_to_y(np.zeros((2, 9, 9, 3), np.uint8)))
    with pytest.raises(InputError, match="10x20"):
        ssim(*np.zeros((2, 20, 10, 3), np.uint8))


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("value", [255.0, 1.9, 1.3, -0.5, -1, np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floats_on_another_scale_are_refused(metric, value, dtype):
    """0..255, 0..2, -0.5..0.5, -1..1, NaN, infinity; on either side."""
    good = np.full((12, 12, 3), 0.5, dtype)
    bad = good.copy()
    bad[3, 4, 1] = value
    for images in ((bad, good), (good, bad)):
        with pytest.raises(InputError, match=r"image [ab] must have values"):
            metric(*images)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_without_channels(pair, metric):
    a, b = (image[..., 1] for image in pair)
    assert metric(a, b) == metric(a[..., None], b[..., None])


def test_a_little_overshoot_is_clipped(pair):
    a, b = (image / 255 for image in pair)
    assert psnr(a + 0.2 * (a == 1), b) == psnr(a, b)
