"""Building blocks with the initialization of the PyTorch reference.

Checked against XPixelGroup/BasicSR, basicsr/archs/arch_util.py at 323cc143.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.nn import initializers

from edvr_jax.ops import bilinear, deform_conv
from edvr_jax.ops.conv import conv2d

Dtype = jnp.dtype | str

LEAKY_SLOPE = 0.1

# Name of the results worth keeping for the gradients when the rest is computed again.
CONVOLVED = "convolved"

# Collection with the mean and the maximum of |offset| of each deformable convolution,
# in pixels; written if the caller makes it mutable.
OFFSETS = "offsets"

# Collection with the offset of each deformable convolution averaged over its taps and
# groups, [N, H, W, 2], (dy, dx) in pixels; written if the caller makes it mutable.
MEAN_OFFSETS = "mean_offsets"

# Collection with TSA's temporal attention, the similarity of each frame of a window to
# the center, [N, T, H, W] in [0, 1]; written if the caller makes it mutable.
TEMPORAL_ATTENTION = "temporal_attention"


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
        arrange: Function that reorders the last axis, the output channels, of kernel
            and bias before they are used; None keeps their order.
        dtype: Computation type.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    kernel_init: initializers.Initializer | None = None
    bias_init: initializers.Initializer | None = None
    arrange: Callable[[jax.Array], jax.Array] | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Convolve the inputs as if their channels were concatenated.

        Args:
            *inputs: Images [N, H, W, C], of any number of channels. One with fewer
                images, [N/T, H, W, C], belongs to T successive ones of the others;
                its part is computed once for them.

        Returns:
            [N, H/strides, W/strides, features].

        Raises:
            ValueError: if the numbers of images do not divide each other.
        """
        size = self.kernel_size
        channels = [x.shape[-1] for x in inputs]
        shape = (size, size, sum(channels), self.features)
        default_init = _fan_in_uniform(math.prod(shape[:3]))
        kernel = self.param("kernel", self.kernel_init or default_init, shape)
        bias = self.param("bias", self.bias_init or default_init, (self.features,))
        if self.arrange is not None:
            kernel, bias = self.arrange(kernel), self.arrange(bias)
        kernels = jnp.split(
            kernel.astype(self.dtype), np.cumsum(channels[:-1]).tolist(), axis=2
        )
        out = bias.astype(self.dtype).reshape(1, 1, 1, -1)
        # Few images first: a sum so far is repeated where the next one has more.
        parts = sorted(zip(inputs, kernels, strict=True), key=lambda part: len(part[0]))
        for x, part_of_kernel in parts:
            part = conv2d(x.astype(self.dtype), part_of_kernel, self.strides)
            out = part + _repeat(out, len(part))
        return checkpoint_name(out, CONVOLVED)


def _repeat(x: jax.Array, count: int) -> jax.Array:
    """Repeat each image of x, so that there are ``count``."""
    if len(x) == count:
        return x
    if not len(x) or count % len(x):
        raise ValueError(f"{len(x)} images cannot be shared by {count}")
    repeated = jnp.broadcast_to(x[:, None], (len(x), count // len(x), *x.shape[1:]))
    return repeated.reshape(count, *x.shape[1:])


class ResidualBlockNoBN(nn.Module):
    """``x + conv2(relu(conv1(x)))``, initialized to almost the identity.

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
        max_offset: Clamp the offsets to this many pixels; None does not.
        dtype: Computation type of the convolutions; positions and masks are
            float32 at least.
    """

    features: int
    deformable_groups: int
    max_offset: float | None = None
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
            arrange=functools.partial(_group_last, groups=groups),
            dtype=self.dtype,
            name="conv_offset",
        )(offset_features)
        predicted = predicted.astype(np.promote_types(predicted.dtype, jnp.float32))
        dy, dx, mask = jnp.split(predicted, 3, axis=-1)
        dy, dx, mask = (
            bilinear.by_group(values, groups) for values in (dy, dx, nn.sigmoid(mask))
        )
        offset = jnp.stack([dy, dx], axis=-1)
        if self.max_offset is not None:
            offset = jnp.clip(offset, -self.max_offset, self.max_offset)
        self._report(offset)

        shape = (3, 3, x.shape[-1], self.features)
        kernel_init = _fan_in_uniform(math.prod(shape[:3]))
        kernel = self.param("kernel", kernel_init, shape)
        bias = self.param("bias", initializers.zeros, (self.features,))
        out = deform_conv.deform_conv2d(
            x.astype(self.dtype), offset, mask, kernel, bias
        )
        return checkpoint_name(out, CONVOLVED)

    def _report(self, offset: jax.Array) -> None:
        """Write what the caller wants to know of offsets [N, H, W, G, K, 2]."""
        if self.is_initializing():
            return
        if self.is_mutable_collection(OFFSETS):
            distance = jnp.abs(offset)
            for name, value in (("mean", distance.mean()), ("max", distance.max())):
                self.put_variable(OFFSETS, name, value)
        if self.is_mutable_collection(MEAN_OFFSETS):
            self.put_variable(MEAN_OFFSETS, "mean", offset.mean((3, 4)))


def _group_last(weights: jax.Array, groups: int) -> jax.Array:
    """Reorder the channels of an offset convolution for the sampling.

    The reference's order is group, tap, (dy, dx), and then all masks by group and
    tap. The sampling reads dy, dx and masks one by one, each by tap and group, and
    weights are cheaper to reorder than what they predict.
    """
    offset, mask = jnp.split(weights, [weights.shape[-1] // 3 * 2], axis=-1)
    leading = weights.shape[:-1]
    offset = offset.reshape(*leading, groups, -1, 2)
    mask = mask.reshape(*leading, groups, -1)
    parts = [
        jnp.swapaxes(part, -1, -2).reshape(*leading, -1)
        for part in (offset[..., 0], offset[..., 1], mask)
    ]
    return jnp.concatenate(parts, axis=-1)
