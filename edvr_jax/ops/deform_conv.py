"""Modulated deformable convolution (DCNv2) by bilinear gather.

Source: Deformable ConvNets v2 (arXiv:1811.11168), section 3.2 "Modulated
Deformable Modules", used by EDVR (arXiv:1905.02716) section 3.2. Semantics and
gradients are those of ``torchvision.ops.deform_conv2d``, whose outputs are in
``tests/fixtures/deform_conv``.

The image is padded with a border of zeros and every position is clamped onto
that border, so no index ever leaves the image and no validity masks are needed:
a sample beyond the border reads zeros, a sample within one pixel of the border
is interpolated with them.

The samples of all taps side by side, the columns, are 9 times as large as the
features. They are made and contracted for some rows of the output at a time, and
made again for the gradients, so they are never in memory as a whole; measurements
are in docs/performance.md.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Zeros around the image: row -1 above it, rows H and H + 1 below it. A position
# is clamped to [-1, H]; its lower corner is at most H + 1.
_BORDER = (1, 2)

# Bytes of columns held at a time: as much as stays in a CPU's cache; elsewhere
# few large steps keep the device busy.
_COLUMNS_BYTES_CPU = 2**20
_COLUMNS_BYTES_ACCELERATOR = 2**29


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
    columns_bytes: int | None = None,
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
        columns_bytes: Memory in bytes for the samples held at a time, at least one
            row of the output; None is 1 MiB on CPU, 512 MiB elsewhere. Changes
            the results by rounding only.

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
    options = _Options(
        kernel.shape[:2], strides, padding, dilation, groups, columns_bytes
    )
    out = cast(jax.Array, _deform_conv(x, offset, mask, kernel, options))
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


class _Options(NamedTuple):
    """What is known at compile time."""

    taps: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    columns_bytes: int | None


def _on_platform(function, *operands, options):
    """Call ``function`` with as many bytes of columns as suit the platform."""
    if options.columns_bytes is not None:
        return function(*operands, options=options)
    cpu, accelerator = (
        functools.partial(function, options=options._replace(columns_bytes=size))
        for size in (_COLUMNS_BYTES_CPU, _COLUMNS_BYTES_ACCELERATOR)
    )
    return lax.platform_dependent(*operands, cpu=cpu, default=accelerator)


def _forward(x, offset, mask, kernel, options):
    """Forward pass on checked arguments; ``options`` is static."""
    return _on_platform(_convolve, x, offset, mask, kernel, options=options)


_deform_conv = jax.custom_vjp(_forward, nondiff_argnums=(4,))


def _deform_conv_fwd(x, offset, mask, kernel, options):
    return _forward(x, offset, mask, kernel, options), (x, offset, mask, kernel)


def _deform_conv_bwd(options, arguments, cotangent):
    gradients = _on_platform(_gradients, *arguments, cotangent, options=options)
    return tuple(
        gradient.astype(argument.dtype)
        for gradient, argument in zip(gradients, arguments, strict=True)
    )


_deform_conv.defvjp(_deform_conv_fwd, _deform_conv_bwd)


def _convolve(x, offset, mask, kernel, *, options):
    table, steps = _table(x, offset.shape[3])
    samples, _ = _sample(x, offset, mask, options)
    kernel = kernel.astype(x.dtype)

    def convolve_rows(samples):
        columns = samples.interpolate(samples.corners(table, steps))
        return _contract(columns, kernel, options.groups)

    split = _RowSplit(x, offset, options)
    out = lax.map(convolve_rows, jax.tree.map(split, samples))
    return split.join(out).astype(x.dtype)


def _gradients(x, offset, mask, kernel, cotangent, *, options):
    """Gradients to x, offset, mask and kernel, summed in float32 at least."""
    table, steps = _table(x, offset.shape[3])
    samples, inside = _sample(x, offset, mask, options)
    accumulation_dtype = jnp.promote_types(x.dtype, jnp.float32)

    def add_rows(sums, rows):
        grad_table, grad_kernel = sums
        samples, cotangent = rows
        corners = samples.corners(table, steps)
        _, contract_vjp = jax.vjp(
            lambda columns, kernel: _contract(columns, kernel, options.groups),
            samples.interpolate(corners),
            kernel.astype(x.dtype),
        )
        grad_columns, grad_kernel_rows = contract_vjp(cotangent)
        grad_columns = grad_columns.astype(accumulation_dtype)
        for step, weight in zip(steps, samples.weights(), strict=True):
            grad_table = grad_table.at[samples.index + step].add(
                grad_columns * (weight * samples.mask)[..., None],
                mode="promise_in_bounds",
                wrap_negative_indices=False,
            )
        grads = samples.gradients(corners, grad_columns)
        return (grad_table, grad_kernel + grad_kernel_rows), grads

    split = _RowSplit(x, offset, options)
    zeros = (
        jnp.zeros(table.shape, accumulation_dtype),
        jnp.zeros(kernel.shape, accumulation_dtype),
    )
    rows = jax.tree.map(split, (samples, cotangent.astype(accumulation_dtype)))
    (grad_table, grad_kernel), grads = lax.scan(add_rows, zeros, rows)
    grad_y, grad_x_position, grad_mask = map(split.join, grads)
    grad_offset = jnp.stack(
        [jnp.where(inside[0], grad_y, 0), jnp.where(inside[1], grad_x_position, 0)], -1
    )
    n, height, width, channels = x.shape
    padded = grad_table.reshape(n, height + sum(_BORDER), -1, channels)
    grad_x = padded[:, _BORDER[0] :][:, :height, _BORDER[0] :][:, :, :width]
    return (
        grad_x,
        jnp.swapaxes(grad_offset, 3, 4),
        jnp.swapaxes(grad_mask, 3, 4),
        grad_kernel,
    )


def _table(x, deformable_groups):
    """Bordered x as a table of one group's channels at one pixel, [rows, C/G].

    Also the distances in this table from a sample's top left corner to its corners:
    top left, top right, bottom left, bottom right.
    """
    padded = jnp.pad(x, ((0, 0), _BORDER, _BORDER, (0, 0)))
    below = padded.shape[2] * deformable_groups
    steps = (0, deformable_groups, below, below + deformable_groups)
    return padded.reshape(-1, x.shape[3] // deformable_groups), steps


class _Samples(NamedTuple):
    """Where the taps of the output positions read, each [..., K, G].

    Taps before groups: then the channels of a tap, [G, C/G], are contiguous.
    """

    index: jax.Array  # of the top left corner in the table
    fy: jax.Array  # distance down from the top left corner, in [0, 1)
    fx: jax.Array
    mask: jax.Array

    def corners(self, table, steps):
        """Read the four corners, each [..., K, G, C/G]."""
        return [
            table.at[self.index + step].get(
                mode="promise_in_bounds", wrap_negative_indices=False
            )
            for step in steps
        ]

    def weights(self):
        """Bilinear weights of the four corners."""
        fy, fx = self.fy, self.fx
        return [(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx]

    def interpolate(self, corners):
        """Modulated samples, the columns, [..., K, G, C/G], in the type of x."""
        weighted = [
            corner * (weight * self.mask)[..., None]
            for corner, weight in zip(corners, self.weights(), strict=True)
        ]
        return functools.reduce(jnp.add, weighted).astype(corners[0].dtype)

    def gradients(self, corners, grad_columns):
        """Gradients to the positions y and x and to the mask.

        They are combinations of four dot products: the gradient to the columns with
        each corner, over the channels of a group.
        """
        groups, channels = grad_columns.shape[-2:]
        group_sum = np.repeat(np.eye(groups, dtype=grad_columns.dtype), channels, 0)
        flat = (*grad_columns.shape[:-2], groups * channels)
        dots = [
            jnp.matmul(
                (grad_columns * corner).reshape(flat),
                group_sum,
                precision=lax.Precision.HIGHEST,
            )
            for corner in corners
        ]
        top_left, top_right, bottom_left, bottom_right = dots
        fy, fx = self.fy, self.fx
        down = (bottom_left - top_left) * (1 - fx) + (bottom_right - top_right) * fx
        right = (top_right - top_left) * (1 - fy) + (bottom_right - bottom_left) * fy
        grad_mask = sum(d * w for d, w in zip(dots, self.weights(), strict=True))
        return down * self.mask, right * self.mask, grad_mask


def _sample(x, offset, mask, options):
    """Samples of all output positions, [N, Ho, Wo, K, G], and where y and x count.

    A position beyond the border has no gradient.
    """
    n, height, width, _ = x.shape
    groups = offset.shape[3]
    dtype = jnp.promote_types(offset.dtype, jnp.float32)
    offset = jnp.swapaxes(offset.astype(dtype), 3, 4)
    grid_y, grid_x = _base_positions(offset.shape[1:3], options, dtype)
    y, inside_y = _clamp(grid_y + offset[..., 0], height)
    x_position, inside_x = _clamp(grid_x + offset[..., 1], width)
    y0, x0 = jnp.floor(y), jnp.floor(x_position)

    image = jnp.arange(n).reshape(n, 1, 1, 1, 1)
    row = image * (height + sum(_BORDER)) + y0.astype(jnp.int32) + _BORDER[0]
    pixel = row * (width + sum(_BORDER)) + x0.astype(jnp.int32) + _BORDER[0]
    group = jnp.arange(groups).reshape(1, 1, 1, 1, -1)
    samples = _Samples(
        index=pixel * groups + group,
        fy=y - y0,
        fx=x_position - x0,
        mask=jnp.swapaxes(mask.astype(dtype), 3, 4),
    )
    return samples, (inside_y, inside_x)


def _base_positions(out_size, options, dtype):
    """Undisplaced positions of every tap, [1, Ho, 1, K, 1] and [1, 1, Wo, K, 1]."""
    kh, kw = options.taps
    tap_y, tap_x = (t.reshape(-1) for t in np.mgrid[:kh, :kw])
    y, x = (
        np.arange(size)[:, None] * stride - pad + tap * step
        for size, stride, pad, tap, step in zip(
            out_size,
            options.strides,
            options.padding,
            (tap_y, tap_x),
            options.dilation,
            strict=True,
        )
    )
    return (
        y.astype(dtype)[None, :, None, :, None],
        x.astype(dtype)[None, None, :, :, None],
    )


def _clamp(position, size):
    """Clamp to the zero border [-1, size]; NaN goes there too."""
    inside = (position >= -1) & (position <= size)
    clamped = jnp.where(position >= -1, jnp.minimum(position, size), -1)
    return clamped, inside


class _RowSplit:
    """Splits [N, Ho, Wo, ...] into parts of whole rows, [parts, pixels, ...].

    A part has as many rows as the columns may take memory; the last part is filled
    with zeros, which read the border and weigh nothing.
    """

    def __init__(self, x, offset, options):
        self.shape = offset.shape[:3]
        n, height, width = self.shape
        row_bytes = width * math.prod(options.taps) * x.shape[3] * x.dtype.itemsize
        rows = max(1, min(options.columns_bytes // max(1, row_bytes), n * height))
        self.parts = -(-n * height // rows)
        rows = -(-n * height // self.parts)
        self.fill = self.parts * rows - n * height

    def __call__(self, array):
        n, height, *rest = array.shape
        rows = array.reshape(n * height, *rest)
        rows = jnp.pad(rows, ((0, self.fill), *[(0, 0)] * len(rest)))
        return rows.reshape(self.parts, -1, *rest[1:])

    def join(self, parts):
        """Undo the split."""
        n, height, width = self.shape
        rows = parts.reshape(-1, width, *parts.shape[2:])
        return rows[: n * height].reshape(n, height, width, *parts.shape[2:])


def _contract(columns, kernel, groups):
    """Multiply columns [P, K, G, C/G] with the kernel: [P, F], float32 at least."""
    kh, kw, group_channels, features = kernel.shape
    columns = columns.reshape(-1, kh * kw, groups, group_channels)
    kernel = kernel.reshape(kh * kw * group_channels, groups, features // groups)
    # One product per group: a batched one would transpose the columns.
    products = [
        jnp.matmul(
            columns[:, :, group].reshape(-1, kh * kw * group_channels),
            kernel[:, group],
            preferred_element_type=jnp.promote_types(columns.dtype, jnp.float32),
        )
        for group in range(groups)
    ]
    return jnp.concatenate(products, -1)
