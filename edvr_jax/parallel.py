"""The only file that knows about devices: mapping, replication, sharding.

``jax.pmap`` is in maintenance mode and is jit(shard_map) underneath; keeping it
in one file makes a change small. The state is an ordinary tree, replicated by
``in_axes=None``, so nothing else depends on the number of devices.
"""

import ctypes
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from edvr_jax import steps
from edvr_jax.config import OptimConfig
from edvr_jax.errors import InputError


def parallel_train_step(*, config: OptimConfig, **collaborators: Any) -> Callable:
    """Map :func:`edvr_jax.steps.train_step` over all devices.

    Args:
        config: As for ``train_step``; ``micro_batch_size`` None becomes 1 on CPU.
        **collaborators: Other keyword arguments of ``train_step``.

    Returns:
        ``step(state, sharded_batch) -> (state, metrics)``; the state given is
        donated. The first call compiles, for its shapes.
    """
    if config.micro_batch_size is None and jax.default_backend() == "cpu":
        config = dataclasses.replace(config, micro_batch_size=1)
    mapped = jax.pmap(
        functools.partial(steps.train_step, config=config, **collaborators),
        axis_name=steps.BATCH_AXIS,
        in_axes=(None, 0),
        out_axes=None,
        donate_argnums=0,
    )
    compiled = shardings = None

    def step(state, batch):
        nonlocal compiled, shardings
        if compiled is None:
            compiled = mapped.lower(state, batch).compile()
            shardings, _ = compiled.input_shardings
            _return_freed_memory()
        # A restored state lies on one device.
        return compiled(*jax.device_put((state, batch), shardings))

    return step


def _return_freed_memory() -> None:
    """Give back what the compiler used: 0.5 GB for EDVR-M, which glibc would keep."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


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
