import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from edvr_jax.ops.conv import compiler_options, conv2d

pytestmark = pytest.mark.usefixtures("optimized")


def reference(x, kernel, strides):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize(
    ("channels", "features", "size", "strides"),
    [(4, 6, 3, 1), (6, 4, 3, 1), (5, 5, 1, 1), (4, 6, 3, 2), (3, 7, 5, 1)],
)
def test_output_and_gradients_equal_xla(channels, features, size, strides):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(2, 8, 10, channels)))
        kernel = jnp.asarray(rng.normal(size=(size, size, channels, features)))

        def run(fn):
            out, vjp = jax.vjp(lambda x, k: fn(x, k, strides), x, kernel)
            return out, *vjp(jnp.sin(out))

        # Measured at most 1e-15 relative, CPU, float64.
        for actual, expected in zip(run(conv2d), run(reference), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-11)


def test_pads_both_sides_of_even_sizes():
    out = conv2d(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), 2)[0, :, :, 0]
    np.testing.assert_array_equal(out, [[4, 6], [6, 9]])


# The choice of the commands for XLA_FLAGS holds for programs that the library compiles.
def test_library_compiles_with_eigen(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    options = compiler_options()
    if jax.default_backend() != "cpu":
        assert options is None
        return
    x, kernel = jnp.zeros((1, 32, 32, 16)), jnp.zeros((3, 3, 16, 16))
    compiled = jax.jit(conv2d, compiler_options=options).lower(x, kernel).compile()
    assert "ynn" not in compiled.as_text()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
    assert compiler_options() is None


@pytest.mark.parametrize(
    ("x", "kernel", "strides", "error"),
    [
        (jnp.zeros((1, 8, 8, 2), int), jnp.zeros((3, 3, 2, 2)), 1, TypeError),
        (jnp.zeros((1, 8, 8, 2)), jnp.zeros((3, 3, 2, 2)), 0, ValueError),
        (jnp.zeros((1, 8, 8, 2)), jnp.zeros((3, 3, 2, 2)), 1.5, TypeError),
        (jnp.zeros((1, 8, 8, 2)), jnp.zeros((2, 2, 2, 2)), 1, ValueError),
        (jnp.zeros((1, 8, 8, 3)), jnp.zeros((3, 3, 2, 2)), 1, ValueError),
    ],
)
def test_arguments_that_do_not_fit(x, kernel, strides, error):
    with pytest.raises(error, match=r"kernel|strides"):
        conv2d(x, kernel, strides)
