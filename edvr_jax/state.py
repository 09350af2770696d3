"""Everything that a training run carries from step to step."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

Params = Any  # nested dict of arrays


class TrainState(flax.struct.PyTreeNode):
    """State of a run; the data order and the learning rates follow from it.

    Attributes:
        step: Steps made so far, int32 scalar.
        params: Parameters.
        ema_params: Their exponential moving average, used for evaluation.
        opt_state: State of the optimizer.
        bad_steps: Steps in a row whose update was skipped, int32 scalar.
        rollbacks: Times that the run went back to a checkpoint, int32 scalar.
    """

    step: jax.Array
    params: Params
    ema_params: Params
    opt_state: optax.OptState
    bad_steps: jax.Array
    rollbacks: jax.Array


def create_train_state(
    key: jax.Array,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    frames_shape: tuple[int, ...],
) -> TrainState:
    """Initialise parameters, average and optimizer.

    Args:
        key: Random key of the parameters.
        model: Network.
        optimizer: Optimizer of the parameters.
        frames_shape: Shape of an input, [N, T, H, W, C]; small is fine.

    Returns:
        State at step 0, the average equal to the parameters.
    """
    params = jax.jit(model.init)(key, jnp.zeros(frames_shape))["params"]
    return initial_state(params, optimizer)


def initial_state(
    params: Params, optimizer: optax.GradientTransformation
) -> TrainState:
    """Return the state at step 0 with these parameters, also as their average."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        bad_steps=jnp.zeros((), jnp.int32),
        rollbacks=jnp.zeros((), jnp.int32),
    )
