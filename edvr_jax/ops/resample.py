"""Bilinear resize and pixel shuffle with PyTorch's conventions."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edvr_jax.ops.arguments import whole_number


def resize_bilinear(x: ArrayLike, scale: int) -> jax.Array:
    """Enlarge by an integer factor with half-pixel centers.

    Equals ``torch.nn.functional.interpolate(mode="bilinear",
    align_corners=False)``, the upsampling of EDVR's pyramids and base image.

    Args:
        x: Images or features, [N, H, W, C].
        scale: Enlargement, at least 1.

    Returns:
        [N, scale*H, scale*W, C], dtype of x.

    Raises:
        TypeError: if the scale is not a whole number.
        ValueError: if it is less than 1, or x does not have four axes.
    """
    x, scale = _check(x, "scale", scale)
    if scale == 1:
        return x
    return _enlarge_axis(_enlarge_axis(x, 2, scale), 1, scale)


def _enlarge_axis(x, axis, scale):
    """Enlarge one axis: each pixel becomes ``scale``, mixed with a neighbor's value.

    jax.image.resize multiplies with a matrix as large as the image instead.
    """
    size = x.shape[axis]

    def part(start, stop):
        return jax.lax.slice_in_dim(x, start, stop, axis=axis)

    # The image is continued by its first and last pixel.
    before = jnp.concatenate([part(0, 1), part(0, size - 1)], axis)
    after = jnp.concatenate([part(1, size), part(size - 1, size)], axis)
    distances = [(i + 0.5) / scale - 0.5 for i in range(scale)]
    mixed = [
        (1 - abs(distance)) * x + abs(distance) * (before if distance < 0 else after)
        for distance in distances
    ]
    shape = [n * scale if i == axis else n for i, n in enumerate(x.shape)]
    return jnp.stack(mixed, axis + 1).reshape(shape)


def pixel_shuffle(x: ArrayLike, factor: int) -> jax.Array:
    """Rearrange channels into space, as ``torch.nn.PixelShuffle``.

    Channel ``c * factor**2 + i * factor + j`` becomes channel c of the pixel at
    (i, j) of each factor x factor block: PyTorch's order of the channels of the
    sub-pixel convolution (arXiv:1609.05158).

    Args:
        x: Features, [N, H, W, C * factor**2].
        factor: Enlargement.

    Returns:
        [N, factor*H, factor*W, C].

    Raises:
        TypeError: if the factor is not a whole number.
        ValueError: if it is less than 1, x does not have four axes, or its channels
            are not a multiple of factor**2.
    """
    x, factor = _check(x, "factor", factor)
    n, height, width, channels = x.shape
    if channels % factor**2:
        raise ValueError(f"{channels} channels are not a multiple of {factor**2}")
    x = x.reshape(n, height, width, channels // factor**2, factor, factor)
    x = jnp.transpose(x, (0, 1, 4, 2, 5, 3))  # [N, H, factor, W, factor, C]
    return x.reshape(n, height * factor, width * factor, channels // factor**2)


def _check(x: ArrayLike, name: str, factor: int) -> tuple[jax.Array, int]:
    x = jnp.asarray(x)
    if x.ndim != 4:
        raise ValueError(f"x must have the axes [N, H, W, C], got {x.shape}")
    return x, whole_number(name, factor)
