import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from edvr_jax.config import OptimConfig
from edvr_jax.errors import InputError
from edvr_jax.train.optim import cosine_restart_lr, create_optimizer

pytestmark = pytest.mark.usefixtures("optimized")


def test_equals_the_reference_for_600_steps(fixtures):
    golden = np.load(fixtures / "train" / "cosine_restart_lr.npz")
    config = OptimConfig(
        peak_lr=float(golden["base_lr"]),
        eta_min=float(golden["eta_min"]),
        period_steps=tuple(int(p) for p in golden["periods"]),
        restart_weights=tuple(float(w) for w in golden["restart_weights"]),
    )
    actual = cosine_restart_lr(jnp.arange(600), config)
    # Measured 5e-11 absolute (float32) of rates up to 4e-4.
    np.testing.assert_allclose(actual, golden["lr"], rtol=1e-5, atol=2e-10)


def test_restart_boundaries_by_hand():
    config = OptimConfig(
        peak_lr=1.0, eta_min=0.0, period_steps=(4, 2), restart_weights=(1.0, 0.5)
    )
    rates = [float(cosine_restart_lr(step, config)) for step in (0, 2, 4, 5, 6, 99)]
    # Step 4 still ends the first period; the second peaks between 4 and 5.
    np.testing.assert_allclose(rates, [1, 0.5, 0, 0.25, 0, 0], atol=1e-6)


@pytest.fixture
def params():
    """One parameter of every group."""
    return {
        "conv_first": {"kernel": jnp.ones(3)},
        "pcd_align": {"dcn_pack_l1": {"conv_offset": {"kernel": jnp.ones(3)}}},
        "fusion": {"feat_fusion": {"kernel": jnp.ones(3)}},
        "stage1": {"fusion": {"kernel": jnp.ones(3)}},
    }


def flat(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def follow(config, params, *, num_steps, first_step=0, **extra):
    """Updates of each step, with gradients that the step alone gives."""
    optimizer = create_optimizer(config)
    state = optimizer.init(params)
    for step in range(first_step, first_step + num_steps):
        grads = jax.tree.map(lambda x, step=step: x * np.cos(step + 1.0), params)
        updates, state = optimizer.update(grads, state, params, run_step=step, **extra)
        yield flat(updates)


def follow_plain_adam(config, params, steps):
    """The same gradients through optax.adam, at the rates of these steps."""
    rates = jnp.asarray([cosine_restart_lr(step, config) for step in steps])
    adam = optax.adam(lambda count: rates[count], b1=config.b1, b2=config.b2)
    state = adam.init(params)
    for step in steps:
        grads = jax.tree.map(lambda x, step=step: x * np.cos(step + 1.0), params)
        updates, state = adam.update(grads, state, params)
        yield flat(updates)


def test_without_groups_it_is_adam(params):
    config = OptimConfig(period_steps=(4,), restart_weights=(1.0,))
    both = (
        follow(config, params, num_steps=6),
        follow_plain_adam(config, params, range(6)),
    )
    for actual, expected in zip(*both, strict=True):
        for path, value in expected.items():
            np.testing.assert_allclose(actual[path], value, rtol=1e-6, err_msg=path)


def test_warm_up_trains_the_fusion_and_leaves_the_moments_of_others(params):
    config = OptimConfig(tsa_warmup_steps=3, frozen=("stage1",))
    actual = list(follow(config, params, num_steps=6))
    whole = list(follow_plain_adam(config, params, range(6)))
    # What starts after the warm-up does as a fresh Adam at these steps' rates.
    late = list(follow_plain_adam(config, params, range(3, 6)))
    for step, updates in enumerate(actual):
        fusion = "fusion/feat_fusion/kernel"
        np.testing.assert_allclose(updates[fusion], whole[step][fusion], rtol=1e-6)
        np.testing.assert_array_equal(updates["stage1/fusion/kernel"], 0)
        for path in updates.keys() - {fusion, "stage1/fusion/kernel"}:
            expected = late[step - 3][path] if step >= 3 else 0 * updates[path]
            np.testing.assert_allclose(updates[path], expected, rtol=1e-6)


def test_frozen_parameters_have_no_moments(params):
    config = OptimConfig(frozen=("stage1",))
    paths = flat(create_optimizer(config).init(params))
    assert any("conv_first" in path for path in paths)
    assert not any("stage1" in path for path in paths)


def test_offset_convolutions_have_a_rate_of_their_own(params):
    config = OptimConfig(offset_lr_multiplier=0.25)
    (slow,) = follow(config, params, num_steps=1, offset_lr_scale=0.5)
    (plain,) = follow(OptimConfig(), params, num_steps=1)
    for path, value in plain.items():
        factor = 0.125 if "conv_offset" in path else 1.0
        np.testing.assert_allclose(slow[path], factor * value, rtol=1e-6)


def test_gradients_of_a_large_norm_are_scaled_down(params):
    # A tiny epsilon of Adam would hide the scale: the moments show it.
    optimizer = create_optimizer(OptimConfig(max_grad_norm=1.0))
    grads = jax.tree.map(lambda x: 100 * x, params)
    _, state = optimizer.update(grads, optimizer.init(params), params, run_step=0)
    moments = [x for path, x in flat(state).items() if "mu" in path]
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in moments))
    assert norm == pytest.approx(0.1, rel=1e-5)  # (1 - b1) times the limit


def test_every_period_needs_a_weight():
    with pytest.raises(InputError, match="restart_weights"):
        OptimConfig(period_steps=(1, 2), restart_weights=(1.0,))
