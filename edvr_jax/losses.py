"""Training loss."""

import jax
import jax.numpy as jnp


def charbonnier(
    pred: jax.Array,
    target: jax.Array,
    *,
    eps: float = 1e-12,
    weight: jax.Array | None = None,
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
        ValueError: if the shapes differ.
    """
    if pred.shape != target.shape:
        raise ValueError(f"pred is {pred.shape} but target is {target.shape}")
    dtype = jnp.promote_types(pred.dtype, jnp.float32)
    difference = pred.astype(dtype) - target.astype(dtype)
    distance = jnp.sqrt(difference**2 + eps)
    if weight is not None:
        distance *= weight.reshape(-1, *[1] * (distance.ndim - 1))
    return jnp.sum(distance)
