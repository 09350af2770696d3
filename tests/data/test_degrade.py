"""The tracks: each step against numbers worked out another way."""

import dataclasses

import numpy as np
import pytest

from edvr_jax.config import DegradeConfig, WebConfig
from edvr_jax.data import degrade, motion_blur, web
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.errors import InputError
from edvr_jax.evaluate.metrics import psnr
from edvr_jax.media.write.compression import compress

SHARP = {"sr": 4, "sr_bd": 4, "sr_blur": 2, "deblur": 1, "deblur_comp": 1}
SHARP |= {"sr_comp": 2, "web": 2}


@pytest.fixture(scope="module")
def frames(fixtures):
    """A pan over a real frame: 13 frames of 48x64."""
    image = np.load(fixtures / "psnr_ssim.npz")["a_rgb"][0]
    return np.stack([image[i : i + 48, 2 * i : 2 * i + 64] for i in range(13)])


def rng():
    return np.random.default_rng(0)


def config(track, **options):
    return DegradeConfig(track=track, blur_frames=3, frame_step=2, **options)


def test_sr_is_matlab_bicubic(frames):
    degraded = degrade.degrade_window(frames[:, None], config("sr"), scale=4, rng=rng())
    np.testing.assert_array_equal(degraded, imresize_uint8(frames, 1 / 4))


def test_sr_bd_equals_a_plain_convolution(frames):
    degraded = degrade.degrade_window(
        frames[:1, None], config("sr_bd"), scale=4, rng=rng()
    )
    taps = np.exp(-(np.arange(-6, 7) ** 2) / (2 * 1.6**2))
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    padded = np.pad(frames[0], ((6, 6), (6, 6), (0, 0)), mode="reflect")
    expected = [
        [
            (padded[y : y + 13, x : x + 13] * kernel[..., None]).sum(axis=(0, 1))
            for x in range(0, 64, 4)
        ]
        for y in range(0, 48, 4)
    ]
    # Rounding to 8 bit is half a level; float32 adds less than 1e-3.
    np.testing.assert_allclose(degraded[0], expected, atol=0.501)


def test_motion_blur_is_the_mean_in_linear_light():
    levels = np.uint8([0, 100, 250])[:, None, None, None] * np.ones((2, 3, 3), np.uint8)
    light = np.mean((np.array([0, 100, 250]) / 255) ** 2.2)
    expected = round(255 * light ** (1 / 2.2))
    np.testing.assert_array_equal(motion_blur.average(levels), expected)
    assert expected > np.mean([0, 100, 250])  # bright frames weigh more


def test_still_frames_keep_their_levels():
    levels = np.stack([np.arange(256, dtype=np.uint8)] * 3, axis=-1)[None]
    np.testing.assert_array_equal(motion_blur.average(np.stack([levels] * 5)), levels)


def test_blurred_clip_has_one_frame_per_step(frames):
    pairs = list(degrade.degrade_clip(frames, config("deblur"), scale=1, seed=0))
    assert len(pairs) == 6  # exposures of 3 start at 0, 2, .., 10
    for k, (sharp, blurred) in enumerate(pairs):
        np.testing.assert_array_equal(sharp, frames[2 * k + 1])
        exposure = frames[2 * k : 2 * k + 3]
        np.testing.assert_array_equal(blurred, motion_blur.average(exposure))


def test_blur_comes_before_the_downscaling(frames):
    (pair,) = degrade.degrade_clip(frames[:3], config("sr_blur"), scale=2, seed=0)
    blurred = motion_blur.average(frames[:3])
    np.testing.assert_array_equal(pair[1], imresize_uint8(blurred, 1 / 2))


def test_compression_keeps_count_order_and_odd_sizes(frames):
    odd = frames[:, :47, :63]
    decoded = np.stack(list(compress(odd, crf=18)))
    assert decoded.shape == odd.shape
    for k, image in enumerate(decoded):
        others = [psnr(image, other) for other in odd]
        assert np.argmax(others) == k
        assert 28 < others[k] < 50  # measured 33 to 36


def test_quality_falls_with_crf(frames):
    scores = [
        psnr(
            np.concatenate(list(compress(frames, crf=crf))),
            np.concatenate(frames),
        )
        for crf in (10, 25, 40)
    ]
    assert scores[0] > scores[1] + 3 > scores[2] + 6


@pytest.mark.parametrize("codec", ["h265", "vp9"])
def test_codecs_agree_about_quality(frames, codec):
    """The same number gives about the quality of H.264: measured within 3 dB."""
    for crf in (20, 32):
        h264, other = (
            psnr(
                np.concatenate(list(compress(frames, crf=crf, codec=name))),
                np.concatenate(frames),
            )
            for name in ("h264", codec)
        )
        assert abs(h264 - other) < 4


def test_sr_comp_compresses_the_small_frames(frames):
    degraded = degrade.degrade_window(
        frames[:5, None], config("sr_comp", crf=20), scale=2, rng=rng()
    )
    small = imresize_uint8(frames[:5], 1 / 2)
    np.testing.assert_array_equal(degraded, np.stack(list(compress(small, crf=20))))


def test_web_draws_from_its_ranges():
    ranges = WebConfig(clean=0.5, blur_sigma=(0.5, 1.0), crf=(20.0, 30.0))
    draws = [web.draw_settings(np.random.default_rng(k), ranges) for k in range(200)]
    assert 0.35 < np.mean([draw.is_clean for draw in draws]) < 0.65
    assert {draw.codec for draw in draws} == {"h264", "h265", "vp9"}
    assert {draw.kernel for draw in draws} == {"cubic", "area", "linear"}
    assert {draw.num_lead for draw in draws} == {0, 1, 2, 3}
    for name, low, high in (("blur_sigma", 0.5, 1), ("crf", 20, 30)):
        values = [getattr(draw, name) for draw in draws]
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high


def test_web_of_clean_windows_is_bicubic(frames):
    clean = config("web", web=WebConfig(clean=1.0))
    degraded = degrade.degrade_window(frames[:, None], clean, scale=4, rng=rng())
    np.testing.assert_array_equal(degraded, imresize_uint8(frames, 1 / 4))


@pytest.mark.parametrize("kernel", ["cubic", "area", "linear"])
@pytest.mark.parametrize("num_lead", [0, 3])
def test_web_keeps_order_and_place(frames, kernel, num_lead, monkeypatch):
    """At the best quality a window is its bicubic one but for the other kernel."""
    settings = web.WebSettings(
        is_clean=False,
        blur_sigma=0.0,
        kernel=kernel,
        noise_sigma=0.0,
        codec="h264",
        crf=5,
        num_lead=num_lead,
    )
    monkeypatch.setattr(web, "draw_settings", lambda rng, ranges: settings)
    degraded = degrade.degrade_window(
        frames[:5, None], config("web"), scale=2, rng=rng()
    )
    small = imresize_uint8(frames[:5], 1 / 2)
    for k, image in enumerate(degraded):
        scores = [psnr(image, other) for other in small]
        assert np.argmax(scores) == k
        assert scores[k] > 28  # measured 30 to 37: chroma loses half its pixels


def test_noise_has_its_sigma():
    gray = np.full((1, 1, 100, 100, 3), 128, np.uint8)
    noisy = degrade.degrade_window(
        gray, config("deblur", noise_sigma=8.0), scale=1, rng=rng()
    )
    assert noisy.std() == pytest.approx(8, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.2)


@pytest.mark.parametrize("track", SHARP)
def test_the_same_seed_gives_the_same_bytes(frames, track):
    options = dataclasses.replace(config(track), noise_sigma=3.0)

    def run(seed):
        pairs = degrade.degrade_clip(frames, options, scale=SHARP[track], seed=seed)
        return np.stack([image for _, image in pairs])

    np.testing.assert_array_equal(run(1), run(1))
    assert (run(1) != run(2)).any()


@pytest.mark.parametrize("track", ["sr", "sr_bd", "sr_blur", "deblur"])
def test_window_equals_clip(frames, track):
    settings, scale = config(track), SHARP[track]
    clip = [b for _, b in degrade.degrade_clip(frames, settings, scale=scale, seed=0)]
    length, step = settings.num_blurred, settings.step
    exposures = np.stack([frames[k * step : k * step + length] for k in range(3)])
    window = degrade.degrade_window(exposures, settings, scale=scale, rng=rng())
    np.testing.assert_array_equal(window, clip[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blur_frames": 4}, "blur_frames must be odd"),
        ({"crf": 52}, "crf must be in 0..51"),
        ({"noise_sigma": -1.0}, "noise_sigma"),
        ({"frame_step": 0}, "frame_step"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        DegradeConfig(**options)


@pytest.mark.parametrize(("track", "scale"), [("sr_bd", 2), ("sr", 1), ("deblur", 4)])
def test_track_and_scale_must_fit(track, scale):
    with pytest.raises(InputError, match=track):
        DegradeConfig(track=track).check_scale(scale)
