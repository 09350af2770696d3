"""The only file that maps and shards: devices, processes, and what they agree on.

``jax.pmap`` is in maintenance mode, and is jit(shard_map) underneath. Only this file
uses it, so that replacing it will be a change of one file. The state is an ordinary
tree, replicated by ``in_axes=None``; no other file depends on the number of devices.
"""

import ctypes
import dataclasses
import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.experimental import multihost_utils

from edvr_jax.config import GuardConfig, OptimConfig
from edvr_jax.errors import InputError, first_line
from edvr_jax.ops import conv
from edvr_jax.train import losses, steps
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
        mode: auto: if the environment, or an argument, names several processes; on:
            always, JAX then finds their number; off: never.
        coordinator: Address of process 0, ``host:port``; None queries the cluster.
        num_processes: Processes of the job; None queries the cluster.
        process_id: Number of this process; None queries the cluster.

    Raises:
        InputError: if the processes cannot be joined.
    """
    named = {
        "coordinator_address": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    named = {key: value for key, value in named.items() if value is not None}
    is_wanted = mode == "on" or named or _is_launched_as_job(os.environ)
    if mode == "off" or not is_wanted:
        return
    try:
        jax.distributed.initialize(**named)  # pyright: ignore[reportArgumentType]
    except (ValueError, RuntimeError, OSError, IndexError) as error:
        raise InputError(
            f"the processes of the job cannot be joined: {first_line(error)}; give "
            "--coordinator, --num-processes and --process-id, or --distributed off"
        ) from None


def _is_launched_as_job(environment: Mapping[str, str]) -> bool:
    """Return whether a launcher has started several processes that JAX can join."""

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


class ParallelTrainStep:
    """:func:`edvr_jax.train.steps.train_step` on all devices of all processes.

    The first call compiles, for the shapes of its arguments.

    Args:
        model: As for ``train_step``, and so are the others.
        optimizer: Optimizer that made ``state.opt_state``.
        config: Loss and averaging; ``micro_batch_size`` None becomes 1 on CPU.
        guard: When the update is skipped.
        loss: Loss of a window in place of the configuration's; None is that.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: optax.GradientTransformationExtraArgs,
        config: OptimConfig,
        guard: GuardConfig,
        loss: losses.Loss | None = None,
    ):
        if config.micro_batch_size is None and jax.default_backend() == "cpu":
            config = dataclasses.replace(config, micro_batch_size=1)
        self._mapped: Any = jax.pmap(
            functools.partial(
                steps.train_step,
                model=model,
                optimizer=optimizer,
                config=config,
                guard=guard,
                loss=loss,
            ),
            axis_name=steps.BATCH_AXIS,
            in_axes=(None, 0),
            out_axes=None,
            donate_argnums=0,
        )
        self._compiled = self._shardings = None

    def __call__(
        self, state: TrainState, batch: steps.Batch
    ) -> tuple[TrainState, steps.Metrics]:
        """Make a step.

        Args:
            state: State before the step; donated.
            batch: This process's windows, from :func:`shard`.

        Returns:
            State after the step, and the metrics of ``train_step``.
        """
        if self._compiled is None or self._shardings is None:
            # Lowering for several processes refuses arrays of other processes.
            examples = jax.device_get(state) if is_job() else state
            self._compiled = self._compile(examples, batch)
            self._shardings, _ = self._compiled.input_shardings
            _return_freed_memory()
        # A restored state may be on other devices.
        state_shardings, batch_shardings = self._shardings
        return self._compiled(
            _replicate(state, state_shardings),
            jax.tree.map(
                jax.make_array_from_process_local_data, batch_shardings, batch
            ),
        )

    def memory(self, state: Any, batch: Any) -> int:
        """Compile for these shapes, and return the bytes that each device needs.

        Args:
            state: State, or its shapes.
            batch: Shapes of a batch from :func:`shard`.

        Returns:
            Arguments, results and temporaries, as the compiler plans them.
        """
        plan = self._compile(state, batch).memory_analysis()
        return (
            plan.argument_size_in_bytes
            + plan.output_size_in_bytes
            + plan.temp_size_in_bytes
            - plan.alias_size_in_bytes
        )

    def _compile(self, state: Any, batch: Any) -> Any:
        lowered = self._mapped.lower(state, batch)
        return lowered.compile(compiler_options=conv.compiler_options())


def replicate(tree: Any) -> Any:
    """Copy a tree that every process has to all devices."""
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
    """Return the sharding of an array with a copy on every device."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), (steps.BATCH_AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def local(tree: Any) -> Any:
    """Return a replicated tree on this process's first device."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _return_freed_memory() -> None:
    """Return the compiler's memory to the system: 0.5 GB for EDVR-M; glibc keeps it."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def shard(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Split this process's windows over its devices.

    Args:
        batch: Arrays whose first axis is the windows, of any number.

    Returns:
        The arrays with the devices as a new first axis. If the devices cannot share
        the windows evenly, some are repeated with ``weight`` 0, the others have 1.
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
        Mean of the finite values of each name, in float64: infinite if no value is
        finite. Names without values are left out.
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


def all_agree(holds: bool) -> bool:  # noqa: FBT001
    """Return whether a condition holds in every process; all of them must call this."""
    if not is_job():
        return holds
    return bool(np.all(multihost_utils.process_allgather(np.asarray(holds))))


def is_job() -> bool:
    """Return whether there are several processes."""
    return jax.process_count() > 1


def is_main() -> bool:
    """Return whether this process writes what only one process may write."""
    return jax.process_index() == 0


# Last step passed to JAX's preemption service; global because it outlives a run.
_last_synced = [0]


def reached_preemption(step: int) -> bool:
    """Return whether all processes should stop after this step: one got SIGTERM.

    All processes call this after the same steps. JAX agrees on the number that follows
    the last one passed to it. So that number is passed too where the steps jump: after
    a restart, in the next run of a chain, after a rollback.
    """
    if not is_job():
        return False
    following, _last_synced[0] = _last_synced[0] + 1, step
    numbers = [step] if step == following else [following, step]
    # A list, since a generator would stop at the first: every number must be passed.
    reached = [multihost_utils.reached_preemption_sync_point(n) for n in numbers]
    return any(reached)
