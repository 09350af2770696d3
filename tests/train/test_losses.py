import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.train.losses import charbonnier, offset_fidelity, root_mean_square

pytestmark = pytest.mark.usefixtures("optimized")


def test_value_by_hand():
    loss = charbonnier(jnp.array([3.0, 0.0]), jnp.zeros(2), eps=16.0)
    assert float(loss) == 5 + 4


def test_equal_images_have_the_epsilon_and_no_gradient():
    image = jnp.full((2, 3), 0.5)
    np.testing.assert_allclose(charbonnier(image, image, eps=1e-12), 6e-6, rtol=1e-6)
    gradient = jax.grad(charbonnier)(image, image)
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_root_mean_square_by_hand():
    pred = jnp.zeros((1, 2, 1, 1)).at[0, 0].set(0.004)
    loss = root_mean_square(pred, jnp.zeros_like(pred))
    np.testing.assert_allclose(loss, np.sqrt(0.004**2 / 2 + 1e-6), rtol=1e-6)
    gradient = jax.grad(root_mean_square)(pred, pred)
    np.testing.assert_array_equal(gradient, np.zeros(pred.shape))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="pred is"):
        charbonnier(jnp.zeros((2, 1)), jnp.zeros((2, 3)))


@pytest.mark.parametrize("shape", [(3,), (2, 1), (), (2, 3)])
def test_there_is_one_weight_an_image(shape):
    """Broadcast, they would count pixels or images more than once."""
    images, weight = jnp.ones((2, 4, 4, 3)), jnp.ones(shape)
    with pytest.raises(ValueError, match="weight is"):
        charbonnier(images, 0 * images, weight=weight)
    offset = jnp.ones((2, 3, 4, 4, 2))
    with pytest.raises(ValueError, match="weight is"):
        offset_fidelity(offset, 0 * offset, weight=weight)


def test_bfloat16_is_summed_in_float32():
    ones, zeros = jnp.ones(1000, jnp.bfloat16), jnp.zeros(1000, jnp.bfloat16)
    loss = charbonnier(ones, zeros)
    assert loss.dtype == jnp.float32
    assert float(loss) == 1000


def test_fidelity_by_hand():
    """Errors 0.5, 3 and 10 with tolerance 1 and delta 4: 0, 2^2/2, 4*(9 - 2)."""
    flow = jnp.zeros((1, 1, 1, 3, 2))
    offset = flow.at[0, 0, 0, :, 0].set(jnp.array([0.5, -3.0, 10.0]))
    loss = offset_fidelity(offset, flow, tolerance=1.0, huber_delta=4.0)
    np.testing.assert_allclose(loss, (0 + 2 + 28) / 3, rtol=1e-6)


def test_fidelity_weighs_windows_and_adds_them():
    flow = jnp.zeros((2, 3, 4, 4, 2))
    offset = flow.at[0].set(1.0).at[1].set(2.0)  # 2 * 0.5 and 2 * 2 per pixel
    np.testing.assert_allclose(offset_fidelity(offset, flow), 1 + 4)
    weighted = offset_fidelity(offset, flow, weight=jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(weighted, 1)


def test_fidelity_refuses_another_grid():
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4, 2\).*\(1, 1, 2, 2, 2\)"):
        offset_fidelity(jnp.zeros((1, 1, 4, 4, 2)), jnp.zeros((1, 1, 2, 2, 2)))
