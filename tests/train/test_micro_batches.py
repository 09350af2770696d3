"""Options that save memory of a step and leave its gradients as they are."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from edvr_jax.config import OptimConfig
from edvr_jax.models import create_model
from edvr_jax.train import steps


@pytest.fixture(scope="module")
def gradients(tiny_config, random_params):
    """Function from options to loss, gradients and offsets of four windows."""
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


# 3 does not divide the four windows: 2 at a time.
@pytest.mark.parametrize("options", [{"micro_batch_size": 3}, {"remat": True}])
def test_options_for_memory_do_not_change_the_gradients(gradients, options):
    loss, expected, offsets = gradients()
    actual_loss, actual, actual_offsets = gradients(**options)
    np.testing.assert_allclose(actual_loss, loss, rtol=1e-6)
    assert actual_offsets.keys() == offsets.keys()
    for name, value in offsets.items():
        np.testing.assert_allclose(actual_offsets[name], value, rtol=1e-5)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        # Measured 4e-7 of the largest gradient, CPU, float32.
        np.testing.assert_allclose(a, e, atol=1e-5 * float(abs(e).max()))
