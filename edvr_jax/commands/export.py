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
    """Write a network as an artifact of jax.export, for frames of any size.

    `edvr restore --artifact OUT` runs it. It holds the network's programs (StableHLO),
    parameters and configuration, and the versions it was made with; JAX promises to
    run it for six months.

    Attributes:
        weights: Name of weights that ship, or a .safetensors or .pth file.
        output: File to write.
        platforms: Platforms that it is to run on.
        precision: Computation type.
        overwrite: Replace an existing file.
    """

    weights: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WEIGHTS")]
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    platforms: tuple[Literal["cpu", "cuda", "tpu"], ...] = ("cpu", "cuda", "tpu")
    precision: Literal["float32", "bfloat16"] = "float32"
    overwrite: bool = False

    def run(self) -> int | None:
        """Write the artifact and say how large it is."""
        output.check_new(self.output, overwrite=self.overwrite)
        check_other(Path(self.weights), self.output)
        if not self.platforms:
            raise InputError("name at least one platform")
        config, params = weights.load_weights(self.weights)
        config = config.with_dtype(self.precision)
        export_lib.save(self.output, config, params, platforms=self.platforms)
        size = self.output.stat().st_size / 2**20
        sys.stdout.write(
            f"{self.output}: {self.weights} for {', '.join(self.platforms)}, "
            f"{size:.1f} MiB\n"
        )
        return None
