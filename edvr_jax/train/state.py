"""Everything that a training run carries from step to step."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from edvr_jax.config import NetworkConfig

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
    config: NetworkConfig,
) -> TrainState:
    """Initialise parameters, average and optimizer.

    Args:
        key: Random key of the parameters.
        model: Network.
        optimizer: Optimizer of the parameters.
        config: The network's, for the shape of its input.

    Returns:
        State at step 0, the average equal to the parameters.
    """
    size = config.size_multiple
    shape = (1, config.num_frames, size, size, config.in_channels)
    return initial_state(_init(key, model=model, shape=shape), optimizer)


@functools.partial(jax.jit, static_argnames=("model", "shape"))
def _init(key: jax.Array, *, model: nn.Module, shape: tuple[int, ...]) -> Params:
    return model.init(key, jnp.zeros(shape))["params"]


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
