"""The only file that knows about devices: mapping, replication, sharding.

``jax.pmap`` is in maintenance mode and is jit(shard_map) underneath; keeping it
in one file makes a change small. The state is an ordinary tree, replicated by
``in_axes=None``, so nothing else depends on the number of devices.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from edvr_jax import steps
from edvr_jax.errors import InputError


def parallel_train_step(**collaborators: Any) -> Callable:
    """Map :func:`edvr_jax.steps.train_step` over all devices.

    Args:
        **collaborators: Keyword arguments of ``train_step``.

    Returns:
        ``step(state, sharded_batch) -> (state, metrics)``; the state given is
        donated.
    """
    return jax.pmap(
        functools.partial(steps.train_step, **collaborators),
        axis_name=steps.BATCH_AXIS,
        in_axes=(None, 0),
        out_axes=None,
        donate_argnums=0,
    )


def parallel_gradients(**collaborators: Any) -> Callable:
    """Map :func:`edvr_jax.steps.global_gradients` over all devices."""
    return jax.pmap(
        functools.partial(steps.global_gradients, **collaborators),
        axis_name=steps.BATCH_AXIS,
        in_axes=(None, 0),
        out_axes=None,
    )


def local_batch_size(global_batch_size: int) -> int:
    """Windows that this process loads per step.

    Args:
        global_batch_size: Windows per step over all devices of all processes.

    Returns:
        This process's share.

    Raises:
        InputError: if the devices cannot share the batch evenly.
    """
    if global_batch_size % jax.device_count():
        raise InputError(
            f"data.batch_size ({global_batch_size}) must be a multiple of the "
            f"{jax.device_count()} devices"
        )
    return global_batch_size // jax.process_count()


def shard(batch: Any) -> Any:
    """Split the leading axis of a local batch over the local devices."""
    count = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape(count, -1, *np.shape(x)[1:]), batch)
