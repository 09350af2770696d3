"""Types of arrays inside of ``jax.shard_map``: over which mesh axes they vary.

``shard_map`` checks by default that what varies from device to device is marked so. The
gradients written by hand here must follow its rules themselves: an argument that is the
same on all devices gets the sum of the devices' gradients.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def _axes(x: Any) -> frozenset[str]:
    kind: Any = jax.typeof(x)
    if hasattr(kind, "manual_axis_type"):
        return kind.manual_axis_type.varying
    return kind.vma  # before jax 0.10.2


def align(*arrays: jax.Array) -> list[jax.Array]:
    """Mark arrays as varying over every axis that one of them varies over."""
    together = frozenset().union(*map(_axes, arrays))
    return [
        lax.pcast(x, tuple(sorted(together - _axes(x))), to="varying") for x in arrays
    ]


def zeros(shape: Any, dtype: Any, *, like: jax.Array) -> jax.Array:
    """Return zeros that vary over the axes that an array varies over."""
    return lax.pcast(jnp.zeros(shape, dtype), tuple(sorted(_axes(like))), to="varying")


def sum_like(gradient: jax.Array, argument: jax.Array) -> jax.Array:
    """Sum a gradient over the axes that its argument does not vary over."""
    axes = _axes(gradient) - _axes(argument)
    return lax.psum(gradient, tuple(sorted(axes))) if axes else gradient
