"""Which weights ``edvr restore`` takes where none are named, and which it refuses."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import edvr_jax.export as export_lib
from edvr_jax import weights
from edvr_jax.commands.restore_report import say
from edvr_jax.errors import InputError
from edvr_jax.media.read.source import Source
from edvr_jax.restore.compiled import CompiledNetwork, create_networks

# From names of weights to the networks, and the fingerprint of each file by its name.
Loaded = tuple[list[CompiledNetwork], dict[str, str]]
NetworkLoader = Callable[[tuple[str, ...]], Loaded]

CLEAN_WEIGHTS, COMPRESSED_WEIGHTS = "edvr_s_x4", "edvr_s_x2_web"
# Of a video below it the artifacts count more than the scale: docs/weights.md.
COMPRESSED_BITS_PER_PIXEL = 0.1


def choose_weights(source: Source) -> tuple[str, ...]:
    """Return the name of the weights for a clip."""
    bits = source.bits_per_pixel()
    if bits is None or bits >= COMPRESSED_BITS_PER_PIXEL:
        return (CLEAN_WEIGHTS,)
    say(
        f"note: {source.path} looks compressed ({bits:.2f} bits per pixel): "
        f"{COMPRESSED_WEIGHTS} restores it; --weights {CLEAN_WEIGHTS} is for clean "
        "video"
    )
    return (COMPRESSED_WEIGHTS,)


def check_channels(name: str, networks: Sequence[CompiledNetwork]) -> None:
    """Check that input and output are RGB.

    Raises:
        InputError: naming both numbers of channels.
    """
    channels = networks[0].config.in_channels, networks[-1].config.out_channels
    if channels != (3, 3):
        raise InputError(
            f"{name}: this network takes {channels[0]} channels and returns "
            f"{channels[1]}; video needs weights for RGB"
        )


def load_networks(
    chosen: Sequence[str], stage2: str | None, precision: Literal["float32", "bfloat16"]
) -> Loaded:
    """Load networks that form a chain.

    Args:
        chosen: Names of weights, or files.
        stage2: Those of a second stage, which keeps the size.
        precision: Computation type.

    Raises:
        InputError: if a file cannot be read or is no network for this.
    """
    networks, names = [], {}
    for name in (*chosen, *([stage2] if stage2 else [])):
        config, params = weights.load_weights(name)
        found = create_networks(config.with_dtype(precision), params)
        check_channels(name, found)
        if name == stage2 and config.output_scale != 1:
            raise InputError(
                f"{name}: a second stage must keep the size, but this network's scale "
                f"is {config.output_scale}"
            )
        networks += found
        names[name] = weights.fingerprint(params)
    return networks, names


def load_artifact(path: Path) -> Loaded:
    """Load an exported network.

    Raises:
        InputError: if the file cannot be read or is no network for RGB.
    """
    networks, digest = export_lib.load(path)
    check_channels(str(path), networks)
    return networks, {str(path): digest}
