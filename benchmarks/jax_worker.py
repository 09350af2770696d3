"""The JAX side of against_torch.py; needs edvr_jax."""

import argparse
import os
from pathlib import Path
from typing import Literal

import cases
import jax
import jax.numpy as jnp
import numpy as np
from worker import Work, serve

from edvr_jax import cli
from edvr_jax.config import GuardConfig, ModelConfig, OptimConfig
from edvr_jax.models import create_model
from edvr_jax.ops import deform_conv2d
from edvr_jax.restore.restorer import restore_frames
from edvr_jax.train import optim, parallel
from edvr_jax.train.state import initial_state
from edvr_jax.weights import torch_files


def main():
    """Set the framework up, then serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), required=True)
    parser.add_argument("--precision", required=True)
    arguments = parser.parse_args()
    cli.use_fast_cpu_convolutions()
    if arguments.device == "gpu" and arguments.precision == "float32":
        jax.config.update("jax_default_matmul_precision", "highest")
    builder = Builder(arguments.precision)
    about = {
        "jax": jax.__version__,
        "threads": len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
    }
    serve(about, builder.build, device_peak_bytes)


def device_peak_bytes() -> int | None:
    """Most memory used on the accelerator since the process started."""
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else None


class Builder:
    """Makes the work of a case in one computation type."""

    def __init__(self, precision: str):
        self.dtype: Literal["bfloat16", "float32"] = "float32"
        if precision == "bfloat16":
            self.dtype = "bfloat16"

    def build(
        self, name: cases.Name, weights: str, *, is_tiny: bool
    ) -> tuple[Work, int]:
        """Return a case's work and its number of warm-up runs."""
        case = cases.get(name, is_tiny=is_tiny)
        inputs = cases.draw_inputs(case)
        if case.work in ("forward", "backward", "gradient"):
            return self._deform_conv(case, inputs), case.num_warm_up
        config = ModelConfig(**case.model, dtype=self.dtype)
        _, params = torch_files.from_torch(Path(weights))
        make = {
            "window": self._window,
            "stream": self._stream,
            "train_step": self._train_step,
        }[case.work]
        return make(config, params, inputs), case.num_warm_up

    def _deform_conv(self, case, inputs):
        names = ("x", "offset", "mask", "kernel", "bias")
        halved = ("x", "kernel")  # positions and masks stay float32
        arguments = tuple(
            jnp.asarray(inputs[name], self.dtype if name in halved else jnp.float32)
            for name in names
        )
        cotangent = jnp.asarray(inputs["cotangent"], self.dtype)

        def gradients(values):
            return {
                name: np.asarray(value, np.float32)
                for name, value in zip(names, values, strict=True)
            }

        def output(out):
            return {"out": np.asarray(out, np.float32)}

        if case.work == "forward":
            forward = jax.jit(deform_conv2d)
            return Work(lambda _: jax.block_until_ready(forward(*arguments)), output)
        if case.work == "backward":
            linearize = jax.jit(lambda *values: jax.vjp(deform_conv2d, *values)[1])
            backward = jax.jit(lambda vjp, cotangent: vjp(cotangent))
            return Work(
                lambda vjp: jax.block_until_ready(backward(vjp, cotangent)),
                gradients,
                lambda: jax.block_until_ready(linearize(*arguments)),
            )

        @jax.jit
        def both(arguments, cotangent):
            out, vjp = jax.vjp(deform_conv2d, *arguments)
            return out, vjp(cotangent)

        return Work(
            lambda _: jax.block_until_ready(both(arguments, cotangent)),
            lambda result: output(result[0]) | gradients(result[1]),
        )

    def _window(self, config, params, inputs):
        model = create_model(config)
        params, frames = jax.device_put((params, inputs["frames"]))
        restore = jax.jit(
            lambda params, frames: model.apply({"params": params}, frames)
        )
        return Work(
            lambda _: jax.block_until_ready(restore(params, frames)),
            lambda out: {"out": np.asarray(out)},
        )

    def _stream(self, config, params, inputs):
        params = jax.device_put(params)

        def run(_):
            frames = iter(inputs["frames"])
            return np.stack(
                list(restore_frames(config, params, frames, padding="replicate"))
            )

        return Work(run, lambda out: {"out": out})

    def _train_step(self, config, params, inputs):
        options = OptimConfig(
            peak_lr=cases.LEARNING_RATE,
            eta_min=cases.LEARNING_RATE,  # a constant rate
            b1=cases.BETAS[0],
            b2=cases.BETAS[1],
            ema_decay=cases.EMA_DECAY,
            charbonnier_eps=cases.CHARBONNIER_EPS,
        )
        optimizer = optim.create_optimizer(options)
        step = parallel.ParallelTrainStep(
            model=create_model(config),
            optimizer=optimizer,
            config=options,
            guard=GuardConfig(),
        )
        state = initial_state(jax.device_put(params), optimizer)
        batch = parallel.shard({key: jnp.asarray(v) for key, v in inputs.items()})
        losses = []

        def run(_):
            nonlocal state
            state, metrics = step(state, batch)
            jax.block_until_ready(state)
            losses.append(float(metrics["loss"]))

        return Work(run, lambda _: {"losses": np.array(losses)})


if __name__ == "__main__":
    main()
