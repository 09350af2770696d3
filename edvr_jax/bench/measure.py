"""Timing of the parts that decide the speed, and their distance from the limit.

A case states its work by arithmetic: the multiply-accumulates of its convolutions,
two operations each, and the bytes that they read and write if every array moves
once. Dividing by the measured time, and by what the machine reaches in a matrix
product and in a copy, gives the shares of the limit.

Every case runs in a separate process, so that each peak of memory is its own.
"""

import atexit
import concurrent.futures
import dataclasses
import importlib
import itertools
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from edvr_jax.bench import throughput
from edvr_jax.config import GuardConfig, ModelConfig, OptimConfig
from edvr_jax.models import cost, create_model
from edvr_jax.models import params as params_lib
from edvr_jax.ops import deform_conv2d
from edvr_jax.restore.restorer import restore_frames

CaseName = Literal[
    "matmul",
    "copy",
    "deform_conv",
    "deform_conv_gradient",
    "window_m",
    "window_l",
    "stream_m",
    "train_step_m",
    "data_records",
    "data_png",
    "data_video",
    "data_made",
]
DEFAULT_CASES: tuple[CaseName, ...] = tuple(
    case for case in get_args(CaseName) if not case.startswith("data_")
)
# What the machine can do, for every other case to be compared with.
REFERENCES: tuple[CaseName, ...] = ("matmul", "copy")
Dtype = Literal["float32", "bfloat16"]

# EDVR-L; EDVR-M is the default configuration.
LARGE = ModelConfig(num_features=128, num_reconstruct_blocks=40)

_WINDOW_SIZE = (64, 112)
_CROP_SIZE = (64, 64)
_CLIP_FRAMES = 20
_BATCH_SIZE = 2
_BATCHES_PER_RUN = 8  # more than wait in the pipeline's queues


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One case, measured.

    Attributes:
        case: Its name.
        summary: What one run computes.
        flops: Operations of one run, counted from shapes.
        bytes: Bytes that one run moves at least, counted from shapes.
        items: Restored frames, or windows to train on, that one run makes; 0 if none.
        cores: Processor seconds per second while the timed runs were made.
        compile_s: Seconds from the first call to its result, less one run.
        median_s: Median of the timed runs in seconds.
        quartiles_s: First and third quartile.
        host_peak_bytes: Most memory of the process; None where that is unknown.
        device_peak_bytes: Most memory of the accelerator; None without one.
    """

    case: str
    summary: str
    flops: int
    bytes: int
    items: int
    cores: float
    compile_s: float
    median_s: float
    quartiles_s: tuple[float, float]
    host_peak_bytes: int | None
    device_peak_bytes: int | None


@dataclasses.dataclass(frozen=True)
class _Work:
    summary: str
    flops: int
    bytes: int
    run: Callable[[], Any]
    items: int = 0


def measure_all(
    cases: Sequence[CaseName], *, dtype: Dtype, repeats: int
) -> Iterator[Measurement]:
    """Measure the references, then cases, each in a new process.

    Args:
        cases: What to measure beside the references.
        dtype: Computation type.
        repeats: Timed runs of each case, after one that compiles and one to warm up.

    Yields:
        The measurements, as they are ready.

    Raises:
        InputError: if a case trains or loads windows, and the extra "train" is missing.
    """
    if any(case.startswith(("train_", "data_")) for case in cases):
        importlib.import_module("edvr_jax.train")
    with concurrent.futures.ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1,
    ) as pool:
        for case in dict.fromkeys((*REFERENCES, *cases)):
            yield pool.submit(measure, case, dtype=dtype, repeats=repeats).result()


def measure(case: CaseName, *, dtype: Dtype, repeats: int) -> Measurement:
    """Measure one case in this process; arguments as for :func:`measure_all`."""
    return _measure(case, lambda: _prepare(case, dtype), repeats)


def measure_window(
    config: ModelConfig, size: tuple[int, int], *, repeats: int
) -> Measurement:
    """Measure the forward pass of one window of any network in this process.

    Args:
        config: The network.
        size: Height and width of the frames.
        repeats: Timed runs, after one that compiles and one to warm up.
    """
    return _measure("window", lambda: _window("EDVR", config, size), repeats)


def _measure(name: str, prepare: Callable[[], _Work], repeats: int) -> Measurement:
    jax.config.update("jax_enable_compilation_cache", False)  # its time is a result
    work = prepare()
    first_s, _ = [_time(work.run) for _ in range(2)]
    busy = time.process_time()
    seconds = [_time(work.run) for _ in range(repeats)]
    busy = time.process_time() - busy
    low, median, high = np.percentile(seconds, (25, 50, 75)).tolist()
    stats = jax.devices()[0].memory_stats()
    return Measurement(
        case=name,
        summary=work.summary,
        flops=work.flops,
        bytes=work.bytes,
        items=work.items,
        cores=busy / sum(seconds),
        compile_s=max(0.0, first_s - median),
        median_s=median,
        quartiles_s=(low, high),
        host_peak_bytes=_host_peak_bytes(),
        device_peak_bytes=stats["peak_bytes_in_use"] if stats else None,
    )


def _time(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def _host_peak_bytes() -> int | None:
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def _prepare(case: CaseName, dtype: Dtype) -> _Work:
    config = ModelConfig(dtype=dtype)
    if case == "matmul":
        return _matmul(dtype)
    if case == "copy":
        return _copy()
    if case in ("deform_conv", "deform_conv_gradient"):
        return _deform_conv(dtype, with_gradient=case == "deform_conv_gradient")
    if case == "window_m":
        return _window("EDVR-M", config)
    if case == "window_l":
        return _window("EDVR-L", dataclasses.replace(LARGE, dtype=dtype))
    if case == "stream_m":
        return _stream(config)
    if case == "train_step_m":
        return _train_step(config)
    return _data(case)


def _matmul(dtype: Dtype) -> _Work:
    """The reference for operations: a product of square matrices."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    return _Work(
        f"matrix product {size}x{size}x{size}",
        2 * size**3,
        3 * matrix.nbytes,
        lambda: product(matrix, matrix),
    )


def _copy() -> _Work:
    """The reference for bytes: an array read and written, in place."""
    array = jnp.ones(2**26)
    negate = jax.jit(jnp.negative, donate_argnums=0)

    def run():
        nonlocal array
        array = negate(array)
        return array

    return _Work(f"copy of {array.nbytes >> 20} MiB", 0, 2 * array.nbytes, run)


def _deform_conv(dtype: Dtype, *, with_gradient: bool) -> _Work:
    """The largest deformable convolution of an EDVR-M window."""
    n, (height, width), channels, groups = 5, _CROP_SIZE, 64, 8
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    arguments = (
        normal(n, height, width, channels).astype(dtype),
        normal(n, height, width, groups, 9, 2),
        jnp.asarray(rng.random((n, height, width, groups, 9), np.float32)),
        normal(3, 3, channels, channels).astype(dtype) / 24,
        normal(channels),
    )
    # The contraction; with gradients it and the two of its gradients.
    flops = 2 * n * height * width * 9 * channels**2
    moved = sum(a.nbytes for a in arguments) + arguments[0].nbytes
    summary = f"{n}x{height}x{width}x{channels}, {groups} groups"
    if not with_gradient:
        forward = jax.jit(deform_conv2d)
        return _Work(summary, flops, moved, lambda: forward(*arguments))
    gradient = jax.jit(
        jax.grad(lambda *a: deform_conv2d(*a).astype(jnp.float32).sum(), range(5))
    )
    return _Work(
        f"{summary}, forward and gradients",
        3 * flops,
        2 * moved,
        lambda: gradient(*arguments),
    )


def _random_params(config: ModelConfig) -> Any:
    """Parameters whose offsets are about a pixel large; those of a new network are 0.

    Sampling would look cheaper than it is without them.
    """
    rng = np.random.default_rng(0)
    flat = {}
    for name, shape in params_lib.shapes(config).items():
        is_offset = "conv_offset" in name
        scale = 1.0 if is_offset else 0.05
        if name.endswith("kernel"):
            scale = (0.1 if is_offset else 0.5) / math.sqrt(math.prod(shape[:3]))
        flat[name] = scale * rng.standard_normal(shape, np.float32)
    return jax.device_put(params_lib.unflatten(flat))


def _window(
    title: str, config: ModelConfig, size: tuple[int, int] = _WINDOW_SIZE
) -> _Work:
    height, width = size
    frames = jnp.asarray(_random_frames(1, config.num_frames, height, width))
    model, params = create_model(config), _random_params(config)
    restore = jax.jit(lambda params, frames: model.apply({"params": params}, frames))
    return _Work(
        f"{title}, a window of {config.num_frames}x{height}x{width}, x{config.scale}",
        2 * cost.macs(config, height, width),
        cost.feature_bytes(config, height, width),
        lambda: restore(params, frames),
        items=1,
    )


def _stream(config: ModelConfig) -> _Work:
    height, width = _WINDOW_SIZE
    clip = _random_frames(_CLIP_FRAMES, height, width)
    params = _random_params(config)
    flops = 2 * cost.macs(config, height, width, is_streaming=True)
    moved = cost.feature_bytes(config, height, width, is_streaming=True)
    return _Work(
        f"EDVR-M, a clip of {_CLIP_FRAMES} frames of {height}x{width}, x{config.scale}",
        _CLIP_FRAMES * flops,
        _CLIP_FRAMES * moved,
        lambda: list(restore_frames(config, params, clip)),
        items=_CLIP_FRAMES,
    )


def _train_step(config: ModelConfig) -> _Work:
    from edvr_jax.train import optim, parallel
    from edvr_jax.train import state as state_lib

    height, width = _CROP_SIZE
    count = _BATCH_SIZE * jax.local_device_count()
    options = OptimConfig()
    optimizer = optim.create_optimizer(options)
    step = parallel.ParallelTrainStep(
        model=create_model(config),
        optimizer=optimizer,
        config=options,
        guard=GuardConfig(),
    )
    state = state_lib.initial_state(_random_params(config), optimizer)
    scale = config.output_scale
    batch = parallel.shard(
        {
            "lq": _random_frames(count, config.num_frames, height, width),
            "gt": _random_frames(count, height * scale, width * scale),
        }
    )

    def run():
        nonlocal state
        state, _ = step(state, batch)  # donates the state
        return state

    # The forward pass and the gradients to the features and to the kernels.
    return _Work(
        f"EDVR-M, {count} windows of {config.num_frames}x{height}x{width}",
        3 * 2 * count * cost.macs(config, height, width),
        3 * count * cost.feature_bytes(config, height, width),
        run,
        items=count,
    )


def _data(case: CaseName) -> _Work:
    """Batches of the EDVR-M recipe, the degraded frames read or, from PNG, made."""
    kind: throughput.Kind = "png"
    if case == "data_records":
        kind = "records"
    elif case == "data_video":
        kind = "video"
    lq = "made" if case == "data_made" else "given"
    folder = tempfile.TemporaryDirectory(prefix="edvr_bench_")
    batches = throughput.open_pipeline(kind, Path(folder.name), lq=lq)
    *_, batch = itertools.islice(batches, throughput.NUM_WARM_UP)
    count = _BATCHES_PER_RUN * len(batch["gt"])
    moved = _BATCHES_PER_RUN * sum(array.nbytes for array in jax.tree.leaves(batch))
    atexit.register(folder.cleanup)
    return _Work(
        f"{count} windows of {batch['lq'].shape[1]} frames from {kind}, x4 {lq}",
        0,
        moved,
        lambda: [next(batches) for _ in range(_BATCHES_PER_RUN)],
        items=count,
    )


def _random_frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random((*shape, 3), np.float32)
