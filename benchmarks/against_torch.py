"""Time edvr_jax against PyTorch, taking turns on one machine.

Every row starts two processes, one per framework, with the same inputs and
parameters. They warm up, their outputs are compared, and then they run in turn, so
that whatever else the machine does meets both. PyTorch may live in an environment of
its own (torch, numpy and safetensors; torchvision if its deformable convolution is to
be used):

    python benchmarks/against_torch.py --torch-python OTHER_ENV/bin/python
"""

import dataclasses
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import cases
import numpy as np
import tyro

from edvr_jax.commands import output
from edvr_jax.errors import INTERRUPTED, InputError

CaseName = cases.Name
Precision = Literal["float32", "tf32", "bfloat16"]
TorchMode = Literal["eager", "compile"]

# Largest difference of the outputs, relative to the largest value.
TOLERANCES = {"float32": 1e-4, "tf32": 5e-2, "bfloat16": 5e-2}
PRECISIONS = {"cpu": ("float32",), "gpu": ("tf32", "bfloat16")}
TORCH_MODES = {"cpu": ("eager",), "gpu": ("eager", "compile")}
ALL_CASES = tuple(cases.CASES)
FOLDER = Path(__file__).resolve().parent

HEADER = [
    "case",
    "precision",
    "torch",
    "torch s",
    "quartiles",
    "jax s",
    "quartiles",
    "jax/torch",
    "paired",
    "torch MB",
    "jax MB",
    "GPU MB",
    "compile s",
]


@dataclasses.dataclass(frozen=True)
class AgainstTorch:
    """Time edvr_jax against PyTorch on the same work.

    Prints a line per case: median seconds and quartiles of both, the ratio of the
    medians and the median ratio of neighboring runs, the most memory each process
    held (in brackets: after importing its framework) and JAX's compile time. There is
    no ratio, and the exit code is 1, where the outputs differ. Use `taskset` for
    fewer threads.

    Attributes:
        cases: Work to time; see benchmarks/cases.py.
        repeats: Timed runs of each framework.
        device: Where to run; on gpu the first visible one.
        precisions: Computation types; default is float32 on cpu, tf32 and bfloat16 on
            gpu, where float32 means full precision.
        torch_modes: Default is eager on cpu, eager and compile on gpu.
        deform_conv: PyTorch's deformable convolution: torchvision's if there is one
            (default), or grid_sample.
        torch_python: Python that has torch.
        json: Write all numbers to this file.
        tiny: Shrink every case, to try the program.
    """

    cases: tuple[CaseName, ...] = ALL_CASES
    repeats: int = 7
    device: Literal["cpu", "gpu"] = "cpu"
    precisions: tuple[Precision, ...] | None = None
    torch_modes: tuple[TorchMode, ...] | None = None
    deform_conv: Literal["default", "sample"] = "default"
    torch_python: Path = Path(sys.executable)
    json: Path | None = None
    tiny: bool = False

    def run(self) -> int:
        """Time all rows and print them; the exit code is 1 if outputs differ."""
        if self.repeats < 1:
            raise InputError(f"--repeats must be positive, got {self.repeats}")
        output.check_writable(self.json)
        rows = []
        for name, precision, mode in itertools.product(
            self.cases,
            self.precisions or PRECISIONS[self.device],
            self.torch_modes or TORCH_MODES[self.device],
        ):
            rows.append(self._measure(name, precision, mode))
            # Every row as it comes: a whole run takes long.
            sys.stdout.write(output.format_table([HEADER, format_row(rows[-1])]) + "\n")
            sys.stdout.flush()
        sys.stdout.write(output.format_table([HEADER, *map(format_row, rows)]))
        for name in self.cases:
            sys.stdout.write(f"{name}: {cases.CASES[name].summary}\n")
        if self.json is not None:
            settings = dataclasses.asdict(self) | {
                "json": str(self.json),
                "torch_python": str(self.torch_python),
            }
            report = {"machine": machine(), "settings": settings, "rows": rows}
            output.write_json(self.json, report)
        return int(not all(row["is_equal"] for row in rows))

    def _measure(self, name: CaseName, precision: str, mode: str) -> dict[str, Any]:
        options = ["--device", self.device, "--precision", precision]
        torch_command = [str(self.torch_python), str(FOLDER / "torch_worker.py")]
        torch_command += [*options, "--mode", mode, "--deform-conv", self.deform_conv]
        jax_command = [sys.executable, str(FOLDER / "jax_worker.py"), *options]
        with (
            tempfile.TemporaryDirectory() as folder,
            Worker(torch_command, self.device) as torch,
            Worker(jax_command, self.device) as jax,
        ):
            workers = {"torch": torch, "jax": jax}
            sides: dict[str, dict[str, Any]] = {}
            for side, worker in workers.items():  # torch first: it draws the weights
                prepared = worker.ask(
                    "prepare",
                    name=name,
                    is_tiny=self.tiny,
                    file=f"{folder}/{side}.npz",
                    weights=f"{folder}/weights.safetensors",
                )
                sides[side] = {**worker.about, **prepared, "seconds": []}
            outputs = [dict(np.load(f"{folder}/{side}.npz")) for side in workers]
            for _ in range(self.repeats):
                for side, worker in workers.items():
                    sides[side]["seconds"].append(worker.ask("run")["seconds"])
            for side, worker in workers.items():
                sides[side] |= worker.ask("memory")
        return make_row(
            {"case": name, "precision": precision, "mode": mode},
            sides,
            cases.largest_difference(*outputs),
        )


class Worker:
    """A child process that answers requests; see worker.py."""

    def __init__(self, command: list[str], device: str):
        environment = dict(os.environ)
        # Compile times are measured, so nothing may come out of a cache.
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        environment["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
        environment["JAX_PLATFORMS"] = "cpu" if device == "cpu" else "cuda"
        # Both frameworks share the first GPU; JAX takes less than half of it.
        environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
        if device == "gpu":
            environment.setdefault("CUDA_VISIBLE_DEVICES", "0")
        self.name = Path(command[1]).stem
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        except OSError as error:
            raise InputError(f"{command[0]}: {error.strerror}") from None
        self.about: dict[str, Any] = {}

    def __enter__(self) -> "Worker":
        self.about = self._answer()
        return self

    def __exit__(self, *exception):
        assert self.process.stdin is not None
        self.process.stdin.close()
        if exception[0] is not None:
            self.process.terminate()
        self.process.wait()

    def ask(self, action: str, **values: Any) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises:
            InputError: if the worker has failed; it wrote why to stderr.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": action, **values}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise InputError(f"{self.name} failed, see above; is it the right Python?")
        return json.loads(line)


def make_row(
    labels: Mapping[str, str], sides: Mapping[str, dict[str, Any]], difference: float
) -> dict[str, Any]:
    """Add the statistics of one row to its raw numbers."""
    for side in sides.values():
        side["quartiles"] = np.percentile(side["seconds"], (25, 50, 75)).tolist()
        side["compile_seconds"] = side["first_seconds"] - side["quartiles"][1]
    torch, jax = sides["torch"], sides["jax"]
    pairs = zip(jax["seconds"], torch["seconds"], strict=True)
    is_equal = difference <= TOLERANCES[labels["precision"]]
    return {
        **labels,
        **sides,
        "load": os.getloadavg()[0],
        "difference": difference,
        "is_equal": is_equal,
        "ratio": jax["quartiles"][1] / torch["quartiles"][1] if is_equal else None,
        "paired_ratio": statistics.median(j / t for j, t in pairs)
        if is_equal
        else None,
    }


def format_row(row: Mapping[str, Any]) -> list[str]:
    """Make one line of the table."""
    torch, jax = row["torch"], row["jax"]
    ratios = ["outputs", f"differ {row['difference']:.0e}"]
    if row["is_equal"]:
        ratios = [f"{row['ratio']:.3f}", f"{row['paired_ratio']:.3f}"]
    cells = [row["case"], row["precision"], f"{row['mode']} {torch['deform_conv']}"]
    for side in (torch, jax):
        low, median, high = side["quartiles"]
        cells += [f"{median:.4f}", f"{low:.4f}-{high:.4f}"]
    cells += ratios
    for side in (torch, jax):
        cells.append(
            f"{side['peak_bytes'] / 1e6:.0f} ({side['baseline_bytes'] / 1e6:.0f})"
        )
    on_device = [side["device_peak_bytes"] for side in (torch, jax)]
    cells.append(
        "-" if None in on_device else "/".join(f"{b / 1e6:.0f}" for b in on_device)
    )
    return [*cells, f"{jax['compile_seconds']:.1f}"]


def machine() -> dict[str, Any]:
    """Describe the machine."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def main() -> int:
    """Read the command line and run."""
    try:
        return tyro.cli(AgainstTorch).run()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
