"""Positions and weights of bilinear samples at the displaced taps of a convolution.

The image is padded with a border of zeros and every position is clamped onto
that border, so no index ever leaves the image and no validity masks are needed:
a sample beyond the border reads zeros, a sample within one pixel of the border
is interpolated with them. ``torchvision.ops.deform_conv2d`` does the same.

The words used here and in the files that read and write samples
(``corner_gather.py``, ``patch_gather.py``):

- table: the bordered image as a matrix, one row for each pixel and deformable group;
- corners: the four pixels around a sample: top left, top right, bottom left, bottom
  right;
- samples: where the taps of the output positions read, and their weights;
- columns: the samples of all taps side by side, which the kernel is multiplied with;
- grid: the positions of the taps before they are displaced.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Zeros around the image: row -1 above it, rows H and H + 1 below it. A position
# is clamped to [-1, H]; its lower corner is at most H + 1.
BORDER = (1, 2)


class Grid(NamedTuple):
    """Undisplaced positions of the taps; every field is (y, x)."""

    taps: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def out_size(self, size):
        """Height and width of the output for those of the image."""
        return tuple(
            (n + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for n, taps, stride, padding, dilation in zip(size, *self, strict=True)
        )


def pad(x):
    """Return x with its border of zeros, [N, H+3, W+3, C]."""
    return jnp.pad(x, ((0, 0), BORDER, BORDER, (0, 0)))


def crop(padded, shape):
    """Undo ``pad``: the image [N, H, W, C] without its border."""
    _, height, width, _ = shape
    return padded[:, BORDER[0] :][:, :height, BORDER[0] :][:, :, :width]


def is_known(*sizes):
    """Whether all sizes are numbers, none left open by jax.export."""
    return all(isinstance(size, int) for size in sizes)


def fits_indices(shape, deformable_groups):
    """Whether 32-bit indices reach every row of the table of an image's shape.

    Sizes that jax.export leaves open are taken to fit.
    """
    n, height, width, _ = shape
    if not is_known(n, height, width):
        return True
    border = sum(BORDER)
    return n * (height + border) * (width + border) * deformable_groups < 2**31


class Samples(NamedTuple):
    """Where the taps of the output positions read, each [..., K*G].

    Taps before groups: then the channels of a tap, [G, C/G], are contiguous. Both in
    one axis, since XLA's CPU backend is slow with short ones.
    """

    row: jax.Array  # of the table, where the top left corner is
    fy: jax.Array  # distance down from the top left corner, in [0, 1)
    fx: jax.Array
    mask: jax.Array

    def weights(self):
        """Bilinear weights of the four corners."""
        fy, fx = self.fy, self.fx
        return [(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx]

    def gradients(self, dots):
        """Gradients to the positions y and x and to the mask.

        They are combinations of four dot products: the gradient to the columns with
        each corner, over the channels of a group.
        """
        top_left, top_right, bottom_left, bottom_right = dots
        fy, fx = self.fy, self.fx
        down = (bottom_left - top_left) * (1 - fx) + (bottom_right - top_right) * fx
        right = (top_right - top_left) * (1 - fy) + (bottom_right - bottom_left) * fy
        grad_mask = sum(d * w for d, w in zip(dots, self.weights(), strict=True))
        return down * self.mask, right * self.mask, grad_mask


def locate(x, offset, mask, grid, gather):
    """Samples of all output positions, [N, Ho, Wo, K*G], and where y and x count.

    A position beyond the border has no gradient. ``gather`` numbers the rows of the
    table.
    """
    n, height, width, _ = x.shape
    groups = offset.shape[3]
    dtype = np.promote_types(offset.dtype, jnp.float32)
    offset = offset.astype(dtype)
    grid_y, grid_x = _base_positions(offset.shape[1:4], grid, dtype)
    y, inside_y = _clamp(grid_y + by_tap(offset[..., 0]), height)
    x_position, inside_x = _clamp(grid_x + by_tap(offset[..., 1]), width)
    y0, x0 = jnp.floor(y), jnp.floor(x_position)

    image = jnp.arange(n).reshape(n, 1, 1, 1)
    row = image * (height + sum(BORDER)) + y0.astype(jnp.int32) + BORDER[0]
    pixel = row * gather.padded_width + x0.astype(jnp.int32) + BORDER[0]
    group = np.tile(np.arange(groups), math.prod(grid.taps)).reshape(1, 1, 1, -1)
    samples = Samples(
        row=gather.row_of(pixel, group),
        fy=y - y0,
        fx=x_position - x0,
        mask=by_tap(mask.astype(dtype)),
    )
    return samples, (inside_y, inside_x)


def by_tap(values):
    """[N, Ho, Wo, G, K] -> [N, Ho, Wo, K*G]."""
    *leading, groups, taps = values.shape
    return jnp.swapaxes(values, 3, 4).reshape(*leading, taps * groups)


def by_group(values, groups):
    """[N, Ho, Wo, K*G] -> [N, Ho, Wo, G, K]: undo ``by_tap``."""
    *leading, channels = values.shape
    return jnp.swapaxes(values.reshape(*leading, channels // groups, groups), 3, 4)


def _base_positions(out_size_and_groups, grid, dtype):
    """Undisplaced positions of every tap, [1, Ho, 1, K*G] and [1, 1, Wo, K*G]."""
    *out_size, groups = out_size_and_groups
    kh, kw = grid.taps
    tap_y, tap_x = (np.repeat(t.reshape(-1), groups) for t in np.mgrid[:kh, :kw])
    y, x = (
        _arange(size)[:, None] * stride - pad + (tap * step)[None]
        for size, stride, pad, tap, step in zip(
            out_size,
            grid.strides,
            grid.padding,
            (tap_y, tap_x),
            grid.dilation,
            strict=True,
        )
    )
    return y.astype(dtype)[None, :, None], x.astype(dtype)[None, None]


def _arange(size):
    return np.arange(size) if is_known(size) else jnp.arange(size)


def _clamp(position, size):
    """Clamp to the zero border [-1, size]; NaN goes there too."""
    inside = (position >= -1) & (position <= size)
    clamped = jnp.where(position >= -1, jnp.minimum(position, size), -1)
    return clamped, inside
