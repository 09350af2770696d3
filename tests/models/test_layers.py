import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.models.layers import Conv

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_conv_of_inputs_equals_conv_of_their_concatenation(order):
    """Also where one image belongs to several: it is as if repeated."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        images = jnp.asarray(rng.normal(size=(6, 5, 4, 3)))
        shared = jnp.asarray(rng.normal(size=(2, 5, 4, 2)))
        inputs = [(images, shared)[i] for i in order]
        repeated = [(images, jnp.repeat(shared, 3, axis=0))[i] for i in order]
        conv = Conv(7, dtype="float64")
        variables = conv.init(jax.random.key(0), *inputs)
        np.testing.assert_allclose(
            conv.apply(variables, *inputs),
            conv.apply(variables, jnp.concatenate(repeated, -1)),
            rtol=1e-11,
            atol=1e-15,
        )


def test_conv_names_the_images_that_do_not_divide():
    conv = Conv(2)
    variables = conv.init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    with pytest.raises(ValueError, match="2 images cannot be shared by 3"):
        conv.apply(variables, jnp.ones((3, 4, 4, 1)), jnp.ones((2, 4, 4, 1)))
