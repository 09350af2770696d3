import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax.config import OptimConfig
from edvr_jax.errors import InputError
from edvr_jax.optim import cosine_restart_lr


def test_equals_the_reference_for_600_steps(fixtures):
    golden = np.load(fixtures / "train" / "cosine_restart_lr.npz")
    config = OptimConfig(
        peak_lr=float(golden["base_lr"]),
        eta_min=float(golden["eta_min"]),
        period_steps=tuple(int(p) for p in golden["periods"]),
        restart_weights=tuple(float(w) for w in golden["restart_weights"]),
    )
    actual = cosine_restart_lr(jnp.arange(600), config)
    # Measured 5e-11 absolute (float32) of rates up to 4e-4.
    np.testing.assert_allclose(actual, golden["lr"], rtol=1e-5, atol=2e-10)


def test_restart_boundaries_by_hand():
    config = OptimConfig(
        peak_lr=1.0, eta_min=0.0, period_steps=(4, 2), restart_weights=(1.0, 0.5)
    )
    rates = [float(cosine_restart_lr(step, config)) for step in (0, 2, 4, 5, 6, 99)]
    # Step 4 still ends the first period; the second peaks between 4 and 5.
    np.testing.assert_allclose(rates, [1, 0.5, 0, 0.25, 0, 0], atol=1e-6)


def test_every_period_needs_a_weight():
    with pytest.raises(InputError, match="restart_weights"):
        OptimConfig(period_steps=(1, 2), restart_weights=(1.0,))
