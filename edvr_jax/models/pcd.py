"""Alignment with Pyramid, Cascading and Deformable convolutions (PCD).

EDVR (arXiv:1905.02716), section 3.2. Checked against XPixelGroup/BasicSR,
basicsr/archs/edvr_arch.py at 323cc143, class PCDAlignment.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from edvr_jax.models.layers import Conv, DCNv2Pack, Dtype, leaky_relu
from edvr_jax.ops import resample

Pyramid = tuple[jax.Array, ...]  # levels 1, 2, 3


class PCDAlignment(nn.Module):
    """Align a neighbor's features to the reference frame's, coarse to fine.

    Offsets are predicted from both pyramids at level 3, refined at levels 2 and 1
    with the offset features of the level below, and a cascaded deformable
    convolution corrects the aligned result once more.

    Attributes:
        num_features: Channels of every level.
        deformable_groups: Offset groups; must divide ``num_features``.
        max_offset: Clamp offsets to this many pixels of their level; None does not.
        dtype: Computation type.
    """

    num_features: int = 64
    deformable_groups: int = 8
    max_offset: float | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, neighbor: Pyramid, reference: Pyramid) -> jax.Array:
        """Align.

        Args:
            neighbor: Features of the frames to align at levels 1, 2, 3:
                [N, H, W, C], [N, H/2, W/2, C], [N, H/4, W/4, C].
            reference: Features of the frames to align to, each for the same number
                of successive neighbors: [N/T, H, W, C] and so on.

        Returns:
            Aligned features, [N, H, W, C].

        Raises:
            ValueError: if a pyramid does not have three levels.
        """
        for name, pyramid in (("neighbor", neighbor), ("reference", reference)):
            if len(pyramid) != 3:
                raise ValueError(f"{name} must have 3 levels, got {len(pyramid)}")
        aligned = self.align_pyramid(neighbor, reference)
        return self.cascade(aligned, reference[0])

    @nn.nowrap
    def align_pyramid(self, neighbor: Pyramid, reference: Pyramid) -> jax.Array:
        """Align from level 3 to level 1; shapes as for a call."""
        # Level 3
        offset = self._offset_conv("offset_conv1_l3", neighbor[2], reference[2])
        offset = self._offset_conv("offset_conv2_l3", offset)
        aligned = leaky_relu(self._dcn("dcn_pack_l3", neighbor[2], offset))

        # Levels 2 and 1. Displacements double with the size; the factor acts on
        # the offset *features*, as in the reference.
        for level in (2, 1):
            features = neighbor[level - 1], reference[level - 1]
            coarse_offset = resample.resize_bilinear(offset, 2) * 2
            coarse_aligned = resample.resize_bilinear(aligned, 2)
            offset = self._offset_conv(f"offset_conv1_l{level}", *features)
            offset = self._offset_conv(f"offset_conv2_l{level}", offset, coarse_offset)
            offset = self._offset_conv(f"offset_conv3_l{level}", offset)
            aligned = self._dcn(f"dcn_pack_l{level}", neighbor[level - 1], offset)
            aligned = self._conv(f"feat_conv_l{level}", aligned, coarse_aligned)
            if level == 2:
                aligned = leaky_relu(aligned)
        return aligned

    @nn.nowrap
    def cascade(self, aligned: jax.Array, reference: jax.Array) -> jax.Array:
        """Correct aligned features [N, H, W, C] by the reference's [N/T, H, W, C]."""
        offset = self._offset_conv("cas_offset_conv1", aligned, reference)
        offset = self._offset_conv("cas_offset_conv2", offset)
        return leaky_relu(self._dcn("cas_dcnpack", aligned, offset))

    @nn.nowrap
    def _conv(self, name: str, *inputs: jax.Array) -> jax.Array:
        return Conv(self.num_features, dtype=self.dtype, name=name)(*inputs)

    @nn.nowrap
    def _offset_conv(self, name: str, *inputs: jax.Array) -> jax.Array:
        return leaky_relu(self._conv(name, *inputs))

    @nn.nowrap
    def _dcn(self, name: str, features: jax.Array, offset: jax.Array) -> jax.Array:
        layer = DCNv2Pack(
            self.num_features,
            self.deformable_groups,
            self.max_offset,
            self.dtype,
            name=name,
        )
        return layer(features, offset)
