"""Learning rate as a pure function of the step, and Adam."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from edvr_jax.config import OptimConfig


def cosine_restart_lr(step: ArrayLike, config: OptimConfig) -> jax.Array:
    """Learning rate of cosine annealing with restarts.

    ``eta_min + weight/2 * (peak_lr - eta_min) * (1 + cos(pi * progress))`` inside
    each period. Checked against BasicSR's CosineAnnealingRestartLR: the step at
    which a period ends still belongs to it. After the last period the rate stays
    at ``eta_min``.

    Args:
        step: Updates made so far, any shape.
        config: Peak, minimum, periods and weights.

    Returns:
        Learning rate, float32, shape of step.
    """
    ends = np.cumsum(config.period_steps)
    step = jnp.asarray(step)
    period = jnp.searchsorted(jnp.asarray(ends), step, side="left")
    period = jnp.minimum(period, len(ends) - 1)
    starts = jnp.asarray(ends - np.asarray(config.period_steps))
    lengths = jnp.asarray(np.asarray(config.period_steps, np.float32))
    weights = jnp.asarray(np.asarray(config.restart_weights, np.float32))
    progress = jnp.clip((step - starts[period]) / lengths[period], 0, 1)
    swing = 0.5 * weights[period] * (config.peak_lr - config.eta_min)
    return config.eta_min + swing * (1 + jnp.cos(jnp.pi * progress))


def create_optimizer(config: OptimConfig) -> optax.GradientTransformation:
    """Adam with the cosine-restart rate (BasicSR: betas 0.9 and 0.99)."""
    rate = functools.partial(cosine_restart_lr, config=config)
    return optax.adam(rate, b1=config.b1, b2=config.b2)
