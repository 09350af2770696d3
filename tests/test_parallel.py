import jax
import numpy as np
import pytest

from edvr_jax import parallel, steps
from edvr_jax.config import OptimConfig
from edvr_jax.errors import InputError
from edvr_jax.models import create_model

pytestmark = [
    pytest.mark.skipif(jax.device_count() != 4, reason="needs four (fake) devices"),
    pytest.mark.usefixtures("quick_compile"),
]


def test_four_devices_give_the_gradients_of_one(tiny_config, random_params):
    rng = np.random.default_rng(0)
    batch = {
        "lq": rng.integers(0, 256, (4, 3, 8, 8, 3), np.uint8),
        "gt": rng.integers(0, 256, (4, 32, 32, 3), np.uint8),
    }
    params = random_params(tiny_config, scale=0.1)
    options = {"model": create_model(tiny_config), "config": OptimConfig()}
    loss, gradients = parallel.parallel_gradients(**options)(
        params, parallel.shard(batch)
    )

    def on_one_device(params, batch):
        one = lambda batch: steps.global_gradients(params, batch, **options)
        return jax.vmap(one, axis_name=steps.BATCH_AXIS)(batch)

    whole = jax.tree.map(lambda x: x[None], batch)
    expected_loss, expected = jax.jit(on_one_device)(params, whole)
    assert float(loss) == pytest.approx(float(expected_loss[0]), rel=1e-6)
    for actual, e in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True
    ):
        # Measured 7e-7 of the largest gradient, CPU, float32.
        np.testing.assert_allclose(actual, e[0], atol=2e-5 * float(abs(e).max()))


def test_batch_must_fit_the_devices():
    assert parallel.local_batch_size(8) == 8
    with pytest.raises(InputError, match="multiple of the 4 devices"):
        parallel.local_batch_size(6)


def test_shard_keeps_the_order():
    np.testing.assert_array_equal(
        parallel.shard(np.arange(8)), np.arange(8).reshape(4, 2)
    )
