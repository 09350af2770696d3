"""Which checkpoints stay: the newest, planned ones, the best."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax import optim
from edvr_jax.checkpoint import Checkpoints
from edvr_jax.config import Config, OptimConfig
from edvr_jax.state import initial_state


@pytest.fixture(scope="module")
def state():
    params = {"conv_first": {"kernel": jnp.arange(3.0)}}
    return initial_state(params, optim.create_optimizer(OptimConfig()))


def open_checkpoints(folder):
    return Checkpoints(
        folder / "checkpoints",
        keep=2,
        is_planned=lambda step: step % 10 == 0,
        config=Config(),
    )


def at(state, step):
    params = jax.tree.map(lambda x: x + step, state.params)
    return state.replace(step=jnp.int32(step), params=params)


def steps_there(folder):
    return {int(p.name) for p in (folder / "checkpoints").iterdir()}


def test_newest_planned_and_best_stay(state, tmp_path):
    with open_checkpoints(tmp_path) as saved:
        for step, score in ((10, 20.0), (20, 30.0), (30, 25.0), (40, None)):
            saved.save(at(state, step), {"windows": step})
            if score is not None:
                saved.set_score(step, score)
    assert steps_there(tmp_path) == {20, 30, 40}
    # Another process knows the scores; stops between planned steps push out nothing.
    for step in (41, 42, 43):
        with open_checkpoints(tmp_path) as saved:
            saved.save(at(state, step), {"windows": step})
    assert steps_there(tmp_path) == {20, 30, 40, 43}
    with open_checkpoints(tmp_path) as saved:
        assert saved.scores == {10: 20.0, 20: 30.0, 30: 25.0}
        restored, data = saved.restore(state)
        assert (int(restored.step), data) == (43, {"windows": 43})
        kernel = restored.params["conv_first"]["kernel"]
        np.testing.assert_array_equal(kernel, [43, 44, 45])
        saved.set_score(43, 99.0)
        saved.forget_unplanned()
        assert saved.latest_step == 40
        assert 43 not in saved.scores
        saved.save(at(state, 41), {"windows": 41})
    assert steps_there(tmp_path) == {20, 30, 40, 41}


def test_a_changed_plan_deletes_no_run(state, tmp_path):
    with open_checkpoints(tmp_path) as saved:
        saved.save(at(state, 33), {"windows": 33})
        saved.forget_unplanned()
        assert saved.latest_step == 33
