"""Motion blur along the flow: against ramps worked out by hand and true averages."""

import numpy as np
import pytest

from edvr_jax.config import DegradeConfig
from edvr_jax.data import degrade, motion_blur
from edvr_jax.evaluate.metrics import psnr

SHUTTER = DegradeConfig(track="deblur", shutter=0.5)


@pytest.fixture(scope="module")
def photograph(fixtures):
    """A real frame, uint8 RGB [160, 200, 3]."""
    return np.load(fixtures / "psnr_ssim.npz")["a_rgb"][0]


def still(image):
    return np.stack([image] * 3)


def test_camera_makes_a_ramp_of_an_edge():
    """8 pixels per frame for half the time: 4 pixels wide, linear in light."""
    image = np.zeros((8, 32, 3), np.uint8)
    image[:, 16:] = 255
    blurred = motion_blur.blur_along_flow(
        still(image), shutter=0.5, camera=np.array([0.0, 8.0])
    )
    light = (blurred[4, :, 0] / 255.0) ** motion_blur.GAMMA
    # Positions -2, -1, 0, 1, 2: a fifth of the light at each.
    np.testing.assert_allclose(light[13:19], [0, 0.2, 0.4, 0.6, 0.8, 1], atol=0.01)
    np.testing.assert_array_equal(blurred[:, :, 0], blurred[:1, :, 0].repeat(8, 0))


def test_what_does_not_move_stays_sharp(photograph):
    blurred = motion_blur.blur_along_flow(still(photograph), shutter=1.0)
    np.testing.assert_array_equal(blurred, photograph)


def test_pan_is_the_average_of_a_fast_camera(photograph):
    """A pan at 4 pixels per frame, seen by a camera of four times the rate."""
    crops = [photograph[20:116, x : x + 128] for x in range(20, 45)]
    slow = np.stack([crops[8], crops[12], crops[16]])
    expected = motion_blur.average(np.stack(crops[10:15]))
    blurred = motion_blur.blur_along_flow(slow, shutter=1.0)
    inner = np.s_[8:-8, 8:-8]
    sharp = psnr(crops[12][inner], expected[inner])
    # Measured 26 for the sharp frame, 41 for the blurred one.
    assert psnr(blurred[inner], expected[inner]) > sharp + 8


@pytest.mark.parametrize("scale", [1, 4])
def test_shaken_clip(photograph, scale):
    """Crops move with about the speed asked for, and are blurred by it."""
    track = "deblur" if scale == 1 else "sr_blur"
    config = DegradeConfig(track=track, shutter=0.5, shake=2.0)
    large = np.tile(photograph, (3, 3, 1))
    y, x = np.mgrid[: large.shape[0], : large.shape[1]]
    places = np.stack([y, x, 0 * x], -1).astype(np.uint16)
    exposures = [still(places)] * 60
    speeds, measured = [], []
    for seed in range(8):
        shaken = list(
            degrade._shake(
                exposures, config.shake, scale=scale, rng=np.random.default_rng(seed)
            )
        )
        corners = np.array([crop[1, 0, 0, :2] for crop, _ in shaken], float)
        assert len({crop.shape for crop, _ in shaken}) == 1
        assert not (corners % scale).any()
        camera = np.array([motion for _, motion in shaken])
        speeds.append(np.linalg.norm(camera, axis=1).mean())
        way = (camera[:-1] + camera[1:]).sum(0) / 2
        measured.append(np.abs(corners[-1] - corners[0] + way).max())
    assert 1.2 < np.mean(speeds) < 3.0
    # The content moves against the crop: only rounding is left.
    assert max(measured) < 0.5 + scale


def test_shaken_pairs_are_blurred(photograph):
    config = DegradeConfig(track="deblur", shutter=0.5, shake=4.0)
    pairs = list(degrade.degrade_clip([photograph] * 8, config, scale=1, seed=0))
    assert len(pairs) == 6
    scores = [psnr(blurred, sharp) for sharp, blurred in pairs]
    assert max(scores) < 45
    assert min(scores) > 15


def test_windows_know_the_camera(photograph):
    frames = np.stack([still(photograph)] * 2)
    camera = np.array([[0.0, 0.0], [6.0, 0.0]])
    moved = degrade.degrade_window(
        frames, SHUTTER, scale=1, rng=np.random.default_rng(0), camera=camera
    )
    np.testing.assert_array_equal(moved[0], photograph)
    assert psnr(moved[1], photograph) < 40
