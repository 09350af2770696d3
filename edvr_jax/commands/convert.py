"""``edvr convert``: weights from one format or layout to another."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from edvr_jax import files, weights
from edvr_jax.commands import output
from edvr_jax.commands.paths import check_other
from edvr_jax.config import NetworkConfig
from edvr_jax.errors import InputError
from edvr_jax.models import params as params_lib
from edvr_jax.weights import card, runs, torch_files, torch_names


@dataclasses.dataclass(frozen=True)
class Convert:
    """Convert weights between PyTorch's three layouts and the native format.

    Prints every parameter with its name and shape on both sides. The layout of the
    input and the network's configuration are found from the file.

    Attributes:
        src: Weights to read: .pth (needs torch), .safetensors, a name that ships,
            hf://ORG/NAME, or the folder of a training run, also one that is still
            running.
        dst: File to write: .safetensors, or .pth (needs torch) for a PyTorch layout.
        layout: Names to write: native, or those of a PyTorch project. By default
            native for .safetensors and basicsr for .pth.
        dtype: Type to store in a native file; float16 halves it, and rounds the
            parameters to 11 bits.
        origin: Who trained the weights, on what; kept in a native file. By default
            what the input says.
        license: Terms of the weights; kept in a native file. By default what the
            input says.
        step: Of a run: the checkpoint of this step, not the newest one.
        best: Of a run: the checkpoint with the best validation.
        raw: Of a run: the parameters themselves, not their moving average.
        card: Also write README.md beside the output, a model card for the Hugging Face
            Hub. Name the output model.safetensors for it, the Hub's usual name.
        overwrite: Replace existing files.
    """

    src: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    dst: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DST")]
    layout: Literal["native", "basicsr", "official", "mmagic"] | None = None
    dtype: Literal["float32", "float16"] = "float32"
    origin: str | None = None
    license: str | None = None
    step: int | None = None
    best: bool = False
    raw: bool = False
    card: bool = False
    overwrite: bool = False

    def run(self) -> None:
        """Read, write, print the names of both sides."""
        output.check_new(self.dst, overwrite=self.overwrite)
        check_other(Path(self.src), self.dst)
        card_path = self.dst.parent / card.NAME
        if self.card:
            output.check_new(card_path, overwrite=self.overwrite)
        metadata, params = self._read()
        config = metadata.config
        is_pickled = self.dst.suffix in (".pth", ".pt")
        layout = self.layout or ("basicsr" if is_pickled else "native")
        unknown = f"converted from {Path(self.src).name} ({metadata.layout} names)"
        if layout != "native" and self.dtype != "float32":
            raise InputError(
                f"--dtype {self.dtype} is for the native layout; leave it out for the "
                f"layout {layout}, which is stored as float32"
            )
        origin = self.origin or metadata.origin or unknown
        license = self.license or metadata.license or card.NOT_STATED
        if layout == "native":
            weights.save_weights(
                self.dst,
                config,
                params,
                origin=origin,
                license=license,
                dtype=self.dtype,
            )
        else:
            torch_files.to_torch(config, params, self.dst, layout=layout)
        if self.card:
            run = weights.find_run(self.src)
            text = card.write_card(
                config,
                file=self.dst.name,
                origin=origin,
                license=license,
                dataset=runs.read_dataset(run[0]) if run else "",
            )
            files.write(card_path, text.encode())
        sys.stdout.write(_format_mapping(config, metadata.layout, layout))
        num_params = params_lib.count(config)
        sys.stdout.write(
            f"{self.src} ({metadata.layout}) -> {self.dst} ({layout}): "
            f"{len(params_lib.shapes(config))} tensors, {num_params} parameters\n"
        )

    def _read(self) -> tuple[weights.Metadata, dict[str, Any]]:
        """Read weights, or the checkpoint of a run."""
        run = weights.find_run(self.src)
        options = [str(self.step)] * (self.step is not None) + ["best"] * self.best
        if run is None:
            if options or self.raw:
                raise InputError(
                    f"{self.src}: --step, --best and --raw are for the folder of a run"
                )
            _, params = weights.load_weights(self.src)
            return weights.read_metadata(self.src), params
        folder, selected = run
        options += [] if selected is None else [selected]
        if len(options) > 1:
            raise InputError(f"name one checkpoint, not {' and '.join(options)}")
        config, params, origin = runs.read(
            folder, options[0] if options else None, raw=self.raw
        )
        return weights.Metadata(config, "native", origin, runs.LICENSE), params


def _format_mapping(config: NetworkConfig, source: str, target: str) -> str:
    rows = [[source, "shape", target, "shape"]]
    sides = [_side(config, layout) for layout in (source, target)]
    for path in params_lib.shapes(config):
        (name, shape), (other, other_shape) = (side[path] for side in sides)
        rows.append([name, _cross(shape), other, _cross(other_shape)])
    return output.format_table(rows)


def _side(config: Any, layout: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name and shape in a layout of each of our parameters."""
    if layout == "native":
        return {p: (p, shape) for p, shape in params_lib.shapes(config).items()}
    return {
        entry.path: (entry.torch_key, entry.torch_shape)
        for entry in torch_names.mapping(config, layout)
    }


def _cross(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
