"""Per-device training step: pure, mapped over devices by ``parallel.py``."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from edvr_jax.config import GuardConfig, OptimConfig
from edvr_jax.models import layers
from edvr_jax.models import params as params_lib
from edvr_jax.train import alignment, losses, optim
from edvr_jax.train.state import TrainState

BATCH_AXIS = "batch"

Metrics = dict[str, jax.Array]
Batch = Mapping[str, jax.Array | np.ndarray]

OFFSET_MEAN, OFFSET_MAX = "offset_mean/", "offset_max/"


def global_gradients(
    params: Any,
    batch: Batch,
    step: jax.Array | int = 0,
    *,
    model: nn.Module,
    config: OptimConfig,
    loss: losses.Loss | None = None,
) -> tuple[jax.Array, Any, Metrics]:
    """Loss, gradients and offsets of the global batch.

    The reference's loss is a sum over the batch, so the losses and gradients of
    micro batches and devices add up (a mean would divide them by their number).

    Args:
        params: Parameters.
        batch: This device's windows: ``lq`` [n, T, h, w, C] and, unless the alignment
            is trained alone, ``gt`` [n, H, W, C], uint8 or float in [0, 1]; a
            ``weight`` [n] of each in the loss if it is not 1; with
            ``config.fidelity`` the ``flow`` from the center to each frame, (dy, dx)
            in pixels of level 1, [n, T, h, w, 2].
        step: Steps made so far; the weight of ``config.fidelity`` depends on it.
        model: Network.
        config: Losses, ``micro_batch_size`` (None is all n), ``remat`` and
            ``frozen``, whose gradients are zero and cost nothing.
        loss: Loss of a window in place of that of the options, see
            :func:`edvr_jax.train.losses.sum_over_windows`.

    Returns:
        Loss (scalar), gradients (like params), and for each deformable convolution
        the ``offset_mean/...`` and ``offset_max/...`` of the absolute offsets, in
        pixels of its level; with ``config.fidelity`` also ``flow_error/...`` and
        ``flow_mean/...``, see :func:`edvr_jax.train.alignment.fidelity`; all the same
        on every device.
    """
    if loss is None and config.loss == "rmse":
        loss = losses.root_mean_square
    guided, is_alone = config.fidelity.weight > 0, config.fidelity.alone
    mutable = [layers.OFFSETS, layers.MEAN_OFFSETS] if guided else [layers.OFFSETS]
    method = "align" if is_alone else None

    def apply(params, lq):
        return model.apply({"params": params}, lq, mutable=mutable, method=method)

    if config.remat:
        apply = jax.checkpoint(apply, policy=_keeps_results_of_convolutions)

    def loss_fn(params, batch):
        lq = _to_float(batch["lq"])
        restored, collections = apply(optim.stop_frozen(params, config), lq)
        measured, weight = _offset_metrics(collections, config), batch.get("weight")
        total = jnp.zeros(())
        if not is_alone:
            gt = _to_float(batch["gt"])
            if loss is None:
                total += losses.charbonnier(
                    restored, gt, eps=config.charbonnier_eps, weight=weight
                )
            else:
                total += losses.sum_over_windows(loss, restored, gt, weight=weight)
        if guided:
            error, flow_metrics = alignment.fidelity(
                collections, batch["flow"], config=config.fidelity, weight=weight
            )
            total += alignment.fidelity_weight(step, config) * error
            measured |= flow_metrics
        return total, measured

    def gradients(params, batch):
        (total, offsets), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            params, batch
        )
        return total, grads, offsets

    count = len(batch["lq"])
    size = _largest_divisor(count, config.micro_batch_size or count)
    if size == count:
        return _reduce(gradients(params, batch))

    def add(sums, micro_batch):
        return _combine(sums, gradients(params, micro_batch)), None

    batch = {name: x.reshape(-1, size, *x.shape[1:]) for name, x in batch.items()}
    first = jax.tree.map(lambda x: x[0], batch)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradients, params, first))
    total, grads, offsets = jax.lax.scan(add, zeros, batch)[0]
    num_added = count // size
    return _reduce((total, grads, _divide_means(offsets, num_added)))


_keeps_results_of_convolutions = jax.checkpoint_policies.save_only_these_names(
    layers.CONVOLVED
)


def _largest_divisor(count: int, limit: int) -> int:
    """Return the largest number up to ``limit`` that divides ``count``."""
    return next(size for size in range(min(count, limit), 0, -1) if count % size == 0)


def _offset_metrics(collections: Mapping[str, Any], config: OptimConfig) -> Metrics:
    """Name the offsets that the deformable convolutions report.

    Where the alignment is trained alone, the other convolutions are left out, so that
    XLA does not compute them.
    """
    flat = params_lib.flatten(collections.get(layers.OFFSETS, {}))
    prefixes = {"mean": OFFSET_MEAN, "max": OFFSET_MAX}
    named = {}
    for path, value in flat.items():
        name, _, kind = path.rpartition("/")
        if config.fidelity.alone and not alignment.is_trained_alone(name):
            continue
        named[prefixes[kind] + name] = jax.lax.stop_gradient(value)
    return named


def _combine(sums: Any, more: Any) -> Any:
    """Add losses, gradients and means, and take the larger of maxima."""
    (*sums, offsets), (*others, more_offsets) = sums, more
    combined = {
        key: (jnp.maximum if key.startswith(OFFSET_MAX) else jnp.add)(
            value, more_offsets[key]
        )
        for key, value in offsets.items()
    }
    return *jax.tree.map(jnp.add, sums, others), combined


def _divide_means(offsets: Metrics, count: int) -> Metrics:
    return {
        key: value if key.startswith(OFFSET_MAX) else value / count
        for key, value in offsets.items()
    }


def _reduce(results: Any) -> Any:
    """Combine the results of all devices."""
    loss, grads, offsets = results
    loss, grads = jax.lax.psum((loss, grads), BATCH_AXIS)
    offsets = {
        key: (jax.lax.pmax if key.startswith(OFFSET_MAX) else jax.lax.pmean)(
            value, BATCH_AXIS
        )
        for key, value in offsets.items()
    }
    return loss, grads, offsets


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    config: OptimConfig,
    guard: GuardConfig,
    loss: losses.Loss | None = None,
) -> tuple[TrainState, Metrics]:
    """Make one step on this device's share of the batch.

    Args:
        state: State before the step, the same on every device.
        batch: See :func:`global_gradients`.
        model: Network.
        optimizer: Optimizer that made ``state.opt_state``.
        config: Loss and averaging.
        guard: When the update is skipped: parameters, average and optimizer stay as
            they are, the step is counted.
        loss: As for :func:`global_gradients`.

    Returns:
        State after the step, and metrics: ``loss`` (sum over the global batch),
        ``grad_norm``, the offsets of :func:`global_gradients`, and ``is_skipped``.
    """
    total, grads, offsets = global_gradients(
        state.params, batch, state.step, model=model, config=config, loss=loss
    )
    grad_norm = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(
        grads,
        state.opt_state,
        state.params,
        run_step=state.step,
        offset_lr_scale=guard.lr_factor ** state.rollbacks.astype(jnp.float32),
    )
    params = optax.apply_updates(state.params, updates)
    ema_params = optax.incremental_update(
        params, state.ema_params, 1 - config.ema_decay
    )
    trees = params, ema_params, opt_state
    is_bad = jnp.zeros((), bool)
    if guard.enabled:
        is_bad = _is_bad(total, grad_norm, offsets, guard)
        old = state.params, state.ema_params, state.opt_state
        trees = jax.tree.map(lambda a, b: jnp.where(is_bad, a, b), old, trees)
    params, ema_params, opt_state = trees
    state = state.replace(
        step=state.step + 1,
        params=params,
        ema_params=ema_params,
        opt_state=opt_state,
        bad_steps=jnp.where(is_bad, state.bad_steps + 1, 0),
    )
    metrics = {"loss": total, "grad_norm": grad_norm, **offsets}
    return state, {**metrics, "is_skipped": is_bad.astype(jnp.float32)}


def _is_bad(
    loss: jax.Array, grad_norm: jax.Array, offsets: Metrics, guard: GuardConfig
) -> jax.Array:
    """Return whether the update must be skipped; NaN compares false, so it is bad."""
    is_good = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    for key, value in offsets.items():
        if key.startswith(OFFSET_MEAN):
            is_good &= value <= guard.max_offset_mean
    return ~is_good


def _to_float(images: jax.Array | np.ndarray) -> jax.Array:
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    return images
