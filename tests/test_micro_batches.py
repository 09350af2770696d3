"""Options that save memory of a step and leave its gradients as they are."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from edvr_jax import steps
from edvr_jax.config import OptimConfig
from edvr_jax.errors import InputError
from edvr_jax.models import create_model

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def gradients(tiny_config, random_params):
    """Function from options to loss and gradients of four windows; bytes kept."""
    rng = np.random.default_rng(0)
    batch = {
        "lq": rng.integers(0, 256, (4, 3, 8, 8, 3), np.uint8),
        "gt": rng.integers(0, 256, (4, 8, 8, 3), np.uint8),
    }
    config = dataclasses.replace(tiny_config, with_tsa=False, scale=1)
    params = random_params(config, scale=0.1)
    model = create_model(config)

    @functools.cache
    def compute(**options):
        mapped = jax.vmap(
            functools.partial(
                steps.global_gradients, model=model, config=OptimConfig(**options)
            ),
            in_axes=(None, 0),
            out_axes=None,
            axis_name=steps.BATCH_AXIS,
        )
        whole = jax.tree.map(lambda x: x[None], batch)
        return jax.jit(mapped)(params, whole)

    return compute


@pytest.mark.parametrize("options", [{"micro_batch_size": 2}, {"remat": True}])
def test_options_for_memory_do_not_change_the_gradients(gradients, options):
    loss, expected = gradients()
    actual_loss, actual = gradients(**options)
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-6)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        # Measured 4e-7 of the largest gradient, CPU, float32.
        np.testing.assert_allclose(a, e, atol=1e-5 * float(abs(e).max()))


def test_micro_batches_must_divide_the_windows(gradients):
    with pytest.raises(InputError, match=r"micro_batch_size \(3\) must divide the 4"):
        gradients(micro_batch_size=3)
