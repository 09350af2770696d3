"""Gradients are the same on several devices, and where a step saves memory."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.config import GuardConfig, OptimConfig
from edvr_jax.models import create_model
from edvr_jax.models import params as params_lib
from edvr_jax.train import optim, parallel, steps
from edvr_jax.train.state import initial_state
from tests.training import on_one_device


@pytest.fixture(scope="module")
def config(tiny_config):
    return dataclasses.replace(tiny_config, with_tsa=False, scale=1)


@pytest.fixture(scope="module")
def model(config):
    return create_model(config)


@pytest.fixture(scope="module")
def params(config, random_params):
    return random_params(config, scale=0.1)


@pytest.fixture(scope="module")
def batch():
    """Six windows."""
    rng = np.random.default_rng(0)
    return {
        "lq": rng.integers(0, 256, (6, 3, 8, 8, 3), np.uint8),
        "gt": rng.integers(0, 256, (6, 8, 8, 3), np.uint8),
    }


@pytest.fixture(scope="module")
def gradients(model, params, batch):
    """Function from options to loss, gradients and offsets, on one device."""

    @functools.cache
    def compute(**options):
        function = functools.partial(
            steps.global_gradients, model=model, config=OptimConfig(**options)
        )
        return on_one_device(function)(params, batch)

    return compute


# 4 does not divide the six windows: 3 at a time.
@pytest.mark.parametrize("options", [{"micro_batch_size": 4}, {"remat": True}])
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


@pytest.mark.skipif(jax.device_count() != 4, reason="needs four (fake) devices")
def test_four_devices_give_the_gradients_of_one(
    model, params, batch, gradients, first_moments
):
    """The devices cannot share six windows evenly, and one counts nothing."""
    sharded = parallel.shard(batch)
    np.testing.assert_array_equal(sharded["weight"], [[1, 1], [1, 1], [1, 1], [0, 0]])
    options = OptimConfig()
    optimizer = optim.create_optimizer(options)
    step = parallel.ParallelTrainStep(
        model=model, optimizer=optimizer, config=options, guard=GuardConfig()
    )
    state = initial_state(jax.tree.map(jnp.asarray, params), optimizer)
    state, metrics = step(state, sharded)
    moments = first_moments(state.opt_state)
    loss, expected, offsets = gradients()
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-6)
    assert offsets.keys() <= metrics.keys()
    for path, e in params_lib.flatten(expected).items():
        actual = moments[path] / (1 - options.b1)
        # Measured 7e-7 of the largest gradient, CPU, float32.
        np.testing.assert_allclose(actual, e, atol=2e-5 * float(abs(e).max()))
