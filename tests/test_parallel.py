import jax
import numpy as np
import pytest

from edvr_jax import parallel, steps
from edvr_jax.config import ModelConfig
from edvr_jax.errors import InputError
from edvr_jax.models import create_model

CONFIG = ModelConfig(
    num_features=8,
    num_frames=3,
    deformable_groups=2,
    num_extract_blocks=1,
    num_reconstruct_blocks=1,
)


@pytest.mark.skipif(jax.device_count() != 4, reason="needs four (fake) devices")
def test_four_devices_give_the_gradients_of_one():
    rng = np.random.default_rng(0)
    batch = {
        "lq": rng.integers(0, 256, (4, 3, 8, 8, 3), np.uint8),
        "gt": rng.integers(0, 256, (4, 32, 32, 3), np.uint8),
    }
    model = create_model(CONFIG)
    params = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 3, 8, 8, 3)))["params"]
    options = {"model": model, "eps": 1e-12}
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
        # Measured 2e-6 of the largest gradient, CPU, float32.
        np.testing.assert_allclose(actual, e[0], atol=2e-5 * float(abs(e).max()))


@pytest.mark.skipif(jax.device_count() != 4, reason="needs four (fake) devices")
def test_batch_must_fit_the_devices():
    assert parallel.local_batch_size(8) == 8
    with pytest.raises(InputError, match="multiple of the 4 devices"):
        parallel.local_batch_size(6)


@pytest.mark.skipif(jax.device_count() != 4, reason="needs four (fake) devices")
def test_shard_keeps_the_order():
    np.testing.assert_array_equal(
        parallel.shard(np.arange(8)), np.arange(8).reshape(4, 2)
    )
