import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.losses import charbonnier


def test_value_by_hand():
    loss = charbonnier(jnp.array([3.0, 0.0]), jnp.zeros(2), eps=16.0)
    assert float(loss) == 5 + 4


def test_equal_images_have_the_epsilon_and_no_gradient():
    image = jnp.full((2, 3), 0.5)
    assert float(charbonnier(image, image, eps=1e-12)) == np.float32(6e-6)
    gradient = jax.grad(charbonnier)(image, image)
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="pred is"):
        charbonnier(jnp.zeros((2, 1)), jnp.zeros((2, 3)))


def test_bfloat16_is_summed_in_float32():
    ones, zeros = jnp.ones(1000, jnp.bfloat16), jnp.zeros(1000, jnp.bfloat16)
    loss = charbonnier(ones, zeros)
    assert loss.dtype == jnp.float32
    assert float(loss) == 1000
