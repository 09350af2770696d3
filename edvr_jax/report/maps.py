"""What a network does in one window: where it samples, and which frames it trusts.

Offsets are those of PCD alignment (EDVR, arXiv:1905.02716, section 3.2), averaged over
taps and groups; the temporal attention is TSA's similarity (section 3.3).
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from edvr_jax.config import ModelConfig
from edvr_jax.media.read import pixels
from edvr_jax.models import layers
from edvr_jax.models import params as params_lib
from edvr_jax.models.cascade import create_model
from edvr_jax.ops import conv
from edvr_jax.restore.tiled_network import pad_to_multiple

# Names of the deformable convolutions, coarse to fine, and the size of their pixels in
# pixels of level 1.
LEVELS = {"level 3": 4, "level 2": 2, "level 1": 1, "cascade": 1}
_NAME = re.compile(r"(?:^|/)(?:dcn_pack_l([123])|cas_dcnpack)$")


@dataclasses.dataclass(frozen=True)
class Maps:
    """Maps of one window of T frames.

    Attributes:
        offsets: Length of the mean offset by name of the level, in pixels of that
            level, [T, h, w], float32; empty for a network without PCD alignment.
        attention: Temporal attention in [0, 1], [T, h, w], float32; None for a network
            without TSA.
        note: Why there is no map at all; empty if there is one.
    """

    offsets: dict[str, np.ndarray]
    attention: np.ndarray | None
    note: str = ""


def compute(config: ModelConfig, params: Any, window: np.ndarray) -> Maps:
    """Compute the maps of a window.

    Args:
        config: Architecture.
        params: Parameters.
        window: The frames that the network sees, uint8 RGB [T, H, W, 3]; any size.

    Returns:
        The maps, without what the padding to whole multiples adds.
    """
    if not config.with_alignment:
        return Maps({}, None, "The network has no alignment, hence there are no maps.")
    height, width = window.shape[1:3]
    multiple = config.size_multiple
    frames = [pad_to_multiple(pixels.to_float(frame), multiple) for frame in window]
    try:
        found = _jitted()(create_model(config), params, np.stack(frames)[None])
        found = jax.device_get(found)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Maps({}, None, "There was not enough memory for the maps.")
    # Level 1 has a quarter of the frame's size with hr_in.
    shrink = config.feature_scale // config.output_scale
    offsets = {}
    for path, value in params_lib.flatten(found.get(layers.MEAN_OFFSETS, {})).items():
        if match := _NAME.search(path.rpartition("/")[0]):
            name = f"level {match[1]}" if match[1] else "cascade"
            length = np.linalg.norm(np.asarray(value, np.float32), axis=-1)
            offsets[name] = _crop(length, (height, width), shrink * LEVELS[name])
    attention = None
    for value in params_lib.flatten(found.get(layers.TEMPORAL_ATTENTION, {})).values():
        attention = _crop(np.asarray(value, np.float32)[0], (height, width), shrink)
    return Maps({name: offsets[name] for name in LEVELS if name in offsets}, attention)


@functools.cache
def _jitted() -> Callable[..., Any]:
    options = conv.compiler_options()
    return jax.jit(_collect, static_argnums=0, compiler_options=options)


def _collect(model: nn.Module, params: Any, frames: jax.Array) -> Any:
    """Return the collections alone: what they do not need is not computed."""
    collections = [layers.MEAN_OFFSETS, layers.TEMPORAL_ATTENTION]
    return model.apply({"params": params}, frames, mutable=collections)[1]


def _crop(maps: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    height, width = (-(-length // factor) for length in size)
    return maps[:, :height, :width]
