"""PreDeblur: a small feature pyramid that sharpens frames before alignment.

EDVR (arXiv:1905.02716), section 3.1. Checked against XPixelGroup/BasicSR,
basicsr/archs/edvr_arch.py at 323cc143, class PredeblurModule.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from edvr_jax.models.layers import Conv, Dtype, ResidualBlockNoBN, leaky_relu
from edvr_jax.ops import resample


class PredeblurModule(nn.Module):
    """Three-level pyramid of residual blocks.

    Attributes:
        num_features: Channels.
        hr_in: Shrink the input four times first.
        dtype: Computation type.
    """

    num_features: int = 64
    hr_in: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map frames [N, H, W, C] to features [N, h, w, F].

        h is H, or H/4 with ``hr_in``; it must be a multiple of 4.
        """

        def conv(name, x, strides=1):
            layer = Conv(
                self.num_features, strides=strides, dtype=self.dtype, name=name
            )
            return leaky_relu(layer(x))

        def block(name, x):
            return ResidualBlockNoBN(self.num_features, self.dtype, name=name)(x)

        l1 = conv("conv_first", x)
        if self.hr_in:
            l1 = conv("stride_conv_hr1", l1, strides=2)
            l1 = conv("stride_conv_hr2", l1, strides=2)
        l2 = conv("stride_conv_l2", l1, strides=2)
        l3 = conv("stride_conv_l3", l2, strides=2)

        l3 = resample.resize_bilinear(block("resblock_l3", l3), 2)
        l2 = block("resblock_l2_1", l2) + l3
        l2 = resample.resize_bilinear(block("resblock_l2_2", l2), 2)
        for i in range(5):
            l1 = block(f"resblock_l1_{i}", l1)
            if i == 1:
                l1 = l1 + l2
        return l1
