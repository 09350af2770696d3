"""Deformable convolution over a grid of parameters, against a slow NumPy loop.

The members of the kind "a setting that nobody tries": every kernel from 1x1 to 5x5 and
rectangular ones, strides, paddings and dilations of their own in y and x, groups of the
convolution and of the offsets, empty batches, images of one row or column.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.ops import deform_conv2d

KERNELS = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (1, 3), (3, 2), (5, 1))
STRIDES = (1, 2, (2, 1), (1, 3))
PADDINGS = (0, 1, 2, (1, 0), (0, 2))
DILATIONS = (1, 2, (1, 2))
GROUPS = ((1, 1), (2, 1), (1, 2), (2, 4), (4, 2))  # of the convolution, of the offsets
SIZE, CHANNELS, FEATURES = (6, 9), 8, 4


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def fits(kernel_size, strides, padding, dilation, groups):
    return all(
        length + 2 * pad >= step * (k - 1) + 1
        for length, k, pad, step in zip(
            SIZE, kernel_size, pair(padding), pair(dilation), strict=True
        )
    )


GRID = tuple(
    case
    for case in itertools.product(KERNELS, STRIDES, PADDINGS, DILATIONS, GROUPS)
    if fits(*case)
)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def make_arguments(size, kernel_size, options, groups, deformable_groups, n=1):
    rng = np.random.default_rng(0)
    taps = kernel_size[0] * kernel_size[1]
    out = tuple(
        (length + 2 * pad - step * (k - 1) - 1) // stride + 1
        for length, k, stride, pad, step in zip(
            size, kernel_size, *map(pair, options.values()), strict=True
        )
    )
    shape = (n, *out, deformable_groups, taps)
    return (
        rng.normal(size=(n, *size, CHANNELS)),
        rng.uniform(-2, 2, (*shape, 2)),
        rng.uniform(size=shape),
        rng.normal(size=(*kernel_size, CHANNELS // groups, FEATURES)),
        rng.normal(size=FEATURES),
    )


def slow_loop(arguments, cotangent, options, groups):
    """Output and gradients, one sample and one corner after the other."""
    x, offset, mask, kernel, bias = arguments
    kh, kw, group_channels, features = kernel.shape
    strides, padding, dilation = map(pair, options.values())
    out = np.zeros((*offset.shape[:3], features)) + bias
    gradients = [np.zeros_like(a) for a in arguments]
    grad_x, grad_offset, grad_mask, grad_kernel, grad_bias = gradients
    grad_bias += cotangent.sum((0, 1, 2))
    per_group = CHANNELS // offset.shape[3]
    for n, i, j, tap in np.ndindex(*offset.shape[:3], kh * kw):
        at = tap // kw, tap % kw
        for c in range(CHANNELS):
            g = c // per_group
            y, left = (
                position * stride - pad + step * k + offset[n, i, j, g, tap, axis]
                for axis, (position, stride, pad, step, k) in enumerate(
                    zip((i, j), strides, padding, dilation, at, strict=True)
                )
            )
            y0, x0 = int(np.floor(y)), int(np.floor(left))
            # Channel c meets the features of its group of the convolution.
            first = c // group_channels * (features // groups)
            reached = slice(first, first + features // groups)
            weights = kernel[at[0], at[1], c % group_channels, reached]
            arrived = float(cotangent[n, i, j, reached] @ weights)
            value = 0.0
            for cy, cx in itertools.product((y0, y0 + 1), (x0, x0 + 1)):
                if not (0 <= cy < x.shape[1] and 0 <= cx < x.shape[2]):
                    continue
                wy, wx = 1 - abs(y - cy), 1 - abs(left - cx)
                value += wy * wx * x[n, cy, cx, c]
                down, right = (1 if cy > y0 else -1), (1 if cx > x0 else -1)
                m = mask[n, i, j, g, tap]
                grad_x[n, cy, cx, c] += arrived * m * wy * wx
                grad_offset[n, i, j, g, tap] += (
                    arrived * m * x[n, cy, cx, c] * np.array([down * wx, right * wy])
                )
            modulated = value * mask[n, i, j, g, tap]
            grad_mask[n, i, j, g, tap] += arrived * value
            grad_kernel[at[0], at[1], c % group_channels, reached] += (
                modulated * cotangent[n, i, j, reached]
            )
            out[n, i, j, reached] += modulated * weights
    return out, gradients


def check(case, size=SIZE):
    kernel_size, strides, padding, dilation, (groups, deformable_groups) = case
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    arguments = make_arguments(size, kernel_size, options, groups, deformable_groups)
    shape = (*arguments[1].shape[:3], FEATURES)
    cotangent = np.random.default_rng(1).normal(size=shape)

    @jax.jit
    def both(arguments):
        out, vjp = jax.vjp(
            lambda *a: deform_conv2d(*a, **options, groups=groups), *arguments
        )
        return out, vjp(cotangent)

    out, gradients = both(tuple(map(jnp.asarray, arguments)))
    expected, expected_gradients = slow_loop(arguments, cotangent, options, groups)
    # Measured at most 3e-14, CPU, float64.
    np.testing.assert_allclose(out, expected, atol=1e-12, rtol=1e-12)
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-12, rtol=1e-12)


def some(count):
    """Cases of the grid in which every value of every parameter occurs."""
    order = np.random.default_rng(0).permutation(len(GRID))
    return [GRID[k] for k in order[:count]]


def test_the_cases_have_every_value():
    tried = zip(*some(24), strict=True)
    every = (KERNELS, STRIDES, PADDINGS, DILATIONS, GROUPS)
    for values, seen in zip(every, tried, strict=True):
        assert set(values) == set(seen)


@pytest.mark.parametrize("case", some(24), ids=str)
def test_equals_the_slow_loop(x64, case):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("kernel_size", KERNELS, ids=str)
def test_whole_grid_equals_the_slow_loop(x64, kernel_size):
    for case in GRID:
        if case[0] == kernel_size:
            check(case)
    jax.clear_caches()


@pytest.mark.parametrize("size", [(1, 5), (5, 1)])
def test_images_of_one_row_or_column(x64, size):
    check(((3, 3), 1, 1, 1, (1, 2)), size)


def test_empty_batch_gives_an_empty_result_and_no_gradient():
    options = {"strides": 1, "padding": 1, "dilation": 1}
    arguments = make_arguments((4, 5), (3, 3), options, 1, 2, n=0)
    arguments = tuple(jnp.asarray(a, jnp.float32) for a in arguments)
    out, vjp = jax.vjp(deform_conv2d, *arguments)
    assert out.shape == (0, 4, 5, FEATURES)
    for gradient, argument in zip(vjp(out), arguments, strict=True):
        assert gradient.shape == argument.shape
        assert not gradient.any()


def test_images_smaller_than_the_kernel_are_refused():
    options = {"strides": 1, "padding": 1, "dilation": 1}
    x, *rest = make_arguments((4, 5), (3, 3), options, 1, 2)
    with pytest.raises(ValueError, match=r"4x1 .* smaller than the kernel of 3x3"):
        deform_conv2d(x[:, :, :1], *rest, padding=0)
    with pytest.raises(ValueError, match=r"0x5 .* smaller than the kernel of 3x3"):
        deform_conv2d(x[:, :0], *rest)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"strides": 0}, ValueError, "strides must be at least 1, got 0"),
        ({"strides": 1.5}, TypeError, "strides must be a whole number"),
        ({"strides": (1, 2, 3)}, ValueError, "strides"),
        ({"padding": -1}, ValueError, "padding must be at least 0"),
        ({"dilation": (1, 0)}, ValueError, "dilation"),
        ({"dilation": "2"}, TypeError, "dilation"),
        ({"dilation": [1, None]}, TypeError, "dilation"),
    ],
)
def test_impossible_steps_are_refused(change, error, message):
    options = {"strides": 1, "padding": 1, "dilation": 1}
    arguments = make_arguments((4, 5), (3, 3), options, 1, 2)
    with pytest.raises(error, match=message):
        deform_conv2d(*arguments, **{**options, **change})


@pytest.mark.parametrize("index", range(5))
def test_integers_are_refused_by_name(index):
    """They would be truncated: images of uint8, offsets and masks of whole numbers."""
    name = ("x", "offset", "mask", "kernel", "bias")[index]
    options = {"strides": 1, "padding": 1, "dilation": 1}
    arguments = list(make_arguments((4, 5), (3, 3), options, 1, 2))
    arguments[index] = arguments[index].astype(np.int32)
    with pytest.raises(TypeError, match=f"^{name} must be floating point, got int32"):
        deform_conv2d(*arguments)
