"""``edvr export``: a network as one file that runs without its code."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

import edvr_jax.export as export_lib
from edvr_jax import weights
from edvr_jax.commands import output
from edvr_jax.commands.paths import check_other
from edvr_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a network as one file, for frames of any size.

    The suffix of the file decides. With .onnx it is for other programs, such as
    onnxruntime, TensorRT and OpenVINO. With any other suffix it is an artifact of
    jax.export, which `edvr restore --artifact OUT` runs: the network's programs
    (StableHLO), parameters and configuration, and the versions it was made with; JAX
    promises to run it for six months.

    Attributes:
        weights: Name of weights that ship, a .safetensors or .pth file, or
            hf://ORG/NAME.
        output: File to write.
        platforms: Platforms that an artifact is to run on.
        precision: Computation type of an artifact; ONNX files are float32.
        overwrite: Replace an existing file.
    """

    weights: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WEIGHTS")]
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    platforms: tuple[Literal["cpu", "cuda", "tpu"], ...] = export_lib.PLATFORMS
    precision: Literal["float32", "bfloat16"] = "float32"
    overwrite: bool = False

    def run(self) -> int | None:
        """Write the file and say how large it is."""
        output.check_new(self.output, overwrite=self.overwrite)
        check_other(Path(self.weights), self.output)
        is_onnx = self.output.suffix.lower() == export_lib.ONNX_SUFFIX
        if not self.platforms:
            raise InputError("name at least one platform")
        if is_onnx and self.platforms != export_lib.PLATFORMS:
            raise InputError(
                f"{self.output}: an ONNX file is for every platform; leave out "
                "--platforms"
            )
        config, params = weights.load_weights(self.weights)
        config = config.with_dtype(self.precision)
        if is_onnx:
            export_lib.save_onnx(self.output, config, params)
            kind = "ONNX"
        else:
            export_lib.save(self.output, config, params, platforms=self.platforms)
            kind = ", ".join(self.platforms)
        size = self.output.stat().st_size / 2**20
        sys.stdout.write(f"{self.output}: {self.weights} for {kind}, {size:.1f} MiB\n")
        return None
