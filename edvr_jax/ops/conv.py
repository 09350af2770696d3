"""2-D convolution with symmetric padding and gradients fast on every backend.

XLA's CPU backend computes the gradient to the kernel as one convolution with the
image as its kernel, several times slower than the forward pass. There it is computed
by matrix products of strips of the images instead; and the gradient to the image is
written as the convolution that it is, also for loops (docs/performance.md).
"""

import os
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from edvr_jax.ops import varying
from edvr_jax.ops.arguments import bind, is_empty, whole_number

# Bytes of shifted copies side by side that are made at a time on CPU.
_COLUMNS_BYTES = 2**22

_LAYOUT = ("NHWC", "HWIO", "NHWC")

_CPU_FUSIONS = "xla_cpu_experimental_ynn_fusion_type"


def compiler_options() -> dict[str, str | bool | int | float] | None:
    """Return options for ``jax.jit`` that let XLA's CPU backend convolve by Eigen.

    The default of jaxlib 0.10, YNNPACK, takes longer for the sizes of EDVR
    (docs/performance.md).

    Returns:
        Options for ``jax.jit(compiler_options=...)``; None on other backends, or if
        XLA_FLAGS already mentions the option.
    """
    is_chosen = _CPU_FUSIONS in os.environ.get("XLA_FLAGS", "")
    if is_chosen or jax.default_backend() != "cpu":
        return None
    # Unlike a flag, an option replaces the whole list: matrix products stay in it.
    return {_CPU_FUSIONS: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def conv2d(x: ArrayLike, kernel: ArrayLike, strides: int = 1) -> jax.Array:
    """Convolve with zeros around the image, half the kernel's side wide.

    The padding is the same on all sides, also with strides, as in PyTorch;
    "SAME" would pad one side only for strides 2 and even sizes.

    Args:
        x: Features, [N, H, W, C].
        kernel: Weights, [k, k, C, F], k odd, dtype of x.
        strides: Step between output positions.

    Returns:
        [N, ceil(H/strides), ceil(W/strides), F], dtype of x.

    Raises:
        TypeError: if x is not floating point, kernel has another type, or strides is
            not a whole number.
        ValueError: if the shapes do not fit together, or strides is less than 1.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype != kernel.dtype:
        raise TypeError(
            f"x and kernel must have one floating point type, got {x.dtype} and "
            f"{kernel.dtype}"
        )
    strides = whole_number("strides", strides)
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            "expected x [N, H, W, C] and kernel [k, k, C, F], got "
            f"{x.shape} and {kernel.shape}"
        )
    if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"kernel must be square and odd, got {kernel.shape}")
    if is_empty(x):
        return _xla_conv(x, kernel, strides)  # the own gradient needs an image
    return cast(jax.Array, _conv(x, kernel, strides))


def _xla_conv(x, kernel, strides):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        ((pad, pad), (pad, pad)),
        dimension_numbers=_LAYOUT,
    )


_conv = jax.custom_vjp(_xla_conv, nondiff_argnums=(2,))


def _conv_fwd(x, kernel, strides):
    return _xla_conv(x, kernel, strides), (x, kernel)


def _conv_bwd(strides, residuals, cotangent):
    x, kernel, cotangent = varying.align(*residuals, cotangent)
    by_columns, native = (
        bind(gradient, size=kernel.shape[0], strides=strides)
        for gradient in (_kernel_gradient_by_columns, _native_kernel_gradient)
    )
    grad_kernel = lax.platform_dependent(x, cotangent, cpu=by_columns, default=native)
    gradients = _image_gradient(x.shape, kernel, strides, cotangent), grad_kernel
    return tuple(map(varying.sum_like, gradients, residuals))


_conv.defvjp(_conv_fwd, _conv_bwd)


def _image_gradient(shape, kernel, strides, cotangent):
    """Gradient to the image, a convolution with the mirrored kernel.

    Spelled out because XLA on CPU turns a derived one into this form only outside of
    loops, and is very slow with it inside.
    """
    size = kernel.shape[0]
    low = size - 1 - size // 2
    padding = [
        (low, full + size - 2 - low - (part - 1) * strides)
        for full, part in zip(shape[1:3], cotangent.shape[1:3], strict=True)
    ]
    return lax.conv_general_dilated(
        cotangent,
        _mirror(kernel),
        (1, 1),
        padding,
        lhs_dilation=(strides, strides),
        dimension_numbers=_LAYOUT,
    )


def _mirror(kernel):
    """Turn a kernel by 180 degrees and swap its inputs and outputs."""
    return jnp.flip(jnp.swapaxes(kernel, 2, 3), (0, 1))


def _native_kernel_gradient(x, cotangent, *, size, strides):
    shape = (size, size, x.shape[-1], cotangent.shape[-1])
    kernel = varying.zeros(shape, x.dtype, like=cotangent)
    return jax.vjp(lambda k: _xla_conv(x, k, strides), kernel)[1](cotangent)[0]


def _kernel_gradient_by_columns(x, cotangent, *, size, strides):
    """Gradient to the kernel: strip by strip, taps side by side, one product.

    The taps are taken of x or, with mirrored displacements, of the cotangent:
    whichever has fewer channels.
    """
    is_mirrored = strides == 1 and cotangent.shape[-1] < x.shape[-1]
    tapped, other = (cotangent, x) if is_mirrored else (x, cotangent)
    n, height, width, _ = other.shape
    row_bytes = width * size**2 * tapped.shape[-1] * tapped.dtype.itemsize
    rows = _largest_divisor(height, at_most=_COLUMNS_BYTES // row_bytes)
    pad = size // 2
    padded = jnp.pad(tapped, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def add_strip(total, strip):
        image, top = strip // (height // rows), strip % (height // rows) * rows
        taps = _rows(padded, image, top * strides, (rows - 1) * strides + size)
        shifted = [
            taps[i::strides, j::strides][:rows, :width]
            for i in range(size)
            for j in range(size)
        ]
        columns = jnp.concatenate(shifted, -1).reshape(rows * width, -1)
        strip_of_other = _rows(other, image, top, rows).reshape(rows * width, -1)
        product = jnp.matmul(
            columns.T, strip_of_other, preferred_element_type=total.dtype
        )
        return total + product, None

    zeros = varying.zeros(
        (size**2 * tapped.shape[-1], other.shape[-1]),
        np.promote_types(x.dtype, jnp.float32),
        like=cotangent,
    )
    total, _ = lax.scan(add_strip, zeros, jnp.arange(n * (height // rows)))
    total = total.astype(x.dtype)
    total = total.reshape(size, size, tapped.shape[-1], other.shape[-1])
    return _mirror(total) if is_mirrored else total


def _rows(images, image, top, count):
    """Some rows of one image, [count, W, C]."""
    _, _, width, channels = images.shape
    return lax.dynamic_slice(
        images, (image, top, 0, 0), (1, count, width, channels)
    ).reshape(count, width, channels)


def _largest_divisor(number, *, at_most):
    return max(d for d in range(1, max(1, at_most) + 1) if number % d == 0)
