"""Everything that a training run carries from step to step."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from edvr_jax.config import Config
from edvr_jax.models import create_model, own
from edvr_jax.train import optim

Params = Any  # nested dict of arrays


class TrainState(flax.struct.PyTreeNode):
    """State of a run; the data order and the learning rates follow from it.

    Attributes:
        step: Steps made so far, int32 scalar.
        params: Parameters.
        ema_params: Their exponential moving average, used for evaluation.
        opt_state: State of the optimizer.
        bad_steps: Steps in a row whose update was skipped, int32 scalar.
        rollbacks: Number of returns to an earlier checkpoint, int32 scalar.
    """

    step: jax.Array
    params: Params
    ema_params: Params
    opt_state: optax.OptState
    bad_steps: jax.Array
    rollbacks: jax.Array


def create_train_state(config: Config, model: nn.Module | None = None) -> TrainState:
    """Initialize parameters by the experiment's seed, average and optimizer.

    Args:
        config: The experiment.
        model: A module of your own; None is ``create_model(config.model)``.

    Returns:
        State at step 0, the average equal to the parameters.
    """
    network = config.model
    size = network.size_multiple
    shape = (1, network.num_frames, size, size, network.in_channels)
    if model is not None:
        shape = own.example(network).shape
    model = create_model(network) if model is None else model
    params = _init(jax.random.key(config.seed), model=model, shape=shape)
    return initial_state(params, optim.create_optimizer(config.optim))


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
