"""What XLA's compilers plan for edvr_jax on a TPU or a GPU, without one.

    pip install libtpu                                    # TPUs
    pip install jax-cuda12-plugin jax-cuda12-pjrt         # GPUs, of jax's version
    python benchmarks/accelerators.py --topologies v5e h100 --json plans.json

Nothing is run: the compiler's own estimates are printed. Each row is one program:
temporaries (the memory beside arguments and results), bytes and operations by the
compiler's cost model, estimated cycles, the cycles by part of the network, and the
seconds of compilation. The body of a loop counts once in bytes and operations; in
cycles it counts as often as it runs, where the compiler states that number. An
instruction without an estimate, such as a gather, counts nothing: these are plans, not
measurements. For GPUs the compiler states temporaries and nothing else.
"""

import collections
import dataclasses
import functools
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from cases import L
from estimates import estimate_cycles
from jax.experimental import topologies

from edvr_jax.commands import output
from edvr_jax.config import GuardConfig, ModelConfig, OptimConfig
from edvr_jax.errors import INTERRUPTED, InputError, first_line
from edvr_jax.models import create_model, params
from edvr_jax.ops import deform_conv2d
from edvr_jax.train import optim, steps
from edvr_jax.train.state import initial_state

# libtpu looks for a TPU that is not there.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

Case = Literal["deform_conv", "deform_conv_gradient", "window_m", "window_l", "train_m"]
Topology = Literal["v5e", "v5p", "v6e", "h100"]
Dtype = Literal["float32", "bfloat16"]

# Names of the smallest topologies that libtpu knows, and of some with more chips.
TOPOLOGIES = {
    ("v5e", 1): "v5e:2x2",
    ("v5e", 4): "v5e:2x2",
    ("v5e", 16): "v5e:4x4",
    ("v5p", 1): "v5p:2x2x1",
    ("v5p", 4): "v5p:2x2x1",
    ("v5p", 16): "v5p:2x2x4",
    ("v6e", 1): "v6e:2x2",
    ("v6e", 4): "v6e:2x2",
    ("v6e", 16): "v6e:4x4",
}
# Facts of the card that the compiler wants (NVIDIA's data sheet and CUDA's tables).
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84978434048
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 1 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute")
WINDOW_SIZE = (180, 320)
CROP_SIZE = (64, 64)
WINDOWS_PER_CHIP = 4
HEADER = ["case", "on", "type", "temp MiB", "GB", "GFLOP", "Mcycles", "compile s"]


@dataclasses.dataclass(frozen=True)
class Accelerators:
    """Compile edvr_jax for accelerators that are not here, and print the plans.

    Attributes:
        cases: Programs: a deformable convolution of the window's first level, a window
            of EDVR-M or EDVR-L, a training step of EDVR-M with 4 windows of 5x64x64
            for each chip.
        topologies: Generations of TPU, or a GPU.
        dtypes: Computation types.
        chips: Numbers of chips for the training step: 1, 4 or 16.
        max_offset: Limit of the network's offsets in pixels; None has none.
        json: Write all numbers to this file.
        compare: A file of --json to compare with.
        tiny: Shrink every case, to try the program.
    """

    cases: tuple[Case, ...] = get_args(Case)
    topologies: tuple[Topology, ...] = ("v5e",)
    dtypes: tuple[Dtype, ...] = ("bfloat16",)
    chips: tuple[int, ...] = (1,)
    max_offset: float | None = None
    json: Path | None = None
    compare: Path | None = None
    tiny: bool = False

    def run(self) -> None:
        """Compile everything and print a table."""
        output.check_writable(self.json)
        os.environ |= ENVIRONMENT
        jax.config.update("jax_platforms", "cpu")
        before = {}
        if self.compare is not None:
            rows = json.loads(self.compare.read_text())["rows"]
            before = {_label(row): row for row in rows}
        rows = []
        for topology, dtype, case in itertools.product(
            self.topologies, self.dtypes, self.cases
        ):
            for count in self.chips if case == "train_m" else (1,):
                rows.append(self._plan(case, topology, dtype, count))
                self._print(rows[-1], before.get(_label(rows[-1])))
        if self.json is not None:
            about = {"jax": jax.__version__, "note": __doc__}
            output.write_json(self.json, {**about, "rows": rows})

    def _plan(self, case: Case, topology: str, dtype: Dtype, count: int) -> dict:
        chips = _chips(topology, count)
        build = {
            "deform_conv": self._deform_conv,
            "deform_conv_gradient": self._deform_conv,
            "train_m": self._train_step,
        }.get(case, self._window)
        function, arguments = build(case, dtype, chips)
        began = time.perf_counter()
        compiled = function.lower(*arguments).compile()
        seconds = time.perf_counter() - began
        costs, text = compiled.cost_analysis() or {}, _text_of(compiled)
        return {
            "case": case,
            "topology": topology,
            "chips": count,
            "dtype": dtype,
            "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
            "bytes": costs.get("bytes accessed"),
            "flops": costs.get("flops"),
            "compile_s": seconds,
            **estimate_cycles(text),
            "collectives": dict(
                collections.Counter(
                    re.findall(rf" ({'|'.join(COLLECTIVES)})(?:-start)?\(", text)
                )
            ),
        }

    def _print(self, row: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
        table = [HEADER, _cells(row)]
        if before is not None:
            table.append(["", "", "before", *_cells(before)[3:]])
        sys.stdout.write(output.format_table(table))
        whole = max(1, row["cycles"])
        for part, cycles in list(row["cycles_by_part"].items())[:12]:
            sys.stdout.write(f"    {cycles / whole:5.1%} {part}\n")
        if row["collectives"]:
            sys.stdout.write(f"    collectives: {row['collectives']}\n")
        sys.stdout.flush()

    def _config(self, case: Case, dtype: Dtype) -> ModelConfig:
        options = L if case == "window_l" else {}
        if self.tiny:
            options = {
                "num_features": 8,
                "deformable_groups": 2,
                "num_extract_blocks": 1,
                "num_reconstruct_blocks": 1,
            }
        return ModelConfig(**options, dtype=dtype, max_offset=self.max_offset)

    def _size(self, case: Case) -> tuple[int, int]:
        if self.tiny:
            return 16, 16
        return CROP_SIZE if case == "train_m" else WINDOW_SIZE

    def _deform_conv(self, case, dtype, chips):
        config, (height, width) = self._config(case, dtype), self._size(case)
        channels, groups = config.num_features, config.deformable_groups
        shapes = {
            (config.num_frames, height, width, channels): dtype,
            (config.num_frames, height, width, groups, 9, 2): "float32",
            (config.num_frames, height, width, groups, 9): "float32",
            (3, 3, channels, channels): dtype,
            (channels,): dtype,
        }
        place = _placer(chips)
        arguments = [place(*item) for item in shapes.items()]
        if case == "deform_conv":
            return jax.jit(deform_conv2d), arguments

        def gradients(*arguments):
            out, vjp = jax.vjp(deform_conv2d, *arguments)
            return vjp(out)

        return jax.jit(gradients), arguments

    def _window(self, case, dtype, chips):
        config = self._config(case, dtype)
        model, place = create_model(config), _placer(chips)
        weights = params.unflatten(
            {
                name: place(shape, "float32")
                for name, shape in params.shapes(config).items()
            }
        )
        frames = place((1, config.num_frames, *self._size(case), 3), "float32")
        return jax.jit(lambda p, frames: model.apply({"params": p}, frames)), [
            weights,
            frames,
        ]

    def _train_step(self, case, dtype, chips):
        config, options = self._config(case, dtype), OptimConfig()
        height, width = self._size(case)
        optimizer = optim.create_optimizer(options)
        one_chip = functools.partial(
            steps.train_step,
            model=create_model(config),
            optimizer=optimizer,
            config=options,
            guard=GuardConfig(),
        )
        # What pmap makes of the step, for chips that are not here.
        mesh = jax.sharding.Mesh(np.array(chips), (steps.BATCH_AXIS,))
        whole, split = (
            jax.sharding.PartitionSpec(),
            jax.sharding.PartitionSpec(steps.BATCH_AXIS),
        )
        step = jax.shard_map(
            lambda state, batch: one_chip(state, jax.tree.map(lambda x: x[0], batch)),
            mesh=mesh,
            in_specs=(whole, split),
            out_specs=whole,
            check_vma=False,
        )
        zeros = params.unflatten(
            {name: jnp.zeros(shape) for name, shape in params.shapes(config).items()}
        )
        state = jax.eval_shape(lambda p: initial_state(p, optimizer), zeros)
        per_chip, scale = (len(chips), WINDOWS_PER_CHIP), config.output_scale
        batch = {
            "lq": (*per_chip, config.num_frames, height, width, 3),
            "gt": (*per_chip, height * scale, width * scale, 3),
        }

        def place(spec, shape, dtype):
            sharding = jax.sharding.NamedSharding(mesh, spec)
            return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

        return jax.jit(step, donate_argnums=0), [
            jax.tree.map(lambda x: place(whole, x.shape, x.dtype), state),
            {name: place(split, shape, np.uint8) for name, shape in batch.items()},
        ]


def _placer(chips) -> Callable[[tuple[int, ...], str], jax.ShapeDtypeStruct]:
    sharding = jax.sharding.SingleDeviceSharding(chips[0])
    return lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _chips(topology: str, count: int) -> list[Any]:
    if topology == "h100":
        names = {
            "platform": "cuda",
            "target_config": H100,
            "topology": f"1x1x{count}",  # slices, hosts, devices
        }
        package = "jax-cuda12-plugin jax-cuda12-pjrt"
    elif (topology, count) in TOPOLOGIES:
        names = {"platform": "tpu", "topology_name": TOPOLOGIES[topology, count]}
        package = "libtpu"
    else:
        counts = sorted({number for name, number in TOPOLOGIES if name == topology})
        raise InputError(f"--chips {count}: choose among {counts}")
    try:
        found = topologies.get_topology_desc(**names)
    except Exception as error:
        raise InputError(
            f"{topology}: its compiler is not available ({first_line(error)}); "
            f"pip install {package}"
        ) from None
    return list(found.devices)[:count]


def _label(row: Mapping[str, Any]) -> tuple:
    return row["case"], row["topology"], row["chips"], row["dtype"]


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["case"],
        f"{row['topology']} x{row['chips']}",
        row["dtype"],
        f"{row['temporary_bytes'] / 2**20:.0f}",
        _format(row["bytes"], 1e9),
        _format(row["flops"], 1e9),
        _format(row["cycles"], 1e6),
        f"{row['compile_s']:.0f}",
    ]


def _format(value: float | None, unit: float) -> str:
    return f"{value / unit:.1f}" if value else "-"


def _text_of(compiled: jax.stages.Compiled) -> str:
    """Return the compiled program; empty if the compiler cannot print it.

    libtpu 0.0.52 fails so for v6e: "async-update instruction should have 1 operands".
    """
    try:
        return compiled.as_text() or ""
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0][:120]
        sys.stderr.write(f"no cycles, no collectives: {reason}\n")
        return ""


def main() -> int:
    """Read the command line and run."""
    try:
        tyro.cli(Accelerators).run()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
