"""Training losses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

# From restored frames and ground truth, [1, H, W, C] in [0, 1], to a scalar.
Loss = Callable[[jax.Array, jax.Array], ArrayLike]


def sum_over_windows(
    loss: Loss, pred: ArrayLike, target: ArrayLike, *, weight: ArrayLike | None = None
) -> jax.Array:
    """Sum of a loss of single windows, in float32.

    It sees one window at a time, so that neither the number of devices nor that of
    windows computed together changes the sum.

    Args:
        loss: Function of one restored frame and its ground truth, each [1, H, W, C],
            to a scalar.
        pred: Restored frames, [N, H, W, C].
        target: Ground truth, same shape.
        weight: Factor of each window's loss, [N]; None is 1.

    Returns:
        Scalar, float32.
    """
    each = jax.vmap(lambda x, y: jnp.asarray(loss(x[None], y[None]), jnp.float32))(
        jnp.asarray(pred, jnp.float32), jnp.asarray(target, jnp.float32)
    )
    return jnp.sum(each if weight is None else each * weight)


def charbonnier(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    eps: float = 1e-12,
    weight: ArrayLike | None = None,
) -> jax.Array:
    """Sum of ``sqrt((pred - target)^2 + eps)`` over all elements, in float32.

    Source: EDVR (arXiv:1905.02716), section 4.1. The default epsilon is BasicSR's;
    the older official code adds 1e-6.

    Args:
        pred: Restored images, any shape.
        target: Ground truth, same shape.
        eps: Added to the squared difference.
        weight: Factor of each image's sum, [N]; None is 1.

    Returns:
        Scalar, float32 (float64 for float64 images).

    Raises:
        ValueError: if the shapes differ, or there is not one weight an image.
    """
    pred, target = jnp.asarray(pred), jnp.asarray(target)
    if pred.shape != target.shape:
        raise ValueError(f"pred is {pred.shape} but target is {target.shape}")
    dtype = np.promote_types(pred.dtype, jnp.float32)
    difference = pred.astype(dtype) - target.astype(dtype)
    distance = jnp.sqrt(difference**2 + eps)
    if weight is not None:
        weight = jnp.asarray(weight)
        if weight.shape != pred.shape[:1]:
            raise ValueError(f"weight is {weight.shape} but pred is {pred.shape}")
        distance *= weight.reshape(-1, *[1] * (distance.ndim - 1))
    return jnp.sum(distance)


def root_mean_square(pred: jax.Array, target: jax.Array) -> jax.Array:
    """Root of the mean squared error.

    Between the squared error, by which a few windows that are hard to restore outweigh
    all others, and PSNR, by which NAFNet is trained (``PSNRLoss`` in its options, for
    arXiv:2204.04676) and flat windows outweigh the others.

    Args:
        pred: Restored frame of one window, float32.
        target: Ground truth, same shape.

    Returns:
        Scalar; 0.001 where the two are equal, with no gradient.
    """
    return jnp.sqrt(jnp.mean((pred - target) ** 2) + 1e-6)


def offset_fidelity(
    offset: ArrayLike,
    flow: ArrayLike,
    *,
    tolerance: float = 0.0,
    huber_delta: float = 4.0,
    weight: ArrayLike | None = None,
) -> jax.Array:
    """Huber loss of offsets that should follow the optical flow, in float32.

    The mean over frames and pixels, summed over windows and the two components, of
    ``huber(max(|offset - flow| - tolerance, 0))``.
    Source: after arXiv:2009.07265, Eq. 5; see
    :class:`edvr_jax.config.FidelityConfig` for the differences.

    Args:
        offset: Mean offset over taps and groups, (dy, dx) in pixels, [N, T, H, W, 2].
        flow: Flow from the center frame to each frame, likewise.
        tolerance: Error that costs nothing, in pixels.
        huber_delta: Error from which the loss grows linearly, in pixels.
        weight: Factor of each window's loss, [N]; None is 1.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: if the shapes differ, or there is not one weight a window.
    """
    offset, flow = jnp.asarray(offset), jnp.asarray(flow)
    if offset.shape != flow.shape:
        raise ValueError(f"offset is {offset.shape} but flow is {flow.shape}")
    weight = None if weight is None else jnp.asarray(weight)
    if weight is not None and weight.shape != offset.shape[:1]:
        raise ValueError(f"weight is {weight.shape} but offset is {offset.shape}")
    error = jnp.abs(offset.astype(jnp.float32) - flow.astype(jnp.float32))
    excess = jnp.maximum(error - tolerance, 0)
    loss = optax.losses.huber_loss(excess, delta=huber_delta).sum(-1)
    loss = loss.mean(axis=(1, 2, 3))
    return jnp.sum(loss if weight is None else loss * weight)
