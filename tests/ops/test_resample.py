import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.ops import pixel_shuffle, resize_bilinear

pytestmark = pytest.mark.usefixtures("optimized")


def test_bilinear_has_half_pixel_centers():
    x = jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1)
    # align_corners=False by hand: outputs at -0.25, 0.25, 0.75, 1.25.
    np.testing.assert_allclose(resize_bilinear(x, 2)[0, 0, :, 0], [0, 1, 3, 4])


def test_bilinear_by_one_is_the_image():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(resize_bilinear(x, 1), x)


@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_shuffle_puts_each_channel_where_torch_does(factor):
    height, width, channels = 2, 3, 2
    shape = (1, height, width, channels * factor**2)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    out = pixel_shuffle(jnp.asarray(x), factor)
    assert out.shape == (1, height * factor, width * factor, channels)
    for c, y, xx in np.ndindex(channels, height * factor, width * factor):
        channel = c * factor**2 + (y % factor) * factor + xx % factor
        assert out[0, y, xx, c] == x[0, y // factor, xx // factor, channel]


@pytest.mark.parametrize("operation", [resize_bilinear, pixel_shuffle])
def test_factors_that_are_no_whole_number_are_refused(operation):
    x = jnp.zeros((1, 2, 2, 4))
    for factor, error in ((0, ValueError), (-2, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match=r"scale|factor"):
            operation(x, factor)
    with pytest.raises(ValueError, match="x must have the axes"):
        operation(x[0], 2)


def test_pixel_shuffle_refuses_other_channel_counts():
    with pytest.raises(ValueError, match="6 channels"):
        pixel_shuffle(jnp.zeros((1, 2, 2, 6)), 2)
