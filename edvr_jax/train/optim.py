"""Adam for groups of parameters, a pure function of the step.

There are no counters: whether a parameter is trained, and at which rate, follows from
the step and the number of rollbacks in the training state. So a run that is resumed or
rolled back repeats its updates.
"""

from collections.abc import Callable, Sequence
from typing import Any

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


def is_offset_conv(path: str) -> bool:
    """Return whether a parameter predicts the offsets of a deformable convolution."""
    return "conv_offset" in path.split("/")


def is_fusion(path: str) -> bool:
    """Return whether a parameter belongs to the fusion of the trained network."""
    return "fusion" in path.split("/")


def has_prefix(path: str, prefixes: Sequence[str]) -> bool:
    """Return whether a parameter's path is under one of some prefixes."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def map_by_path(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Map ``function(path, leaf, ...)`` over a tree of parameters."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, *leaves: function("/".join(k.key for k in keys), *leaves),
        tree,
        *rest,
    )


def stop_frozen(params: Any, config: OptimConfig) -> Any:
    """Stop the gradients of parameters that are never trained."""
    return map_by_path(
        lambda path, x: (
            jax.lax.stop_gradient(x) if has_prefix(path, config.frozen) else x
        ),
        params,
    )


def create_optimizer(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
    """Make Adam with the cosine-restart rate (BasicSR: betas 0.9 and 0.99).

    Parameters under ``config.frozen`` are not changed and have no moments. During
    ``tsa_warmup_steps`` neither are the others but the fusion; their moments start
    after it, so that Adam's first update after the warm-up is that of step 0.

    Args:
        config: Rates, groups, limits.

    Returns:
        A transformation whose ``update`` also takes ``run_step``, the steps made so
        far, and ``offset_lr_scale``, a factor of the rate of the offset convolutions.
    """
    adam = optax.chain(
        optax.scale_by_adam(b1=config.b1, b2=config.b2), _scale_by_rate(config)
    )
    after_warmup = adam
    if config.tsa_warmup_steps:
        after_warmup = optax.conditionally_mask(
            adam,
            # Its own counter is not the run's step, which is passed as an extra.
            lambda step, **extra: extra["run_step"] >= config.tsa_warmup_steps,
            forward_extra_args=True,
        )

    def label(path: str, _: Any) -> str:
        if has_prefix(path, config.frozen):
            return "frozen"
        return "fusion" if is_fusion(path) else "others"

    grouped = optax.partition(
        {"fusion": adam, "others": after_warmup, "frozen": optax.set_to_zero()},
        lambda params: map_by_path(label, params),
    )
    if config.max_grad_norm is None:
        return grouped
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), grouped)


def _scale_by_rate(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
    """Multiply by the negative learning rate of the step and of the group."""

    def init(params):
        del params
        return optax.EmptyState()

    def update(updates, state, params=None, **extra):
        del params
        step, offset_lr_scale = extra["run_step"], extra.get("offset_lr_scale", 1.0)
        rate = -cosine_restart_lr(step, config)
        offset_rate = rate * config.offset_lr_multiplier * offset_lr_scale

        def scale(path, value):
            return value * (offset_rate if is_offset_conv(path) else rate)

        return map_by_path(scale, updates), state

    return optax.GradientTransformationExtraArgs(init, update)
