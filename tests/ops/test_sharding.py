"""Operators and a whole network under ``jax.shard_map`` and on an explicit mesh.

Both custom gradients, of the deformable and of the plain convolution, and what is built
from them; arguments that are sharded, and arguments that all devices share.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from edvr_jax.models import create_model
from edvr_jax.ops import conv, deform_conv2d

pytestmark = pytest.mark.skipif(
    jax.device_count() != 4, reason="needs four (fake) devices"
)


@pytest.fixture(scope="module")
def arguments():
    """x, offset, mask, kernel, bias of four images."""
    rng = np.random.default_rng(0)
    arrays = (
        rng.normal(size=(4, 6, 7, 4)),
        rng.uniform(-2, 2, (4, 6, 7, 2, 9, 2)),
        rng.uniform(size=(4, 6, 7, 2, 9)),
        rng.normal(size=(3, 3, 4, 5)),
        rng.normal(size=5),
    )
    return tuple(jnp.asarray(a, jnp.float32) for a in arrays)


def deformable_loss(*arguments):
    return jnp.sum(jnp.sin(deform_conv2d(*arguments)))


def plain_loss(x, kernel):
    return jnp.sum(jnp.sin(conv.conv2d(x, kernel)))


def assert_same_gradients(sharded_loss, loss, arguments):
    positions = tuple(range(len(arguments)))
    actual = jax.jit(jax.grad(sharded_loss, positions))(*arguments)
    expected = jax.jit(jax.grad(loss, positions))(*arguments)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        # Measured 4e-7 of the largest gradient, CPU, float32.
        np.testing.assert_allclose(a, e, atol=1e-5 * float(abs(e).max()))


def shard_mapped(loss, specs, **options):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    return jax.shard_map(
        lambda *a: jax.lax.psum(loss(*a), "data"),
        mesh=mesh,
        in_specs=specs,
        out_specs=P(),
        **options,
    )


@pytest.mark.parametrize("shared", [(3, 4), (0, 3, 4), (1, 2, 3, 4), ()])
def test_deformable_gradients(arguments, shared):
    """Whatever is sharded; what is not gets the sum of the devices' gradients."""
    specs = tuple(P() if k in shared else P("data") for k in range(5))
    arguments = tuple(
        a[:1]
        if k in shared and k < 3
        else jnp.tile(a, (4,) + (1,) * (a.ndim - 1))
        if k not in shared and k > 2
        else a
        for k, a in enumerate(arguments)
    )

    def one_after_the_other(*arguments):
        def part(a, k, shard):
            size = len(a) // 4
            return a if k in shared else a[shard * size : (shard + 1) * size]

        return sum(
            deformable_loss(*(part(a, k, shard) for k, a in enumerate(arguments)))
            for shard in range(4)
        )

    sharded = shard_mapped(deformable_loss, specs)
    assert_same_gradients(sharded, one_after_the_other, arguments)


@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_of_convolutions(arguments, check_vma):
    x, kernel = arguments[0], arguments[3]
    if check_vma:
        sharded = shard_mapped(plain_loss, (P("data"), P()))
        assert_same_gradients(sharded, plain_loss, (x, kernel))
        return
    # Without the check nobody adds: each device has the gradient of its own share.
    gradient = shard_mapped(
        lambda x, kernel: jax.grad(plain_loss, 1)(x, kernel),
        (P("data"), P()),
        check_vma=False,
    )
    expected = jax.grad(plain_loss, 1)(x, kernel)
    np.testing.assert_allclose(
        gradient(x, kernel), expected, atol=1e-5 * float(abs(expected).max())
    )


def test_gradients_of_a_network(tiny_config, random_params):
    config = dataclasses.replace(tiny_config, scale=1)
    params, model = random_params(config, scale=0.1), create_model(config)
    frames = np.random.default_rng(0).random((4, 3, 8, 8, 3), np.float32)

    def loss(params, frames):
        return jnp.sum(model.apply({"params": params}, frames) ** 2)

    params = jax.tree.map(jnp.asarray, params)
    assert_same_gradients(shard_mapped(loss, (P(), P("data"))), loss, (params, frames))


def test_explicit_mesh(arguments):
    """On a mesh of ``jax.make_mesh``'s default kind, by ``auto_axes``."""
    mesh = jax.make_mesh((4,), ("data",))
    with jax.set_mesh(mesh):
        operator = jax.sharding.auto_axes(deform_conv2d, out_sharding=P("data"))
        specs = (P("data"), P("data"), P("data"), P(), P())
        placed = tuple(
            jax.device_put(a, jax.NamedSharding(mesh, spec))
            for a, spec in zip(arguments, specs, strict=True)
        )
        gradients = jax.jit(
            jax.grad(lambda *a: jnp.sum(jnp.sin(operator(*a))), (0, 1, 2, 3, 4))
        )(*placed)
    expected = jax.grad(deformable_loss, (0, 1, 2, 3, 4))(*arguments)
    for a, e in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-5 * float(abs(e).max()))
