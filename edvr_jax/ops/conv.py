"""2-D convolution with symmetric padding and a kernel gradient fast on every backend.

XLA's CPU backend computes the gradient to the kernel as one convolution with the
image as its kernel, several times slower than the forward pass. There it is computed
as a matrix product per image instead (measured in docs/design.md).
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax


def conv2d(x: jax.Array, kernel: jax.Array, strides: int = 1) -> jax.Array:
    """Convolve with zeros around the image, half the kernel's side wide.

    The padding is the same on all sides, also with strides, as in PyTorch;
    "SAME" would pad one side only for strides 2 and even sizes.

    Args:
        x: Features, [N, H, W, C].
        kernel: Weights, [k, k, C, F], k odd, dtype of x.
        strides: Step between output positions.

    Returns:
        [N, ceil(H/strides), ceil(W/strides), F], dtype of x.
    """
    return cast(jax.Array, _conv(x, kernel, strides))


def _xla_conv(x, kernel, strides):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


_conv = jax.custom_vjp(_xla_conv, nondiff_argnums=(2,))


def _conv_fwd(x, kernel, strides):
    return _xla_conv(x, kernel, strides), (x, kernel)


def _conv_bwd(strides, residuals, cotangent):
    x, kernel = residuals

    def native(x, cotangent):
        return jax.vjp(lambda k: _xla_conv(x, k, strides), kernel)[1](cotangent)[0]

    grad_x = jax.vjp(lambda x: _xla_conv(x, kernel, strides), x)[1](cotangent)[0]
    if strides != 1:
        return grad_x, native(x, cotangent)
    by_columns = functools.partial(_kernel_gradient_by_columns, size=kernel.shape[0])
    grad_kernel = lax.platform_dependent(x, cotangent, cpu=by_columns, default=native)
    return grad_x, grad_kernel


_conv.defvjp(_conv_fwd, _conv_bwd)


def _kernel_gradient_by_columns(x, cotangent, *, size):
    """Gradient to the kernel: image by image, taps side by side, one product.

    The taps are taken of x or, with mirrored displacements, of the cotangent:
    whichever has fewer channels.
    """
    channels, features = x.shape[-1], cotangent.shape[-1]

    def one_image(images):
        image, gradient = images
        if channels <= features:
            product = _columns(image, size).T @ gradient.reshape(-1, features)
            return product.reshape(size, size, channels, features)
        product = image.reshape(-1, channels).T @ _columns(gradient, size)
        product = product.reshape(channels, size, size, features)
        return jnp.flip(product.transpose(1, 2, 0, 3), (0, 1))

    return lax.map(one_image, (x, cotangent)).sum(0)


def _columns(image, size):
    """Shifted copies of an image side by side, [H*W, size*size*C]."""
    height, width, _ = image.shape
    pad = size // 2
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    shifted = [
        padded[i : i + height, j : j + width] for i in range(size) for j in range(size)
    ]
    return jnp.concatenate(shifted, -1).reshape(height * width, -1)
