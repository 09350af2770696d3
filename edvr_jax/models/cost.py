"""Operations and memory traffic of a network's convolutions."""

import math
import re
from collections.abc import Iterator

import jax.numpy as jnp

from edvr_jax.config import ModelConfig
from edvr_jax.models import params
from edvr_jax.models.params import Shape

# Where a convolution of the network runs: the first pattern that its name matches
# gives the enlargement of its output over the features, and whether it runs for
# every frame of the window or once. Features have the input's size, or a quarter of
# it with hr_in.
_PLACES: tuple[tuple[str, float, bool], ...] = (
    (r"predeblur/(stride_conv|resblock)_l1", 1, True),
    (r"predeblur/(stride_conv|resblock)_l2", 1 / 2, True),
    (r"predeblur/(stride_conv|resblock)_l3", 1 / 4, True),
    (r"conv_1x1|feature_extraction", 1, True),
    (r"conv_l2_", 1 / 2, True),
    (r"conv_l3_", 1 / 4, True),
    (r"pcd_align/\w*_l2\b", 1 / 2, True),
    (r"pcd_align/\w*_l3\b", 1 / 4, True),
    (r"pcd_align/", 1, True),
    (r"fusion/temporal_attn2", 1, True),
    (r"fusion/spatial_attn(2|3|4|_l1)\b", 1 / 2, False),
    (r"fusion/spatial_attn_l[23]", 1 / 4, False),
    (r"fusion/|reconstruction_", 1, False),
    (r"upconv1", 1, False),
    (r"upconv2", 2, False),
)
# The stems, in order: each halves the size with hr_in.
_STEMS = (
    (r"(predeblur/)?conv_first(_1)?/", 1),
    (r"predeblur/stride_conv_hr1|conv_first_2", 1 / 2),
    (r"predeblur/stride_conv_hr2|conv_first_3", 1 / 4),
)
# Convolutions of a neighbor's and the center's features side by side, the latter
# computed once per window.
_PAIRED = r"pcd_align/(offset_conv1_l|cas_offset_conv1)"
# Modules that work on single frames, which a stream computes once per frame.
_ENCODER = r"predeblur/|conv_first|conv_1x1|feature_extraction|conv_l[23]_"


def macs(
    config: ModelConfig, height: int, width: int, *, is_streaming: bool = False
) -> int:
    """Count the multiply-accumulates of all convolutions for one output frame.

    A deformable convolution counts as its contraction; the interpolation of its
    samples and other element-wise work are left out, as in published numbers. Those
    are 4 % higher, since the center's features are convolved for every neighbor
    again in PyTorch's EDVR.

    Args:
        config: The network.
        height: Height of the input frames.
        width: Width of the input frames.
        is_streaming: Count the features of each frame once, as over a clip, instead
            of once for every window that sees the frame.

    Returns:
        Multiply-accumulates per restored frame.
    """
    return sum(
        math.prod(shape) * num_outputs
        for shape, num_outputs in _convolutions(
            config, height, width, is_streaming=is_streaming
        )
    )


def feature_bytes(
    config: ModelConfig, height: int, width: int, *, is_streaming: bool = False
) -> int:
    """Count the bytes that the convolutions move for one output frame.

    Every convolution reads its input and its kernel and writes its output once, in
    the computation type; element-wise work is taken to be fused with them.

    Args:
        config: The network.
        height: Height of the input frames.
        width: Width of the input frames.
        is_streaming: As for :func:`macs`.

    Returns:
        Bytes per restored frame.
    """
    numbers = sum(
        num_outputs * (shape[2] + shape[3]) + math.prod(shape)
        for shape, num_outputs in _convolutions(
            config, height, width, is_streaming=is_streaming
        )
    )
    return numbers * jnp.dtype(config.dtype).itemsize


def _convolutions(
    config: ModelConfig, height: int, width: int, *, is_streaming: bool
) -> Iterator[tuple[Shape, int]]:
    """Yield each convolution's kernel and its output positions per output frame."""
    for key, shape in params.shapes(config).items():
        if not key.endswith("kernel"):
            continue
        enlargement, is_per_frame = _place(key, config)
        calls = config.num_frames if is_per_frame else 1
        if is_streaming and re.match(_ENCODER, key):
            calls = 1
        positions = round(height * width * enlargement**2)
        if re.match(_PAIRED, key):
            shape = (*shape[:2], shape[2] // 2, shape[3])
            yield shape, positions
        yield shape, positions * calls


def _place(key: str, config: ModelConfig) -> tuple[float, bool]:
    """Size of a convolution's output over the input, and if it runs per frame."""
    for pattern, enlargement in _STEMS:
        if re.match(pattern, key):
            return enlargement, True
    if key.startswith(("conv_hr", "conv_last")):
        return config.output_scale, False
    for pattern, enlargement, is_per_frame in _PLACES:
        if re.match(pattern, key):
            return enlargement / 4 if config.hr_in else enlargement, is_per_frame
    raise ValueError(f"no place in the network is known for {key}")
