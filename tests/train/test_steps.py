"""The reference's five Adam steps, through the project's own step and optimizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.config import GuardConfig, OptimConfig
from edvr_jax.models import create_model
from edvr_jax.models import params as params_lib
from edvr_jax.train import optim, steps
from edvr_jax.train.state import initial_state
from edvr_jax.weights import torch_files, torch_names
from tests.training import on_one_device


@pytest.fixture(scope="module")
def run(fixtures, first_moments):
    """First gradients, and losses and state after five steps, in float32."""
    golden = np.load(fixtures / "train" / "five_adam_steps.npz")
    config, params = torch_files.from_torch(
        fixtures / "train" / "five_adam_steps_init.safetensors"
    )
    options = OptimConfig(
        peak_lr=float(golden["lr"]),
        eta_min=float(golden["lr"]),  # a constant rate
        b1=float(golden["b1"]),
        b2=float(golden["b2"]),
        ema_decay=float(golden["ema_decay"]),
        charbonnier_eps=float(golden["charbonnier_eps"]),
    )
    lq = np.moveaxis(golden["lq"], -3, -1).astype(np.float32)  # [5, N, T, h, w, C]
    gt = np.moveaxis(golden["gt"], -3, -1).astype(np.float32)
    model, optimizer = create_model(config), optim.create_optimizer(options)
    params = jax.tree.map(jnp.asarray, params)
    state = initial_state(params, optimizer)

    step = on_one_device(
        functools.partial(
            steps.train_step,
            model=model,
            optimizer=optimizer,
            config=options,
            guard=GuardConfig(),
        )
    )
    losses, first_gradients = [], None
    for i in range(5):
        state, metrics = step(state, {"lq": lq[i], "gt": gt[i]})
        losses.append(float(metrics["loss"]))
        if i == 0:  # Adam's first moment starts as (1 - b1) times the gradient
            first_gradients = {
                path: x / (1 - options.b1)
                for path, x in first_moments(state.opt_state).items()
            }
    return golden, config, losses, first_gradients, state


def compare(fixtures, config, tree, prefix):
    """Largest difference of a parameter tree from the golden, per parameter."""
    golden = np.load(fixtures / "train" / f"five_adam_steps_{prefix}.npz")
    flat = tree if prefix == "grad" else params_lib.flatten(tree)
    entries = torch_names.mapping(config, "basicsr")
    assert len(entries) == len(golden.files) == len(flat)
    for entry in entries:
        expected = golden[f"{prefix}.{entry.torch_key}"]
        if expected.ndim == 4:
            expected = expected.transpose(2, 3, 1, 0)
        yield entry.path, np.asarray(flat[entry.path]), expected


def test_losses_follow_the_reference(run):
    golden, _, losses, _, _ = run
    # Measured at most 1e-7 relative, CPU, float32.
    np.testing.assert_allclose(losses, golden["losses"], rtol=1e-5)
    assert int(run[4].step) == 5


def test_first_gradients_follow_the_reference(fixtures, run):
    golden, config, _, gradients, _ = run
    del golden
    for path, actual, expected in compare(fixtures, config, gradients, "grad"):
        scale = np.abs(expected).max()
        # Single |x| kinks of the loss may flip sign in float32.
        assert np.abs(actual - expected).max() < 2e-3 * scale, path


@pytest.mark.parametrize("name", ["final", "ema"])
def test_parameters_follow_the_reference(fixtures, run, name):
    _, config, _, _, state = run
    tree = state.params if name == "final" else state.ema_params
    close = total = 0
    for path, actual, expected in compare(fixtures, config, tree, name):
        difference = np.abs(actual - expected)
        # Adam moves by up to lr = 4e-4 a step in the sign of tiny gradients.
        assert difference.max() < 1e-3, path
        close += (difference < 2e-5).sum()
        total += difference.size
    assert close / total > 0.98
