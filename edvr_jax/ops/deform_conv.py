"""Modulated deformable convolution (DCNv2) by bilinear gather.

Source: Deformable ConvNets v2 (arXiv:1811.11168), section 3.2 "Modulated
Deformable Modules", used by EDVR (arXiv:1905.02716) section 3.2. Semantics and
gradients are those of ``torchvision.ops.deform_conv2d``, whose outputs are in
``tests/fixtures/deform_conv``.

The image is padded with a border of zeros and every position is clamped onto
that border, so no index ever leaves the image and no validity masks are needed:
a sample beyond the border reads zeros, a sample within one pixel of the border
is interpolated with them.
"""

import functools
from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Zeros around the image: row -1 above it, rows H and H + 1 below it. A position
# is clamped to [-1, H]; its lower corner is at most H + 1.
_BORDER = (1, 2)


def deform_conv2d(
    x: jax.Array,
    offset: jax.Array,
    mask: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolve features sampled at learned, modulated positions.

    ``y(p) = bias + sum_k kernel_k * x(p + p_k + offset_k(p)) * mask_k(p)`` with
    bilinear interpolation of x and zeros outside of it (DCNv2 Eq. 1).

    Args:
        x: Features to sample, [N, H, W, C], any float dtype.
        offset: Displacements (dy, dx) in pixels of x, [N, Ho, Wo, G, K, 2], where
            K = kh * kw taps in row-major order and G deformable groups; group g
            moves the channels g*C/G to (g+1)*C/G.
        mask: Modulation, usually in [0, 1], [N, Ho, Wo, G, K].
        kernel: Weights, [kh, kw, C/groups, F].
        bias: Added to the result, [F]; None adds nothing.
        strides: Step between output positions, one number or (y, x).
        padding: Rows and columns of zeros around x, one number or (y, x).
        dilation: Step between taps, one number or (y, x).
        groups: Groups of the convolution; must divide C and F.

    Returns:
        Convolved features, [N, Ho, Wo, F], dtype of x. Positions and
        interpolation weights are computed in float32 (float64 if offset is).

    Raises:
        ValueError: if the shapes do not fit together.

    Note:
        A position that is NaN reads zero, like one far outside, and passes no
        gradient to its offset. At an exactly integer position the derivative to
        the offset is the one to the right and below, as in torchvision.
    """
    strides, padding, dilation = _pair(strides), _pair(padding), _pair(dilation)
    _check_shapes(x, offset, mask, kernel, bias, strides, padding, dilation, groups)
    geometry = (kernel.shape[:2], strides, padding, dilation)
    out = cast(jax.Array, _deform_conv(x, offset, mask, kernel, geometry, groups))
    return out if bias is None else out + bias.astype(out.dtype).reshape(1, 1, 1, -1)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, Sequence):
        first, second = value
        return int(first), int(second)
    return int(value), int(value)


def _check_shapes(
    x, offset, mask, kernel, bias, strides, padding, dilation, groups
) -> None:
    if x.ndim != 4 or offset.ndim != 6 or mask.ndim != 5 or kernel.ndim != 4:
        raise ValueError(
            "expected x [N,H,W,C], offset [N,Ho,Wo,G,K,2], mask [N,Ho,Wo,G,K] and "
            f"kernel [kh,kw,C/groups,F], got {x.shape}, {offset.shape}, "
            f"{mask.shape}, {kernel.shape}"
        )
    n, height, width, channels = x.shape
    kh, kw, group_channels, features = kernel.shape
    if group_channels * groups != channels or features % groups:
        raise ValueError(
            f"kernel {kernel.shape} with groups={groups} does not fit the "
            f"{channels} channels of x"
        )
    out_size = tuple(
        (size + 2 * pad - step * (taps - 1) - 1) // stride + 1
        for size, pad, step, taps, stride in zip(
            (height, width), padding, dilation, (kh, kw), strides, strict=True
        )
    )
    deformable_groups = offset.shape[3]
    expected = (n, *out_size, deformable_groups, kh * kw)
    if offset.shape != (*expected, 2) or mask.shape != expected:
        raise ValueError(
            f"expected offset {(*expected, 2)} and mask {expected}, "
            f"got {offset.shape} and {mask.shape}"
        )
    if channels % deformable_groups:
        raise ValueError(
            f"the {deformable_groups} deformable groups of offset must divide the "
            f"{channels} channels of x"
        )
    if n * (height + 3) * (width + 3) * deformable_groups >= 2**31:
        raise ValueError(
            f"x {x.shape} is too large for 32-bit indices; split the batch"
        )
    if bias is not None and bias.shape != (features,):
        raise ValueError(f"expected bias {(features,)}, got {bias.shape}")


def _forward(x, offset, mask, kernel, geometry, groups):
    """Forward pass on checked arguments; ``geometry`` is static."""
    samples = _Samples(x, offset, geometry)
    columns = samples.interpolate(samples.corners(x), mask)
    return _contract(columns, kernel, groups).astype(x.dtype)


_deform_conv = jax.custom_vjp(_forward, nondiff_argnums=(4, 5))


def _deform_conv_fwd(x, offset, mask, kernel, geometry, groups):
    out = _forward(x, offset, mask, kernel, geometry, groups)
    return out, (x, offset, mask, kernel)


def _deform_conv_bwd(geometry, groups, residuals, cotangent):
    """Gradients, image by image: the columns of one image stay in cache."""
    x, offset, mask, kernel = residuals

    def one_image(image):
        x, offset, mask, cotangent = image
        return _image_gradients(x, offset, mask, cotangent, kernel, geometry, groups)

    images = tuple(a[:, None] for a in (x, offset, mask, cotangent))
    grad_x, grad_offset, grad_mask, grad_kernel = lax.map(one_image, images)
    return (
        grad_x[:, 0].astype(x.dtype),
        grad_offset[:, 0].astype(offset.dtype),
        grad_mask[:, 0].astype(mask.dtype),
        grad_kernel.sum(0).astype(kernel.dtype),
    )


_deform_conv.defvjp(_deform_conv_fwd, _deform_conv_bwd)


def _image_gradients(x, offset, mask, cotangent, kernel, geometry, groups):
    samples = _Samples(x, offset, geometry)
    corners = samples.corners(x)
    columns = samples.interpolate(corners, mask)
    grad_columns, grad_kernel = _contract_gradients(columns, kernel, cotangent, groups)

    # Every gradient to a position or a mask is a combination of the four dot
    # products (over a group's channels) of grad_columns with a corner.
    deformable_groups, group_channels = columns.shape[-2:]
    group_sum = jnp.repeat(
        jnp.eye(deformable_groups, dtype=columns.dtype), group_channels, axis=0
    )
    flat = (*columns.shape[:-2], deformable_groups * group_channels)
    dots = [(grad_columns * c).reshape(flat) @ group_sum for c in corners]
    grad_mask, grad_offset = samples.position_gradients(dots, mask)
    return samples.scatter(grad_columns, mask), grad_offset, grad_mask, grad_kernel


class _Samples:
    """Where each tap of each output position reads x, taps before groups.

    Inner arrays are [N, Ho, Wo, K, G]: then the channels of a tap, [.., G, C/G],
    are contiguous and groups can be summed by one matrix product.
    """

    def __init__(self, x, offset, geometry):
        n, height, width, channels = x.shape
        self.shape = x.shape
        self.groups = offset.shape[3]
        self.group_channels = channels // self.groups
        dtype = jnp.promote_types(offset.dtype, jnp.float32)
        offset = offset.astype(dtype)
        grid_y, grid_x = _base_positions(offset.shape[1:3], geometry, dtype)
        dy, dx = (jnp.swapaxes(offset[..., i], 3, 4) for i in (0, 1))
        y, self.inside_y = _clamp(grid_y + dy, height)
        x_position, self.inside_x = _clamp(grid_x + dx, width)
        self.rows, self.columns = height + sum(_BORDER), width + sum(_BORDER)
        y0, x0 = jnp.floor(y), jnp.floor(x_position)
        self.fy, self.fx = y - y0, x_position - x0

        image = jnp.arange(n).reshape(n, 1, 1, 1, 1)
        row = image * self.rows + y0.astype(jnp.int32) + _BORDER[0]
        pixel = row * self.columns + x0.astype(jnp.int32) + _BORDER[0]
        group = jnp.arange(self.groups).reshape(1, 1, 1, 1, -1)
        self.top_left = pixel * self.groups + group
        below = self.columns * self.groups
        # Index distances: top left, top right, bottom left, bottom right.
        self.steps = (0, self.groups, below, below + self.groups)

    def corners(self, x):
        """Read the four corners of every sample, each [N, Ho, Wo, K, G, C/G]."""
        padded = jnp.pad(x, ((0, 0), _BORDER, _BORDER, (0, 0)))
        table = padded.reshape(-1, self.group_channels)
        return [
            table.at[self.top_left + step].get(mode="promise_in_bounds")
            for step in self.steps
        ]

    def weights(self):
        """Bilinear weights of the four corners, each [N, Ho, Wo, K, G]."""
        fy, fx = self.fy, self.fx
        return [(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx]

    def interpolate(self, corners, mask):
        """Modulated samples, [N, Ho, Wo, K, G, C/G], in the type of x."""
        mask = jnp.swapaxes(mask, 3, 4)
        weighted = [
            corner * (weight * mask)[..., None]
            for corner, weight in zip(corners, self.weights(), strict=True)
        ]
        return functools.reduce(jnp.add, weighted).astype(corners[0].dtype)

    def position_gradients(self, dots, mask):
        """Gradients to mask [.., G, K] and offset [.., G, K, 2] from corner dots."""
        fy, fx = self.fy, self.fx
        top_left, top_right, bottom_left, bottom_right = dots
        grad_mask = sum(d * w for d, w in zip(dots, self.weights(), strict=True))
        down = (bottom_left - top_left) * (1 - fx) + (bottom_right - top_right) * fx
        right = (top_right - top_left) * (1 - fy) + (bottom_right - bottom_left) * fy
        grad_offset = jnp.stack(
            [jnp.where(self.inside_y, down, 0), jnp.where(self.inside_x, right, 0)], -1
        )
        grad_offset = jnp.swapaxes(grad_offset, 3, 4) * mask[..., None]
        return jnp.swapaxes(grad_mask, 3, 4), grad_offset

    def scatter(self, grad_columns, mask):
        """Add the gradient of every sample to its four corners, [N, H, W, C]."""
        n, height, width, channels = self.shape
        mask = jnp.swapaxes(mask, 3, 4)
        indices = jnp.stack([self.top_left + step for step in self.steps])
        updates = jnp.stack(
            [grad_columns * (weight * mask)[..., None] for weight in self.weights()]
        )
        table = jnp.zeros(
            (n * self.rows * self.columns * self.groups, self.group_channels),
            updates.dtype,
        )
        table = table.at[indices].add(updates, mode="promise_in_bounds")
        padded = table.reshape(n, self.rows, self.columns, channels)
        return padded[:, _BORDER[0] :][:, :height, _BORDER[0] :][:, :, :width]


def _base_positions(out_size, geometry, dtype):
    """Undisplaced positions of every tap, [1, Ho, 1, K, 1] and [1, 1, Wo, K, 1]."""
    (kh, kw), strides, padding, dilation = geometry
    tap_y, tap_x = (t.reshape(-1) for t in np.mgrid[:kh, :kw])
    y = np.arange(out_size[0])[:, None] * strides[0] - padding[0] + tap_y * dilation[0]
    x = np.arange(out_size[1])[:, None] * strides[1] - padding[1] + tap_x * dilation[1]
    return (
        y.astype(dtype)[None, :, None, :, None],
        x.astype(dtype)[None, None, :, :, None],
    )


def _clamp(position, size):
    """Clamp to the zero border [-1, size]; NaN goes there too."""
    inside = (position >= -1) & (position <= size)
    clamped = jnp.where(position >= -1, jnp.minimum(position, size), -1)
    return clamped, inside


def _grouped(kernel, columns, groups):
    """Kernel and columns with the convolution's groups as an axis of their own."""
    kh, kw, group_channels, features = kernel.shape
    kernel = kernel.reshape(kh * kw, group_channels, groups, features // groups)
    # [N, Ho, Wo, K, groups, C/groups]
    columns = columns.reshape(*columns.shape[:4], groups, group_channels)
    return kernel, columns


def _contract(columns, kernel, groups):
    kernel, columns = _grouped(kernel.astype(columns.dtype), columns, groups)
    out = jnp.einsum(
        "nhwkgc,kcgf->nhwgf",
        columns,
        kernel,
        preferred_element_type=jnp.promote_types(columns.dtype, jnp.float32),
    )
    return out.reshape(*out.shape[:3], -1)


def _contract_gradients(columns, kernel, cotangent, groups):
    """Gradients to the columns and to the kernel."""
    _, contract_vjp = jax.vjp(
        lambda c, k: _contract(c, k, groups), columns, kernel.astype(columns.dtype)
    )
    accumulation_dtype = jnp.promote_types(columns.dtype, jnp.float32)
    return contract_vjp(cotangent.astype(accumulation_dtype))
