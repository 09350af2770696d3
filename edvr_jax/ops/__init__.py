"""Operators: deformable convolution, bilinear resize, pixel shuffle."""

from edvr_jax.ops.deform_conv import deform_conv2d
from edvr_jax.ops.resample import pixel_shuffle, resize_bilinear

__all__ = ["deform_conv2d", "pixel_shuffle", "resize_bilinear"]
