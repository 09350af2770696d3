"""Modulated deformable convolution (DCNv2) by bilinear gather.

Source: Deformable ConvNets v2 (arXiv:1811.11168), section 3.2 "Modulated
Deformable Modules", used by EDVR (arXiv:1905.02716) section 3.2. Semantics and
gradients are those of ``torchvision.ops.deform_conv2d``, whose outputs are in
``tests/fixtures/deform_conv``.

The samples of all taps side by side, the columns, are 9 times as large as the
features. They are made and contracted for some rows of the output at a time, and
made again for the gradients, so they are never in memory as a whole; measurements
are in docs/performance.md.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from edvr_jax.ops import bilinear, varying
from edvr_jax.ops.arguments import bind, is_empty, whole_number
from edvr_jax.ops.corner_gather import CornerGather
from edvr_jax.ops.patch_gather import PatchGather

Sampling = Literal["corners", "patches"]
_GATHERS = {"corners": CornerGather, "patches": PatchGather}

# For each platform the sampling, and the bytes of columns held at a time: as much as
# stays in a CPU's cache; elsewhere few large steps keep the device busy.
_LARGE = 2**29
_CHOICES: dict[str, tuple[Sampling, int]] = {
    "cpu": ("corners", 2**20),
    "tpu": ("patches", _LARGE),
    "default": ("corners", _LARGE),
}


def deform_conv2d(  # noqa: PLR0913
    x: ArrayLike,
    offset: ArrayLike,
    mask: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    columns_bytes: int | None = None,
    sampling: Sampling | None = None,
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
        sampling: How samples are read: "corners", four gathers
            (``ops/corner_gather.py``), or "patches", one gather of four corners
            (``ops/patch_gather.py``). None is patches on TPUs, corners elsewhere.
            Changes the results by rounding only.

    Returns:
        Convolved features, [N, Ho, Wo, F], dtype of x. Positions and
        interpolation weights are computed in float32 (float64 if offset is).

    Raises:
        TypeError: if an array is not floating point, or a number is not whole.
        ValueError: if the shapes do not fit together.

    Note:
        A position that is NaN reads zero, like one far outside, and passes no
        gradient to its offset. Derivatives are by reverse mode, also second ones:
        ``jax.grad`` and ``jax.vjp``; ``jax.jvp`` is not supported. At an exactly
        integer position the derivative to the offset is the one to the right and
        below, as in torchvision.
    """
    x, offset, mask, kernel = map(jnp.asarray, (x, offset, mask, kernel))
    bias = None if bias is None else jnp.asarray(bias)
    _check_types(x=x, offset=offset, mask=mask, kernel=kernel, bias=bias)
    grid = bilinear.Grid(
        _pair("kernel", kernel.shape[:2]),
        _pair("strides", strides),
        _pair("padding", padding, least=0),
        _pair("dilation", dilation),
    )
    groups = whole_number("groups", groups)
    if columns_bytes is not None:
        columns_bytes = whole_number("columns_bytes", columns_bytes)
    if sampling not in (None, *_GATHERS):
        raise ValueError(f"sampling must be {' or '.join(_GATHERS)}, got {sampling!r}")
    _check_shapes(x, offset, mask, kernel, bias, grid, groups)
    if is_empty(mask):
        out = jnp.zeros((*offset.shape[:3], kernel.shape[-1]), x.dtype)
    else:
        options = _Options(grid, groups, columns_bytes, sampling)
        out = cast(jax.Array, _deform_conv(x, offset, mask, kernel, options))
    return out if bias is None else out + bias.astype(out.dtype).reshape(1, 1, 1, -1)


def _pair(name: str, value: Any, *, least: int = 1) -> tuple[int, int]:
    """Return (y, x) of one whole number or of two."""
    is_pair = isinstance(value, Sequence) and not isinstance(value, str)
    pair = tuple(value) if is_pair else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be one or two numbers, got {value!r}")
    y, x = (whole_number(name, number, least=least) for number in pair)
    return y, x


def _check_types(**arrays) -> None:
    for name, array in arrays.items():
        if array is not None and not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"{name} must be floating point, got {array.dtype}; convert it, for "
                "example with astype(jnp.float32)"
            )


def _check_shapes(x, offset, mask, kernel, bias, grid, groups) -> None:
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
    out_size = grid.out_size((height, width))
    if bilinear.is_known(*out_size) and min(out_size) < 1:
        raise ValueError(
            f"x of {height}x{width} with padding {grid.padding} is smaller than the "
            f"kernel of {kh}x{kw} taps with dilation {grid.dilation}"
        )
    deformable_groups = offset.shape[3]
    expected = (n, *out_size, deformable_groups, kh * kw)
    if offset.shape != (*expected, 2) or mask.shape != expected:
        raise ValueError(
            f"expected offset {(*expected, 2)} and mask {expected}, "
            f"got {offset.shape} and {mask.shape}"
        )
    if not deformable_groups or channels % deformable_groups:
        raise ValueError(
            f"the {deformable_groups} deformable groups of offset must divide the "
            f"{channels} channels of x"
        )
    if not bilinear.fits_indices(x.shape, deformable_groups):
        raise ValueError(
            f"x {x.shape} is too large for 32-bit indices; split the batch"
        )
    if bias is not None and bias.shape != (features,):
        raise ValueError(f"expected bias {(features,)}, got {bias.shape}")


class _Options(NamedTuple):
    """What is known at compile time."""

    grid: bilinear.Grid
    groups: int
    columns_bytes: int | None
    sampling: Sampling | None


def _on_platform(function, *operands, options):
    """Call ``function`` with the sampling and the memory that suit the platform."""
    if options.sampling is not None and options.columns_bytes is not None:
        return function(*operands, options=options)
    branches = {
        platform: bind(
            function,
            options=options._replace(
                sampling=options.sampling or sampling,
                columns_bytes=options.columns_bytes or num_bytes,
            ),
        )
        for platform, (sampling, num_bytes) in _CHOICES.items()
    }
    return lax.platform_dependent(*operands, **branches)


def _forward(x, offset, mask, kernel, options):
    """Forward pass on checked arguments; ``options`` is static."""
    return _on_platform(_convolve, x, offset, mask, kernel, options=options)


_deform_conv = jax.custom_vjp(_forward, nondiff_argnums=(4,))


def _deform_conv_fwd(x, offset, mask, kernel, options):
    return _forward(x, offset, mask, kernel, options), (x, offset, mask, kernel)


def _deform_conv_bwd(options, arguments, cotangent):
    operands = varying.align(*arguments, cotangent)
    gradients = _on_platform(_gradients, *operands, options=options)
    return tuple(
        varying.sum_like(gradient, argument).astype(argument.dtype)
        for gradient, argument in zip(gradients, arguments, strict=True)
    )


_deform_conv.defvjp(_deform_conv_fwd, _deform_conv_bwd)


def _convolve(x, offset, mask, kernel, *, options):
    gather = _GATHERS[options.sampling](x.shape, offset.shape[3])
    samples, _ = bilinear.locate(x, offset, mask, options.grid, gather)
    table, kernel = gather.make_table(x), kernel.astype(x.dtype)

    def convolve_rows(samples):
        columns = gather.interpolate(gather.read(table, samples), samples)
        return _contract(columns, kernel, options.groups)

    split = _RowSplit(x, offset, options, gather)
    out = lax.map(convolve_rows, split.samples(samples))
    return split.join(out).astype(x.dtype)


def _gradients(x, offset, mask, kernel, cotangent, *, options):
    """Gradients to x, offset, mask and kernel, summed in float32 at least."""
    gather = _GATHERS[options.sampling](x.shape, offset.shape[3])
    samples, inside = bilinear.locate(x, offset, mask, options.grid, gather)
    table = gather.make_table(x)
    accumulation_dtype = np.promote_types(x.dtype, jnp.float32)

    def add_rows(sums, rows):
        grad_table, grad_kernel = sums
        samples, cotangent = rows
        corners = gather.read(table, samples)
        _, contract_vjp = jax.vjp(
            lambda columns, kernel: _contract(columns, kernel, options.groups),
            gather.interpolate(corners, samples),
            kernel.astype(x.dtype),
        )
        grad_columns, grad_kernel_rows = contract_vjp(cotangent)
        grad_columns = grad_columns.astype(accumulation_dtype)
        grad_table = gather.add(grad_table, grad_columns, samples)
        dots = gather.dot(corners, grad_columns)
        grad_kernel += grad_kernel_rows.astype(accumulation_dtype)
        return (grad_table, grad_kernel), samples.gradients(dots)

    split = _RowSplit(x, offset, options, gather)
    zeros = tuple(
        varying.zeros(shape, accumulation_dtype, like=cotangent)
        for shape in (table.shape, kernel.shape)
    )
    rows = split.samples(samples), split(cotangent.astype(accumulation_dtype))
    (grad_table, grad_kernel), grads = lax.scan(add_rows, zeros, rows)
    *grad_position, grad_mask = (split.join(gather.turn(grad)) for grad in grads)
    grad_y, grad_x_position, grad_mask = (
        bilinear.by_group(grad, groups=offset.shape[3])
        for grad in (
            *(jnp.where(i, g, 0) for i, g in zip(inside, grad_position, strict=True)),
            grad_mask,
        )
    )
    return (
        gather.make_image(grad_table),
        jnp.stack([grad_y, grad_x_position], -1),
        grad_mask,
        grad_kernel,
    )


class _RowSplit:
    """Splits [N, Ho, Wo, ...] into parts of whole rows, [parts, pixels, ...].

    A part has as many rows as the columns may take memory; the last part is filled
    with zeros, which read the border and weigh nothing.
    """

    def __init__(self, x, offset, options, gather):
        self.shape, self.gather = offset.shape[:3], gather
        n, height, width = self.shape
        if bilinear.is_known(n, height, width):
            num_samples = math.prod(options.grid.taps) * offset.shape[3]
            column = num_samples * gather.padded_channels * x.dtype.itemsize
            most = options.columns_bytes // max(1, width * column)
            parts = -(-n * height // max(1, min(most, n * height)))
            rows = gather.whole_rows(-(-n * height // parts), width)
        else:
            # Of a size left open by jax.export: one row, or all of them.
            is_small = options.columns_bytes < _LARGE
            rows = 1 if is_small else n * height
        self.parts = -(-n * height // rows)
        self.fill = self.parts * rows - n * height
        self.pixels = rows * width

    def __call__(self, array):
        n, height, *rest = array.shape
        rows = array.reshape(n * height, *rest)
        rows = jnp.pad(rows, ((0, self.fill), *[(0, 0)] * len(rest)))
        return rows.reshape(self.parts, self.pixels, *rest[1:])

    def samples(self, samples):
        """Split samples, and turn them as they are read."""
        return jax.tree.map(lambda array: self.gather.turn(self(array)), samples)

    def join(self, parts):
        """Undo the split."""
        n, height, width = self.shape
        rows = parts.reshape(n * height + self.fill, width, *parts.shape[2:])
        return rows[: n * height].reshape(n, height, width, *parts.shape[2:])


def _contract(columns, kernel, groups):
    """Multiply columns [P, K*G, C/G] with the kernel: [P, F], float32 at least."""
    kh, kw, group_channels, features = kernel.shape
    columns = columns.reshape(-1, kh * kw, groups, group_channels)
    kernel = kernel.reshape(kh * kw * group_channels, groups, features // groups)
    # One product per group: a batched one would transpose the columns.
    products = [
        jnp.matmul(
            columns[:, :, group].reshape(-1, kh * kw * group_channels),
            kernel[:, group],
            preferred_element_type=np.promote_types(columns.dtype, jnp.float32),
        )
        for group in range(groups)
    ]
    return jnp.concatenate(products, -1)
