"""Per-device training step: pure, mapped over devices by ``parallel.py``."""

from collections.abc import Mapping
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from edvr_jax import losses
from edvr_jax.config import OptimConfig
from edvr_jax.errors import InputError
from edvr_jax.models import layers
from edvr_jax.state import TrainState

BATCH_AXIS = "batch"


def global_gradients(
    params, batch: Mapping[str, jax.Array], *, model: nn.Module, config: OptimConfig
):
    """Loss and gradients of the global batch.

    The reference's loss is a sum over the batch, so the losses and gradients of
    micro batches and devices add up (a mean would divide them by their number).

    Args:
        params: Parameters.
        batch: This device's windows: ``lq`` [n, T, h, w, C] and ``gt``
            [n, H, W, C], uint8 or float in [0, 1].
        model: Network.
        config: Loss, ``micro_batch_size`` (here None is all n) and ``remat``.

    Returns:
        Loss (scalar) and gradients (like params), the same on every device.

    Raises:
        InputError: if ``micro_batch_size`` does not divide n.
    """

    def apply(params, lq):
        return cast(jax.Array, model.apply({"params": params}, lq))

    if config.remat:
        apply = jax.checkpoint(apply, policy=_keeps_results_of_convolutions)

    def loss_fn(params, batch):
        lq, gt = (_to_float(batch[name]) for name in ("lq", "gt"))
        return losses.charbonnier(apply(params, lq), gt, eps=config.charbonnier_eps)

    gradients = jax.value_and_grad(loss_fn)
    count = len(batch["lq"])
    size = config.micro_batch_size or count
    if count % size:
        raise InputError(
            f"optim.micro_batch_size ({size}) must divide the {count} windows per "
            "device"
        )
    if size == count:
        return jax.lax.psum(gradients(params, batch), BATCH_AXIS)

    def add(sums, micro_batch):
        return jax.tree.map(jnp.add, sums, gradients(params, micro_batch)), None

    batch = {name: x.reshape(-1, size, *x.shape[1:]) for name, x in batch.items()}
    first = jax.tree.map(lambda x: x[0], batch)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradients, params, first))
    sums, _ = jax.lax.scan(add, zeros, batch)
    return jax.lax.psum(sums, BATCH_AXIS)


_keeps_results_of_convolutions = jax.checkpoint_policies.save_only_these_names(
    layers.CONVOLVED
)


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
    loss, grads = global_gradients(state.params, batch, model=model, config=config)
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
