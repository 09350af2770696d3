"""The only file that knows about devices and processes: mapping, sharding, signals.

``jax.pmap`` is in maintenance mode and is jit(shard_map) underneath; keeping it
in one file makes a change small. The state is an ordinary tree, replicated by
``in_axes=None``, so nothing else depends on the number of devices.
"""

import ctypes
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import multihost_utils

from edvr_jax.config import OptimConfig
from edvr_jax.errors import InputError, first_line
from edvr_jax.ops import conv
from edvr_jax.train import steps
from edvr_jax.train.state import TrainState


def initialize(
    mode: Literal["auto", "on", "off"] = "auto",
    *,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Join the processes of a job, before any device is used.

    Args:
        mode: auto: if the environment, or an argument, says that there are several
            processes; on: always, JAX then finds out how many; off: never.
        coordinator: Address of process 0, ``host:port``; None asks the cluster.
        num_processes: Processes of the job; None asks the cluster.
        process_id: Number of this process; None asks the cluster.

    Raises:
        InputError: if the processes cannot be joined.
    """
    given = {
        "coordinator_address": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if mode == "off" or (
        mode == "auto" and not given and not _is_launched_as_job(os.environ)
    ):
        return
    try:
        jax.distributed.initialize(**given)  # pyright: ignore[reportArgumentType]
    except (ValueError, RuntimeError, OSError, IndexError) as error:
        raise InputError(
            f"the processes of the job cannot be joined: {first_line(error)}; give "
            "--coordinator, --num-processes and --process-id, or --distributed off"
        ) from None


def _is_launched_as_job(environment: Mapping[str, str]) -> bool:
    """Tell whether a launcher has started several processes that JAX can join."""

    def number(name: str) -> int:
        value = environment.get(name, "")
        return int(value) if value.isdigit() else 1

    # In an allocation but outside of srun there is no step.
    is_slurm = "SLURM_STEP_NODELIST" in environment and number("SLURM_NTASKS") > 1
    is_mpi = number("OMPI_COMM_WORLD_SIZE") > 1
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get(
        "TPU_WORKER_HOSTNAMES", ""
    )
    is_kubernetes = (
        "KUBERNETES_SERVICE_HOST" in environment
        and "JOB_COMPLETION_INDEX" in environment
    )
    return is_slurm or is_mpi or "," in hosts or is_kubernetes


class _Asked:
    """The last number given to JAX's preemption service, which lives as long."""

    step = 0


_asked = _Asked()


def parallel_train_step(
    *, config: OptimConfig, **collaborators: Any
) -> Callable[[TrainState, steps.Batch], tuple[TrainState, steps.Metrics]]:
    """Map :func:`edvr_jax.train.steps.train_step` over all devices of all processes.

    Args:
        config: As for ``train_step``; ``micro_batch_size`` None becomes 1 on CPU.
        **collaborators: Other keyword arguments of ``train_step``.

    Returns:
        ``step(state, batch) -> (state, metrics)``, with the batch from :func:`shard`;
        the state given is donated. The first call compiles, for its shapes.
    """
    mapped = _map_train_step(config, collaborators)
    compiled = shardings = None

    def step(state, batch):
        nonlocal compiled, shardings
        if compiled is None:
            # Arrays of NumPy, since lowering for several processes takes others away.
            examples = jax.device_get(state) if is_job() else state
            lowered = mapped.lower(examples, batch)
            compiled = lowered.compile(compiler_options=conv.compiler_options())
            shardings, _ = compiled.input_shardings
            _return_freed_memory()
        # A restored state may lie on other devices.
        assert shardings is not None
        state_shardings, batch_shardings = shardings
        return compiled(
            _replicate(state, state_shardings),
            jax.tree.map(
                jax.make_array_from_process_local_data, batch_shardings, batch
            ),
        )

    return step


def train_step_memory(
    state: Any, batch: Any, *, config: OptimConfig, **collaborators: Any
) -> int:
    """Compile the training step, and return the bytes that a device needs for it.

    Args:
        state: State, or its shapes.
        batch: Shapes of a batch from :func:`shard`.
        config: As for :func:`parallel_train_step`.
        **collaborators: As for :func:`parallel_train_step`.

    Returns:
        Arguments, results and temporaries, as the compiler plans them.
    """
    mapped = _map_train_step(config, collaborators)
    lowered = mapped.lower(state, batch)
    compiled = lowered.compile(compiler_options=conv.compiler_options())
    plan = compiled.memory_analysis()
    return (
        plan.argument_size_in_bytes
        + plan.output_size_in_bytes
        + plan.temp_size_in_bytes
        - plan.alias_size_in_bytes
    )


def _map_train_step(config: OptimConfig, collaborators: Mapping[str, Any]) -> Any:
    if config.micro_batch_size is None and jax.default_backend() == "cpu":
        config = dataclasses.replace(config, micro_batch_size=1)
    return jax.pmap(
        functools.partial(steps.train_step, config=config, **collaborators),
        axis_name=steps.BATCH_AXIS,
        in_axes=(None, 0),
        out_axes=None,
        donate_argnums=0,
    )


def replicate(tree: Any) -> Any:
    """Put a tree that every process has on all devices."""
    sharding = replicated()
    return _replicate(tree, jax.tree.map(lambda _: sharding, tree))


def _replicate(tree: Any, shardings: Any) -> Any:
    if not is_job():
        return jax.device_put(tree, shardings)  # one call, since every step makes it

    def put(value, sharding):
        if isinstance(value, jax.Array) and not value.is_fully_addressable:
            return value
        return jax.make_array_from_process_local_data(
            sharding, np.asarray(value), np.shape(value)
        )

    return jax.tree.map(put, tree, shardings)


def replicated() -> jax.sharding.Sharding:
    """Return the sharding of an array that every device of every process has."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), (steps.BATCH_AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def local(tree: Any) -> Any:
    """Return a replicated tree on this process's first device."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _return_freed_memory() -> None:
    """Give back what the compiler used: 0.5 GB for EDVR-M, which glibc would keep."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def parallel_gradients(**collaborators: Any) -> Callable:
    """Map :func:`edvr_jax.train.steps.global_gradients` over all devices."""
    return jax.pmap(
        functools.partial(steps.global_gradients, **collaborators),
        axis_name=steps.BATCH_AXIS,
        in_axes=(None, 0),
        out_axes=None,
    )


def shard(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Split this process's windows over its devices.

    Args:
        batch: Arrays with the windows as their first axis, as many as you like.

    Returns:
        The arrays with the devices as a further first axis. If the devices cannot
        share the windows evenly, some are repeated and ``weight`` says which count.
    """
    num_devices = jax.local_device_count()
    count = len(next(iter(batch.values())))
    padded = -(-count // num_devices) * num_devices
    arrays = {name: np.asarray(x) for name, x in batch.items()}
    if padded != count:
        order = np.arange(padded)
        arrays = {name: x[order % count] for name, x in arrays.items()}
        arrays["weight"] = (order < count).astype(np.float32)
    return {
        name: x.reshape(num_devices, -1, *x.shape[1:]) for name, x in arrays.items()
    }


def mean_over_processes(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Average values over all processes.

    Args:
        values: Values of this process, under the same names in every process.

    Returns:
        Mean of the finite values of each name, in float64; infinite if there are none
        that are finite, left out if there are none at all.
    """
    names = sorted(values)
    if not names:
        return {}
    every = [np.asarray(values[name], np.float64) for name in names]
    finite = [array[np.isfinite(array)] for array in every]
    numbers = np.array(
        [(x.sum(), x.size, array.size) for x, array in zip(finite, every, strict=True)],
        np.float64,
    )
    # As bytes: JAX would round to float32.
    found = multihost_utils.process_allgather(numbers.view(np.uint8))
    totals = np.asarray(found).reshape(-1).view(np.float64)
    totals = totals.reshape(-1, len(names), 3).sum(axis=0)
    return {
        name: float(total / num_finite) if num_finite else math.inf
        for name, (total, num_finite, count) in zip(names, totals, strict=True)
        if count
    }


def wait_for_all(name: str) -> None:
    """Wait until every process is here."""
    multihost_utils.sync_global_devices(name)


def all_agree(is_right: bool) -> bool:  # noqa: FBT001
    """Return whether something holds in every process; each must call this."""
    if not is_job():
        return is_right
    return bool(np.all(multihost_utils.process_allgather(np.asarray(is_right))))


def process_index() -> int:
    """Return the number of this process."""
    return jax.process_index()


def process_count() -> int:
    """Return the number of processes."""
    return jax.process_count()


def is_job() -> bool:
    """Tell whether there are several processes."""
    return process_count() > 1


def is_main() -> bool:
    """Tell whether this is the process that writes what only one may write."""
    return process_index() == 0


def reached_preemption(step: int) -> bool:
    """Tell whether all processes should stop after this step: one got SIGTERM.

    All processes ask after the same steps. JAX agrees on the number that follows the
    last one asked, so that one is asked as well where the numbers jump: after a
    restart, in the next run of a chain, after going back.
    """
    if not is_job():
        return False
    following, _asked.step = _asked.step + 1, step
    numbers = [step] if step == following else [following, step]
    # Without a short cut: every number must be queried.
    reached = [multihost_utils.reached_preemption_sync_point(n) for n in numbers]
    return any(reached)
