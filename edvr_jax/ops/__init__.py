"""Operators: convolution, deformable convolution, bilinear resize, pixel shuffle."""

from edvr_jax.ops import conv
from edvr_jax.ops.deform_conv import deform_conv2d
from edvr_jax.ops.resample import pixel_shuffle, resize_bilinear

__all__ = ["conv", "deform_conv2d", "pixel_shuffle", "resize_bilinear"]
