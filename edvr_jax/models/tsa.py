"""Fusion with Temporal and Spatial Attention (TSA).

EDVR (arXiv:1905.02716), section 3.3. Checked against XPixelGroup/BasicSR,
basicsr/archs/edvr_arch.py at 323cc143, class TSAFusion. The official repository
calls ``temporal_attn1`` tAtt_2 and ``temporal_attn2`` tAtt_1.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from edvr_jax.models.layers import TEMPORAL_ATTENTION, Conv, Dtype, leaky_relu
from edvr_jax.ops import resample


def _merge_frames(x: jax.Array) -> jax.Array:
    """[N, T, H, W, C] -> [N, H, W, T*C], frame by frame."""
    n, t, h, w, c = x.shape
    return jnp.transpose(x, (0, 2, 3, 1, 4)).reshape(n, h, w, t * c)


def _pool(x: jax.Array) -> jax.Array:
    """Maximum and mean over 3x3, stride 2, side by side: [N, H/2, W/2, 2*C]."""
    pad: Any = ((1, 1), (1, 1))  # Flax's annotation knows strings only
    options: Any = {"window_shape": (3, 3), "strides": (2, 2), "padding": pad}
    # Not nn.avg_pool, whose divisor is an array of integers: strict promotion.
    mean = nn.pool(x, 0.0, lax.add, **options) / 9
    return jnp.concatenate([nn.max_pool(x, **options), mean], axis=-1)


class TSAFusion(nn.Module):
    """Weigh aligned frames by their similarity to the center, fuse, modulate.

    Attributes:
        num_features: Channels.
        num_frames: Frames in a window.
        center_frame_index: Index of the reference frame in the window.
        dtype: Computation type; the similarity is summed in float32.
    """

    num_features: int = 64
    num_frames: int = 5
    center_frame_index: int = 2
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, aligned: jax.Array) -> jax.Array:
        """Fuse aligned features [N, T, H, W, C] into [N, H, W, C]."""
        if aligned.shape[1] != self.num_frames:
            raise ValueError(f"expected {self.num_frames} frames, got {aligned.shape}")

        def conv(name, x, kernel_size=3):
            layer = Conv(self.num_features, kernel_size, dtype=self.dtype, name=name)
            return layer(x)

        weighted = _merge_frames(aligned * self._similarity(aligned, conv))
        fused = leaky_relu(conv("feat_fusion", weighted, 1))

        # Spatial attention, at half and quarter size
        attn = leaky_relu(conv("spatial_attn1", weighted, 1))
        attn = leaky_relu(conv("spatial_attn2", _pool(attn), 1))
        level = leaky_relu(conv("spatial_attn_l1", attn, 1))
        level = leaky_relu(conv("spatial_attn_l2", _pool(level)))
        level = leaky_relu(conv("spatial_attn_l3", level))
        level = resample.resize_bilinear(level, 2)

        attn = leaky_relu(conv("spatial_attn3", attn)) + level
        attn = leaky_relu(conv("spatial_attn4", attn, 1))
        attn = conv("spatial_attn5", resample.resize_bilinear(attn, 2))
        attn_add = leaky_relu(conv("spatial_attn_add1", attn, 1))
        attn_add = conv("spatial_attn_add2", attn_add, 1)
        # A fresh sigmoid is near 0.5: the factor 2 keeps the features' scale.
        return fused * nn.sigmoid(attn) * 2 + attn_add

    def _similarity(self, aligned: jax.Array, conv) -> jax.Array:
        """Sigmoid of the dot product with the center's embedding, [N,T,H,W,1]."""
        n, t, h, w, c = aligned.shape
        reference = conv("temporal_attn1", aligned[:, self.center_frame_index])
        embedding = conv("temporal_attn2", aligned.reshape(n * t, h, w, c))
        embedding = embedding.reshape(n, t, h, w, embedding.shape[-1])
        sum_dtype = np.promote_types(embedding.dtype, jnp.float32)
        product = embedding.astype(sum_dtype) * reference[:, None].astype(sum_dtype)
        correlation = jnp.sum(product, -1, keepdims=True)
        similarity = nn.sigmoid(correlation)
        if not self.is_initializing() and self.is_mutable_collection(
            TEMPORAL_ATTENTION
        ):
            self.put_variable(TEMPORAL_ATTENTION, "similarity", similarity[..., 0])
        return similarity.astype(aligned.dtype)


class ConcatFusion(nn.Module):
    """Fusion without attention: one 1x1 convolution over all frames.

    Attributes:
        num_features: Output channels.
        dtype: Computation type.
    """

    num_features: int = 64
    dtype: Dtype = jnp.float32

    def setup(self):
        """Create the convolution under this module's own name."""
        self.conv = Conv(self.num_features, kernel_size=1, dtype=self.dtype)
        nn.share_scope(self, self.conv)

    def __call__(self, aligned: jax.Array) -> jax.Array:
        """Fuse aligned features [N, T, H, W, C] into [N, H, W, C]."""
        return self.conv(_merge_frames(aligned))
