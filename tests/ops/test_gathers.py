"""Samples by patches, the way for TPUs, equal those by corners, the way for CPUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.ops import deform_conv2d


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def make_arguments(*, size=(6, 9), channels=8, deformable_groups=2, n=2, taps=(3, 3)):
    """Arguments for the default options; offsets leave the image, some by far."""
    rng = np.random.default_rng(0)
    shape = (n, *size, deformable_groups, taps[0] * taps[1])
    offset = rng.uniform(-4, 4, (*shape, 2))
    offset[0, 0, 0] = 1e9, -np.inf
    offset[-1, -1, -1, 0] = np.nan
    arguments = (
        rng.normal(size=(n, *size, channels)),
        offset,
        rng.uniform(size=shape),
        rng.normal(size=(*taps, channels, 4)),
        rng.normal(size=4),
    )
    return tuple(map(jnp.asarray, arguments))


def both(arguments, sampling, **options):
    """Output and gradients."""

    @jax.jit
    def compute(*arguments):
        out, vjp = jax.vjp(
            lambda *a: deform_conv2d(*a, sampling=sampling, **options), *arguments
        )
        return out, vjp(jnp.cos(out))

    return jax.tree.leaves(compute(*arguments))


# Also: one group, as many groups as channels, a single row, parts of one row, and parts
# of 18 rows instead of 17, which are whole tiles.
@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({}, {}),
        ({}, {"columns_bytes": 1}),
        ({"deformable_groups": 1, "size": (1, 5)}, {}),
        ({"deformable_groups": 8, "size": (5, 2)}, {}),
        (
            {"deformable_groups": 1, "size": (50, 64), "channels": 2, "n": 1},
            {"columns_bytes": 12_000_000},
        ),
    ],
)
def test_patches_equal_corners(x64, change, options):
    arguments = make_arguments(**change)
    expected = both(arguments, "corners", **options)
    for actual, wanted in zip(
        both(arguments, "patches", **options), expected, strict=True
    ):
        # Measured at most 4e-15, CPU, float64.
        np.testing.assert_allclose(actual, wanted, atol=1e-12, rtol=1e-12)


def test_patches_with_strides_dilation_and_groups(x64):
    x, offset, mask, kernel, bias = make_arguments(size=(9, 12))
    options = {"strides": (3, 2), "padding": (1, 0), "dilation": (2, 1), "groups": 2}
    arguments = (x, offset[:, :3, :5], mask[:, :3, :5], kernel[:, :, :4], bias)
    expected = both(arguments, "corners", **options)
    for actual, wanted in zip(
        both(arguments, "patches", **options), expected, strict=True
    ):
        np.testing.assert_allclose(actual, wanted, atol=1e-12, rtol=1e-12)


def test_bfloat16_patches_are_the_same_numbers():
    x, offset, mask, kernel, bias = make_arguments()
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    arguments = (x, offset, mask, kernel, bias)
    corners, patches = (
        deform_conv2d(*arguments, sampling=sampling)
        for sampling in ("corners", "patches")
    )
    assert patches.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        np.asarray(patches, np.float32), np.asarray(corners, np.float32)
    )


def test_unknown_sampling_is_refused():
    with pytest.raises(
        ValueError, match="sampling must be corners or patches, got 'x'"
    ):
        deform_conv2d(*make_arguments(), sampling="x")
