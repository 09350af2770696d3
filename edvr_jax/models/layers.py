"""Building blocks with the initialisation of the PyTorch reference.

Checked against XPixelGroup/BasicSR, basicsr/archs/arch_util.py at 323cc143.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from edvr_jax.ops import deform_conv
from edvr_jax.ops.conv import conv2d

Dtype = jnp.dtype | str

LEAKY_SLOPE = 0.1


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU with the slope used everywhere in EDVR."""
    return nn.leaky_relu(x, LEAKY_SLOPE)


def _fan_in_uniform(fan_in: int) -> initializers.Initializer:
    """U(-b, b) with b = 1/sqrt(fan_in): PyTorch's default for conv and bias."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


# Kaiming normal (ReLU, fan in) times 0.1: variance 0.01 * 2 / fan_in.
scaled_kaiming_normal = initializers.variance_scaling(0.02, "fan_in", "normal")


class Conv(nn.Module):
    """Convolution with symmetric zero padding, named ``kernel`` and ``bias``.

    Attributes:
        features: Output channels.
        kernel_size: Side of the kernel, odd; the padding is half of it.
        strides: Step between output positions.
        kernel_init: Initializer of the kernel; None is PyTorch's default.
        bias_init: Initializer of the bias; None is PyTorch's default.
        dtype: Computation type.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    kernel_init: initializers.Initializer | None = None
    bias_init: initializers.Initializer | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve [N, H, W, C] to [N, H/strides, W/strides, features]."""
        size = self.kernel_size
        shape = (size, size, x.shape[-1], self.features)
        default_init = _fan_in_uniform(math.prod(shape[:3]))
        kernel = self.param("kernel", self.kernel_init or default_init, shape)
        bias = self.param("bias", self.bias_init or default_init, (self.features,))
        out = conv2d(x.astype(self.dtype), kernel.astype(self.dtype), self.strides)
        return out + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class ResidualBlockNoBN(nn.Module):
    """``x + conv2(relu(conv1(x)))``, initialised to almost the identity.

    Attributes:
        num_features: Channels.
        dtype: Computation type.
    """

    num_features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [N, H, W, num_features] to the same shape."""

        def conv(name):
            return Conv(
                self.num_features,
                kernel_init=scaled_kaiming_normal,
                bias_init=initializers.zeros,
                dtype=self.dtype,
                name=name,
            )

        return x + conv("conv2")(nn.relu(conv("conv1")(x)))


class DCNv2Pack(nn.Module):
    """Deformable convolution whose offsets and masks come from other features.

    The kernel has 3x3 taps. The offset convolution starts at zero: offsets 0,
    masks 0.5.

    Attributes:
        features: Output channels.
        deformable_groups: Offset groups; must divide the channels of x.
        dtype: Computation type of the convolutions; positions and masks are
            float32 at least.
    """

    features: int
    deformable_groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, offset_features: jax.Array) -> jax.Array:
        """Sample and convolve.

        Args:
            x: Features to sample, [N, H, W, C].
            offset_features: Features that predict the offsets, [N, H, W, D].

        Returns:
            [N, H, W, features].
        """
        groups, taps = self.deformable_groups, 9
        predicted = Conv(
            3 * groups * taps,
            kernel_init=initializers.zeros,
            bias_init=initializers.zeros,
            dtype=self.dtype,
            name="conv_offset",
        )(offset_features)
        predicted = predicted.astype(jnp.promote_types(predicted.dtype, jnp.float32))
        # Two thirds are offsets, group by group, tap by tap, (dy, dx); then masks.
        offset, mask = jnp.split(predicted, [2 * groups * taps], axis=-1)
        offset = offset.reshape(*offset.shape[:3], groups, taps, 2)
        mask = nn.sigmoid(mask).reshape(*mask.shape[:3], groups, taps)

        shape = (3, 3, x.shape[-1], self.features)
        kernel_init = _fan_in_uniform(math.prod(shape[:3]))
        kernel = self.param("kernel", kernel_init, shape)
        bias = self.param("bias", initializers.zeros, (self.features,))
        return deform_conv.deform_conv2d(
            x.astype(self.dtype), offset, mask, kernel, bias
        )
