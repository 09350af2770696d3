"""``edvr info``: what weights are, what they cost, where they come from."""

import dataclasses
import sys
from typing import Annotated

import tyro

from edvr_jax import weights
from edvr_jax.config import CascadeConfig, ModelConfig, NetworkConfig
from edvr_jax.errors import InputError
from edvr_jax.models import cost
from edvr_jax.models import params as params_lib


@dataclasses.dataclass(frozen=True)
class Info:
    """Show the configuration, size, cost, origin and license of weights.

    Attributes:
        weights: Name of weights that ship, a weights file, hf://ORG/NAME, or a
            training run: RUN, RUN@best or RUN@STEP.
        height: Height in pixels of the input frames that the cost is stated for.
        width: Width in pixels of these frames.
    """

    weights: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WEIGHTS")]
    height: int = 180
    width: int = 320

    def run(self) -> None:
        """Print it."""
        if min(self.height, self.width) < 1:
            raise InputError(
                f"--height and --width must be positive, got {self.height}x{self.width}"
            )
        metadata = weights.read_metadata(self.weights)
        config = metadata.config
        lines = [f"weights     {self.weights} ({metadata.layout})"]
        if metadata.model:
            lines.append(f"module      {metadata.model}, of your own")
        lines += [
            f"parameters  {_count(self.weights, metadata):,}",
            f"origin      {metadata.origin or 'not stated in the file'}",
            f"license     {metadata.license or 'not stated in the file'}",
        ]
        if metadata.model:
            lines += _fields(config)
        elif isinstance(config, CascadeConfig):
            height, width = self.height, self.width
            scale = config.stage1.output_scale
            lines += _describe("stage 1", config.stage1, height, width)
            lines += _describe("stage 2", config.stage2, height * scale, width * scale)
        else:
            lines += _describe("network", config, self.height, self.width)
        sys.stdout.write("\n".join(lines) + "\n")


def _describe(title: str, config: ModelConfig, height: int, width: int) -> list[str]:
    """Configuration and cost of one network, one line each."""
    scale = config.output_scale
    window = cost.macs(config, height, width)
    clip = cost.macs(config, height, width, is_streaming=True)
    lines = [
        f"{title}: {config.num_frames} frames of {height}x{width} -> "
        f"{height * scale}x{width * scale}",
        f"  MACs per output frame  {window / 1e9:,.1f} G for one window, "
        f"{clip / 1e9:,.1f} G over a clip (features of a frame computed once)",
    ]
    return lines + _fields(config)


def _fields(config: NetworkConfig) -> list[str]:
    fields = dataclasses.asdict(config)
    pad = max(map(len, fields))
    return [f"  {name.ljust(pad)}  {value}" for name, value in fields.items()]


def _count(name: str, metadata: weights.Metadata) -> int:
    """Count the parameters; those of a module of the user's own are in the file."""
    if not metadata.model:
        return params_lib.count(metadata.config)
    return sum(value.size for value in weights.read_stored(name).flat.values())
