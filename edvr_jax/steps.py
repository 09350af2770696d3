"""Per-device training step: pure, mapped over devices by ``parallel.py``."""

from collections.abc import Mapping
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from edvr_jax import losses
from edvr_jax.config import OptimConfig
from edvr_jax.state import TrainState

BATCH_AXIS = "batch"


def global_gradients(
    params, batch: Mapping[str, jax.Array], *, model: nn.Module, eps: float
):
    """Loss and gradients of the global batch.

    The reference's loss is a sum over the batch, so the devices' losses and
    gradients add up (a mean would divide them by the number of devices).

    Args:
        params: Parameters.
        batch: This device's windows: ``lq`` [n, T, h, w, C] and ``gt``
            [n, H, W, C], uint8 or float in [0, 1].
        model: Network.
        eps: Epsilon of the Charbonnier loss.

    Returns:
        Loss (scalar) and gradients (like params), the same on every device.
    """
    lq, gt = (_to_float(batch[name]) for name in ("lq", "gt"))

    def loss_fn(params):
        restored = cast(jax.Array, model.apply({"params": params}, lq))
        return losses.charbonnier(restored, gt, eps=eps)

    return jax.lax.psum(jax.value_and_grad(loss_fn)(params), BATCH_AXIS)


def train_step(
    state: TrainState,
    batch: Mapping[str, jax.Array],
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: OptimConfig,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Make one update on this device's share of the batch.

    Args:
        state: State before the update, the same on every device.
        batch: See :func:`global_gradients`.
        model: Network.
        optimizer: Optimizer that made ``state.opt_state``.
        config: Loss and averaging.

    Returns:
        State after the update, and metrics: ``loss`` (sum over the global batch)
        and ``grad_norm``.
    """
    loss, grads = global_gradients(
        state.params, batch, model=model, eps=config.charbonnier_eps
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = optax.incremental_update(
        params, state.ema_params, 1 - config.ema_decay
    )
    state = TrainState(
        step=state.step + 1, params=params, ema_params=ema_params, opt_state=opt_state
    )
    return state, {"loss": loss, "grad_norm": optax.tree.norm(grads)}


def _to_float(images: jax.Array) -> jax.Array:
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    return images
