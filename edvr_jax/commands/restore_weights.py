"""Which weights ``edvr restore`` takes where none are named, and which it refuses."""

from collections.abc import Sequence

from edvr_jax.commands.restore_report import say
from edvr_jax.errors import InputError
from edvr_jax.media.read.source import Source
from edvr_jax.restore.compiled import CompiledNetwork

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
