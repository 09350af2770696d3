"""Initial parameters with which EDVR starts as the identity, or close to it.

PyTorch's defaults add noise to the center frame at first, and activations fade from
layer to layer. These add nothing, keep the variance of activations (He et al.,
arXiv:1502.01852), and pass the features of the center frame through alignment and
fusion: with both of them new, a trained network changes little at first.
"""

import math
import re

import jax
import jax.numpy as jnp

from edvr_jax.config import CascadeConfig, NetworkConfig

# Bias that keeps features positive in the leaky ReLUs of alignment and fusion; the last
# layer of the fusion subtracts it.
_LIFT = {
    "cas_dcnpack": 1.0,
    "fusion": -1.0,  # without TSA
    "spatial_attn_add2": -1.0,
}
# The residual, the similarity of frames, and the spatial attention.
_ZERO = re.compile("conv_last|temporal_attn1|spatial_attn5|spatial_attn_add2")
# Convolutions that pass features on: deformable ones, and where features join.
_DEFORMABLE = re.compile("dcn_pack_l[123]|cas_dcnpack")
_JOINING = re.compile("feat_conv_l[12]|fusion|feat_fusion")
_OTHERS = re.compile(
    "conv_first.*|conv_1x1|conv_hr|conv_l[23]_[12]|stride_conv_.*|upconv[12]"
    "|(cas_)?offset_conv.*|temporal_attn2|spatial_attn.*"
)


def start(path: str, value: jax.Array, config: NetworkConfig) -> jax.Array:
    """Return the first value of a parameter.

    Args:
        path: Its path, such as ``fusion/feat_fusion/kernel``.
        value: Its default. Residual blocks and ``conv_offset``, which is zero, keep it.
        config: The network.
    """
    module, _, kind = path.rpartition("/")
    name = module.rpartition("/")[2]
    is_zero, is_deformable, joins, is_other = (
        pattern.fullmatch(name) for pattern in (_ZERO, _DEFORMABLE, _JOINING, _OTHERS)
    )
    if kind == "bias" and (is_zero or is_deformable or joins or is_other):
        return jnp.full_like(value, _LIFT.get(name, 0.0))
    if is_zero:
        return jnp.zeros_like(value)
    if is_deformable or joins:
        # Masks, and the similarity of frames in TSA, start at one half.
        gain = 2 if is_deformable or name == "feat_fusion" else 1
        block = _center(path, config) if "fusion" in name else 0
        return gain * _copy(value, block=block)
    # PyTorch's default is uniform within 1/sqrt(fan_in).
    return math.sqrt(6) * value if is_other else value


def _copy(kernel: jax.Array, *, block: int) -> jax.Array:
    """Return a kernel that copies a block of the input's channels to the output."""
    height, width, _, channels = kernel.shape
    rows = slice(block * channels, (block + 1) * channels)
    zeros = jnp.zeros_like(kernel)
    return zeros.at[height // 2, width // 2, rows].set(jnp.eye(channels))


def _center(path: str, config: NetworkConfig) -> int:
    """Return the index of the center frame of the network a parameter belongs to."""
    if isinstance(config, CascadeConfig):
        config = config.stage1 if path.startswith("stage1/") else config.stage2
    return config.center
