"""``edvr selftest``: does this device compute what the reference computes?"""

import dataclasses
import sys
from importlib import resources
from typing import Any

import jax
import numpy as np

from edvr_jax.commands import output
from edvr_jax.models import create_model
from edvr_jax.weights import torch_files

# Largest error allowed on [0, 1] images, by matmul precision. At full precision
# 1.2e-7 was measured on a CPU; the default is TF32 or bfloat16 on GPUs and TPUs,
# whose 8 to 11 bits per product leave about 1e-2.
LIMITS = {"highest": 2e-5, "default": 5e-2}


@dataclasses.dataclass(frozen=True)
class Selftest:
    """Run a small network that ships with its reference output on this device.

    The weights and the output come from BasicSR's PyTorch network, computed in
    float64. Prints the largest error at full and at this device's default precision;
    exits with 1 if one is too large.
    """

    def run(self) -> int:
        """Run, print, and return the exit code."""
        device = jax.devices()[0]
        sys.stdout.write(
            f"device: {device.device_kind} ({device}), jax {jax.__version__}\n"
        )
        rows = [["precision", "max error", "limit", ""]]
        for precision, limit in LIMITS.items():
            error = max_error(precision)
            result = "PASS" if error <= limit else "FAIL"
            rows.append([precision, f"{error:.1e}", f"{limit:.0e}", result])
        sys.stdout.write(output.format_table(rows))
        return int(any(row[-1] == "FAIL" for row in rows))


def max_error(precision: str) -> float:
    """Return the largest difference from the stored output.

    Args:
        precision: Of matrix products and convolutions, as jax names it.

    Returns:
        Largest absolute difference on a [0, 1] image; infinite for NaN.
    """
    folder = resources.files("edvr_jax") / "selftest_data"
    with resources.as_file(folder / "weights.safetensors") as path:
        config, params = torch_files.from_torch(path)
    with resources.as_file(folder / "reference.npz") as path, np.load(path) as stored:
        frames = np.moveaxis(stored["input"], 2, -1)
        expected = np.moveaxis(stored["output"], 1, -1)
    model = create_model(config)

    def apply(params: Any, frames: Any) -> Any:
        return model.apply({"params": params}, frames)

    with jax.default_matmul_precision(precision):
        restored = np.asarray(jax.jit(apply)(params, frames))
    error = np.abs(restored - expected).max()
    return float(error) if np.isfinite(error) else float("inf")
