"""A step that goes wrong is not made; what the convolutions report is true."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.config import GuardConfig, OptimConfig
from edvr_jax.models import create_model, layers
from edvr_jax.train import optim, steps
from edvr_jax.train.state import initial_state
from tests.training import on_one_device


@pytest.fixture(scope="module")
def config(tiny_config):
    return dataclasses.replace(tiny_config, with_tsa=False, scale=1)


@pytest.fixture(scope="module")
def step(config):
    """Function from state, frames and ground truth to state and metrics."""
    options = OptimConfig()
    update = functools.partial(
        steps.train_step,
        model=create_model(config),
        optimizer=optim.create_optimizer(options),
        config=options,
        guard=GuardConfig(max_offset_mean=5.0),
    )
    mapped = on_one_device(update)
    return lambda state, lq, gt: mapped(state, {"lq": lq, "gt": gt})


@pytest.fixture(scope="module")
def state(config, random_params):
    params = jax.tree.map(jnp.asarray, random_params(config, scale=0.1))
    return initial_state(params, optim.create_optimizer(OptimConfig()))


LQ, GT = np.full((1, 3, 8, 8, 3), 0.5, np.float32), np.zeros((1, 8, 8, 3), np.float32)


def with_offset_bias(state, value):
    """Offsets of deformable convolutions at level 1 near ``value``."""
    path = "pcd_align", "dcn_pack_l1", "conv_offset", "bias"

    def change(keys, x):
        return x + value if tuple(k.key for k in keys) == path else x

    return state.replace(params=jax.tree_util.tree_map_with_path(change, state.params))


def test_good_step_is_made(step, state):
    after, metrics = step(state, LQ, GT)
    assert float(metrics["is_skipped"]) == int(after.bad_steps) == 0
    moved = jax.tree.map(lambda a, b: (a != b).any(), after.params, state.params)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("reason", ["nan", "offsets"])
def test_bad_step_changes_nothing_but_the_counts(step, state, reason):
    before = with_offset_bias(state, 20.0) if reason == "offsets" else state
    lq = LQ * np.nan if reason == "nan" else LQ
    after, metrics = step(before, lq, GT)
    assert float(metrics["is_skipped"]) == 1
    assert (int(after.step), int(after.bad_steps)) == (1, 1)
    for name in ("params", "ema_params", "opt_state"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(after, name), getattr(before, name)
        )
    again, _ = step(after, lq, GT)
    assert (int(again.step), int(again.bad_steps)) == (2, 2)
    good, _ = step(again.replace(params=state.params), LQ, GT)
    assert int(good.bad_steps) == 0


def test_reported_offsets_are_those_used(config, state):
    """Mean and maximum of |offset| in pixels, of each convolution, from its layer."""
    before = with_offset_bias(state, 20.0)
    apply = functools.partial(
        create_model(config).apply,
        mutable=["intermediates", layers.OFFSETS],
        capture_intermediates=lambda module, _: module.name == "conv_offset",
    )
    _, intermediates = jax.jit(apply)({"params": before.params}, LQ)
    for name, outputs in intermediates["intermediates"]["pcd_align"].items():
        (predicted,) = outputs["conv_offset"]["__call__"]
        distance = np.abs(predicted)[..., : predicted.shape[-1] // 3 * 2]
        reported = intermediates[layers.OFFSETS]["pcd_align"][name]
        assert float(reported["mean"]) == pytest.approx(distance.mean(), rel=1e-5)
        assert float(reported["max"]) == pytest.approx(distance.max(), rel=1e-6)
        assert (distance.mean() > 15) == (name == "dcn_pack_l1")


def test_clamped_offsets_stay_inside(config, state):
    params = with_offset_bias(state, 20.0).params

    def restore(max_offset):
        model = create_model(dataclasses.replace(config, max_offset=max_offset))
        apply = functools.partial(model.apply, mutable=[layers.OFFSETS])
        return jax.jit(apply)({"params": params}, LQ)

    out, collections = restore(2.0)
    assert max(jax.tree.leaves(collections[layers.OFFSETS])) == 2.0
    free, _ = restore(None)
    assert np.abs(out - free).max() > 1e-4
    np.testing.assert_array_equal(restore(1e6)[0], free)


def test_frozen_parameters_get_no_gradient(config, state):
    options = OptimConfig(frozen=("feature_extraction_0", "conv_first"))
    one = functools.partial(
        steps.global_gradients, model=create_model(config), config=options
    )
    _, grads, _ = on_one_device(one)(state.params, {"lq": LQ, "gt": GT})
    for name, tree in grads.items():
        is_zero = all((x == 0).all() for x in jax.tree.leaves(tree))
        assert is_zero == (name in options.frozen), name
