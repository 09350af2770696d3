"""Describe a run without training: settings, parameters, operations, memory."""

import jax
import numpy as np

from edvr_jax import config as config_lib
from edvr_jax.config import CascadeConfig, Config, Phase
from edvr_jax.data.windows import flow_pixel
from edvr_jax.models import cost, create_model
from edvr_jax.models import params as params_lib
from edvr_jax.train import optim, parallel
from edvr_jax.train.reporter import Log
from edvr_jax.train.state import create_train_state


def describe(phase: Phase, *, log: Log) -> None:
    """Report settings, parameters, operations and memory of a run.

    The memory is what the compiler plans for the training step on each device of this
    machine. The compiler itself and the data need more.

    Args:
        phase: The run.
        log: Called with each line.
    """
    config = phase.config
    log(f"{phase.name}: {config_lib.to_json(config)}")
    log(f"{phase.name}: {params_lib.count(config.model):,} parameters")
    for name, macs in _macs(config).items():
        log(f"{phase.name}: {macs / 1e9:.1f} G multiply-accumulates, {name}")
    log(f"{phase.name}: compiling the training step for the memory estimate ...")
    step = parallel.ParallelTrainStep(
        model=create_model(config.model),
        optimizer=optim.create_optimizer(config.optim),
        config=config.optim,
        guard=config.guard,
    )
    state = jax.eval_shape(lambda: create_train_state(config))
    gibibytes = step.memory(state, _batch_shapes(config)) / 2**30
    log(
        f"{phase.name}: {gibibytes:.2f} GiB per device for the training step, "
        f"{jax.device_count()} devices"
    )


def _macs(config: Config) -> dict[str, int]:
    """Count the operations of one window of the training size, forward."""
    size = config.data.gt_crop // config.model.output_scale
    if not isinstance(config.model, CascadeConfig):
        return {"forward, per window": cost.macs(config.model, size, size)}
    stage1, stage2 = config.model.stage1, config.model.stage2
    return {
        "stage 1 forward, per window": cost.macs(stage1, size, size, is_streaming=True)
        * stage2.num_frames,
        "stage 2 forward, per window": cost.macs(
            stage2, config.data.gt_crop, config.data.gt_crop
        ),
    }


def _batch_shapes(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
    size, model = config.data.gt_crop, config.model
    small, count = size // model.output_scale, config.data.batch_size
    zeros: dict[str, np.ndarray] = {
        "lq": np.broadcast_to(
            np.uint8(0), (count, model.num_frames, small, small, model.in_channels)
        ),
        "gt": np.broadcast_to(np.uint8(0), (count, size, size, model.out_channels)),
    }
    pixel = flow_pixel(config)
    if pixel is not None:
        shape = (count, model.num_frames, size // pixel, size // pixel, 2)
        zeros["flow"] = np.broadcast_to(np.float16(0), shape)
    if config.optim.fidelity.alone:
        del zeros["gt"]
    return {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype)
        for name, x in parallel.shard(zeros).items()
    }
