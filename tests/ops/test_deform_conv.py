import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from edvr_jax.ops import conv, deform_conv2d

pytestmark = pytest.mark.usefixtures("optimized")

GOLDENS = (
    "edvr",
    "far_outside",
    "grouped",
    "integer_offsets",
    "kernel1",
    "kernel5",
    "stride2_dilation2",
    "zero_offsets",
)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def to_nhwc(array):
    return np.transpose(array, (0, 2, 3, 1))


def load(fixtures, name):
    """Golden as our arguments, and the reference's output and gradients in NHWC."""
    z = np.load(fixtures / "deform_conv" / f"{name}.npz")
    groups, taps = int(z["deform_groups"]), z["weight"][0, 0].size
    like_offset = lambda a: a.reshape(*a.shape[:3], groups, taps, 2)
    like_mask = lambda a: a.reshape(*a.shape[:3], groups, taps)
    like_kernel = lambda a: np.transpose(a, (2, 3, 1, 0))
    arguments = (
        to_nhwc(z["x"]),
        like_offset(to_nhwc(z["offset"])),
        like_mask(to_nhwc(z["mask"])),
        like_kernel(z["weight"]),
        z["bias"],
    )
    gradients = (
        to_nhwc(z["grad_x"]),
        like_offset(to_nhwc(z["grad_offset"])),
        like_mask(to_nhwc(z["grad_mask"])),
        like_kernel(z["grad_weight"]),
        z["grad_bias"],
    )
    options = {
        "strides": int(z["stride"]),
        "padding": int(z["padding"]),
        "dilation": int(z["dilation"]),
        "groups": int(z["groups"]),
    }
    return arguments, options, to_nhwc(z["out"]), to_nhwc(z["cotangent"]), gradients


@functools.partial(jax.jit, static_argnames="options")
def output_and_gradients(arguments, cotangent, options=()):
    out, vjp = jax.vjp(lambda *a: deform_conv2d(*a, **dict(options)), *arguments)
    return out, vjp(cotangent)


def relative_error(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    return np.abs(actual - expected).max() / np.abs(expected).max()


def random_arguments(rng, *, size=(6, 7), channels=4, groups=2, dtype=np.float32):
    shape = (2, *size, groups, 9)
    x = rng.normal(size=(2, *size, channels)).astype(dtype)
    offset = rng.uniform(-2, 2, size=(*shape, 2)).astype(dtype)
    mask = rng.uniform(size=shape).astype(dtype)
    kernel = rng.normal(size=(3, 3, channels, 5)).astype(dtype)
    bias = rng.normal(size=5).astype(dtype)
    return tuple(jnp.asarray(a) for a in (x, offset, mask, kernel, bias))


@pytest.mark.parametrize("sampling", ["corners", "patches"])
@pytest.mark.parametrize("name", GOLDENS)
def test_output_and_gradients_equal_torchvision(fixtures, x64, name, sampling):
    arguments, options, out, cotangent, gradients = load(fixtures, name)
    options["sampling"] = sampling
    actual = output_and_gradients(arguments, cotangent, tuple(options.items()))
    # Measured at most 1.1e-15, CPU, float64.
    assert relative_error(actual[0], out) < 1e-12
    for gradient, expected in zip(actual[1], gradients, strict=True):
        assert relative_error(gradient, expected) < 1e-12


def test_equals_a_slow_loop(x64):
    x, offset, mask, kernel, bias = map(
        np.asarray, random_arguments(np.random.default_rng(0), dtype=np.float64)
    )
    n, height, width, channels = x.shape
    expected = np.zeros((n, height, width, kernel.shape[-1]))
    for b, i, j in np.ndindex(n, height, width):
        for tap in range(9):
            for c in range(channels):
                group = c // (channels // 2)
                dy, dx = offset[b, i, j, group, tap]
                y, xx = i - 1 + tap // 3 + dy, j - 1 + tap % 3 + dx
                value = 0.0
                for yy in (int(np.floor(y)), int(np.floor(y)) + 1):
                    for cx in (int(np.floor(xx)), int(np.floor(xx)) + 1):
                        if 0 <= yy < height and 0 <= cx < width:
                            weight = (1 - abs(y - yy)) * (1 - abs(xx - cx))
                            value += weight * x[b, yy, cx, c]
                value *= mask[b, i, j, group, tap]
                expected[b, i, j] += value * kernel[tap // 3, tap % 3, c]
    actual = jax.jit(deform_conv2d)(x, offset, mask, kernel, bias)
    np.testing.assert_allclose(actual, expected + bias, atol=1e-12)


def test_gradients_equal_finite_differences(x64):
    arguments = random_arguments(np.random.default_rng(1), dtype=np.float64)
    check_grads(deform_conv2d, arguments, order=1, modes=["rev"], rtol=1e-5)


@pytest.mark.parametrize("num_rows", [1, 5, 100])
def test_memory_for_the_columns_changes_rounding_only(num_rows):
    # 12 rows in all: with 5 at a time the last part is filled up.
    x, offset, mask, kernel, bias = random_arguments(np.random.default_rng(4))
    row_bytes = 7 * 9 * 4 * x.dtype.itemsize

    def run(**options):
        arguments = x, offset, mask, kernel, bias
        return output_and_gradients(arguments, cotangent, tuple(options.items()))

    cotangent = jnp.ones((2, 6, 7, 5))
    actual, expected = run(columns_bytes=num_rows * row_bytes), run()
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_zero_offset_is_a_plain_convolution():
    x, offset, mask, kernel, _ = random_arguments(np.random.default_rng(2))
    actual = deform_conv2d(x, 0 * offset, jnp.ones_like(mask), kernel)
    np.testing.assert_allclose(actual, conv.conv2d(x, kernel), atol=1e-5)


def test_integer_offset_is_a_shift_and_border_reads_zero():
    x = jnp.arange(12.0).reshape(1, 3, 4, 1) + 1
    offset = jnp.broadcast_to(jnp.array([1.0, -1.0]), (1, 3, 4, 1, 1, 2))
    mask, kernel = jnp.ones((1, 3, 4, 1, 1)), jnp.ones((1, 1, 1, 1))
    out = deform_conv2d(x, offset, mask, kernel, padding=0)[0, :, :, 0]
    np.testing.assert_array_equal(out, [[0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]])


def test_half_a_pixel_beyond_the_border_counts_half():
    x = jnp.full((1, 2, 2, 1), 8.0)
    offset = jnp.broadcast_to(jnp.array([-0.5, 0.0]), (1, 2, 2, 1, 1, 2))
    mask, kernel = jnp.ones((1, 2, 2, 1, 1)), jnp.ones((1, 1, 1, 1))
    out = deform_conv2d(x, offset, mask, kernel, padding=0)[0, :, :, 0]
    np.testing.assert_array_equal(out, [[4, 4], [8, 8]])


@pytest.mark.parametrize("wild", [1e9, -1e9, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("axis", [0, 1])
def test_wild_offset_reads_zero_and_spares_the_rest(wild, axis):
    x, offset, mask, kernel, bias = random_arguments(np.random.default_rng(3))
    wild_offset = offset.at[0, 2, 3, 0, 4, axis].set(wild)
    no_tap = mask.at[0, 2, 3, 0, 4].set(0)

    def run(offset, mask):
        arguments = x, offset, mask, kernel, bias
        out, gradients = output_and_gradients(arguments, jnp.ones((2, 6, 7, 5)))
        return out, gradients[0], gradients[1], gradients[3]  # not the masks'

    actual, expected = run(wild_offset, mask), run(offset, no_tap)
    chex.assert_trees_all_close(actual, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_keeps_the_dtype_under_jit_and_vmap(dtype):
    x, offset, mask, kernel, bias = random_arguments(np.random.default_rng(4))
    expected = deform_conv2d(x, offset, mask, kernel, bias)
    cast = lambda a: a.astype(dtype)[:, None]
    mapped = jax.jit(jax.vmap(deform_conv2d, in_axes=(0, 0, 0, None, None)))
    out = mapped(cast(x), offset[:, None], mask[:, None], kernel, bias)
    assert out.dtype == dtype
    # Measured 0.05 in bfloat16, 1e-6 in float32; values reach 16.
    tolerance = 0.2 if dtype == jnp.bfloat16 else 1e-5
    np.testing.assert_allclose(out[:, 0].astype(jnp.float32), expected, atol=tolerance)


def test_bfloat16_gradients_are_finite_and_close():
    arguments = random_arguments(np.random.default_rng(5))
    loss = lambda *a: (deform_conv2d(*a).astype(jnp.float32) ** 2).sum()
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3, 4)))
    expected = gradients(*arguments)
    x, offset, mask, kernel, bias = arguments
    half = (x.astype(jnp.bfloat16), offset, mask, kernel.astype(jnp.bfloat16), bias)
    for a, e in zip(gradients(*half), expected, strict=True):
        # Measured at most 0.01 of the largest gradient.
        assert relative_error(a.astype(np.float32), e) < 0.05


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("x", (2, 6, 7, 3), "channels"),
        ("offset", (2, 6, 6, 2, 9, 2), "offset"),
        ("mask", (2, 6, 7, 1, 9), "mask"),
        ("bias", (4,), "bias"),
        ("kernel", (3, 3, 4), "kernel"),
    ],
)
def test_wrong_shape_is_named(name, shape, message):
    names = ("x", "offset", "mask", "kernel", "bias")
    arguments = dict(
        zip(names, random_arguments(np.random.default_rng(6)), strict=True)
    )
    arguments[name] = jnp.zeros(shape)
    with pytest.raises(ValueError, match=message):
        deform_conv2d(**arguments)


def test_no_deformable_group_is_named():
    x, _, _, kernel, _ = random_arguments(np.random.default_rng(6))
    n, height, width, _ = x.shape
    offset = jnp.zeros((n, height, width, 0, 9, 2))
    with pytest.raises(ValueError, match="0 deformable groups"):
        deform_conv2d(x, offset, offset[..., 0], kernel)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"groups": 1.0}, TypeError),
        ({"groups": 0}, ValueError),
        ({"columns_bytes": 1e6}, TypeError),
        ({"columns_bytes": 0}, ValueError),
        ({"strides": (1, 1.0)}, TypeError),
        ({"dilation": (1, 1, 1)}, ValueError),
    ],
)
def test_options_that_are_no_whole_number_are_named(option, error):
    with pytest.raises(error, match=next(iter(option))):
        deform_conv2d(*random_arguments(np.random.default_rng(6)), **option)


def test_second_derivatives_by_reverse_mode_only(x64):
    rng = np.random.default_rng(8)
    arrays = (
        jnp.asarray(rng.normal(size=(1, 3, 3, 1))),
        jnp.asarray(rng.uniform(0.2, 0.4, (1, 3, 3, 1, 9, 2))),
        jnp.asarray(rng.uniform(size=(1, 3, 3, 1, 9))),
        jnp.asarray(rng.normal(size=(3, 3, 1, 1))),
    )
    loss = lambda *a: (deform_conv2d(*a) ** 2).sum()
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))
    direction = [jnp.asarray(rng.normal(size=a.shape)) for a in arrays]

    def slope(*a):
        return sum(map(jnp.vdot, gradient(*a), direction))

    def moved(step):
        return gradient(*(a + step * d for a, d in zip(arrays, direction, strict=True)))

    step = 1e-6
    numeric = [
        (b - a) / (2 * step) for a, b in zip(moved(-step), moved(step), strict=True)
    ]
    second = jax.jit(jax.grad(slope, argnums=(0, 1, 2, 3)))(*arrays)
    for actual, expected in zip(second, numeric, strict=True):
        # The error is that of the finite difference.
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: deform_conv2d(x, *arrays[1:]), arrays[:1], arrays[:1])
