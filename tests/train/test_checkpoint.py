"""Which checkpoints stay: the newest, planned ones, the best."""

import json
import resource

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from edvr_jax.config import Config, OptimConfig
from edvr_jax.errors import InputError, ResourceError
from edvr_jax.train import optim
from edvr_jax.train.checkpoint import Checkpoints
from edvr_jax.train.state import initial_state
from tests.messages import refused


@pytest.fixture(scope="module")
def state():
    params = {"conv_first": {"kernel": jnp.arange(3.0)}}
    return initial_state(params, optim.create_optimizer(OptimConfig()))


def open_checkpoints(folder):
    config = Config(checkpoint_every_steps=10, keep_checkpoints=2)
    return Checkpoints(folder / "checkpoints", config)


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
        saved.delete_unplanned()
        assert saved.latest_step == 40
        assert 43 not in saved.scores
        saved.save(at(state, 41), {"windows": 41})
    assert steps_there(tmp_path) == {20, 30, 40, 41}


def test_an_infinite_score_makes_no_step_the_best(state, tmp_path):
    """PSNR of black frames; likewise a score that is not a number."""
    with open_checkpoints(tmp_path) as saved:
        for step, score in ((10, 20.0), (20, np.inf), (30, np.nan), (40, 10.0)):
            saved.save(at(state, step), {"windows": step})
            saved.set_score(step, score)
    assert steps_there(tmp_path) == {10, 30, 40}
    scores = json.loads(
        (tmp_path / "scores.json").read_text(), parse_constant=pytest.fail
    )
    assert scores == {"10": 20.0, "20": None, "30": None, "40": 10.0}
    with open_checkpoints(tmp_path) as saved:
        assert saved.scores.keys() == {10, 20, 30, 40}  # none is validated again


@pytest.mark.parametrize("content", ["", "[]", '{"10": "x"}', '{"x": 1}'])
def test_damaged_scores_are_named(tmp_path, content):
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(InputError, match=r"scores\.json: damaged"):
        open_checkpoints(tmp_path)


def test_a_changed_plan_deletes_no_run(state, tmp_path):
    with open_checkpoints(tmp_path) as saved:
        saved.save(at(state, 33), {"windows": 33})
        saved.delete_unplanned()
        assert saved.latest_step == 33


DAMAGE = {
    "empty files": lambda path: path.write_bytes(b""),
    "files cut in half": lambda path: path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 2]
    ),
    "missing files": lambda path: path.unlink(),
}


def damage(folder, step, how):
    for path in (folder / "checkpoints" / str(step) / "state").rglob("*"):
        if path.is_file():
            DAMAGE[how](path)


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (26, PermissionError(13, "Permission denied"), "Permission denied"),
        (26, OSError(5, "Input/output error"), "Input/output error"),
        (26, MemoryError("out of memory"), "out of memory"),
        (26, ValueError("RESOURCE_EXHAUSTED: host memory"), "RESOURCE_EXHAUSTED"),
    ],
)
def test_what_cannot_be_read_now_is_not_damaged(
    state, tmp_path, monkeypatch, step, error, message
):
    with open_checkpoints(tmp_path) as saved:
        for number in (10, 26):
            saved.save(at(state, number), {"windows": number})
        restore = ocp.CheckpointManager.restore

        def fail(manager, number, **options):
            if number == step:
                raise error
            return restore(manager, number, **options)

        monkeypatch.setattr(ocp.CheckpointManager, "restore", fail)
        with pytest.raises(ResourceError, match=rf"26: cannot be read .*{message}"):
            saved.restore(state)
    assert steps_there(tmp_path) == {10, 26}


def test_newest_of_another_optimizer_is_not_damaged(state, tmp_path):
    """Parts or shapes that differ; an older checkpoint that fits is not taken."""
    key = next(iter(state.params))
    others = (
        ({**state.params, "other": jnp.zeros(3)}, "1 unexpected: other"),
        (
            {**state.params, key: jax.tree.map(lambda x: x[None], state.params[key])},
            f"{key}/kernel is 1x3 instead of 3",
        ),
    )
    for number, (params, difference) in enumerate(others):
        folder = tmp_path / str(number)
        with open_checkpoints(folder) as saved:
            saved.save(at(state, 10), {"windows": 10})
            saved.save(at(state, 26).replace(params=params), {"windows": 26})
            with refused("26: written by another version", difference):
                saved.restore(state)
        assert steps_there(folder) == {10, 26}


def test_nothing_is_renamed_for_a_run_that_is_refused(state, tmp_path):
    with open_checkpoints(tmp_path) as saved:
        for step in (10, 20):
            saved.save(at(state, step), {"windows": step})
    damage(tmp_path, 20, "empty files")

    def refuse(data):
        raise InputError(f"not {data['windows']}")

    with (
        open_checkpoints(tmp_path) as saved,
        pytest.raises(InputError, match="not 10"),
    ):
        saved.restore(state, check=refuse)
    assert steps_there(tmp_path) == {10, 20}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_checkpoint_is_put_aside(state, tmp_path, how, caplog):
    """As after a power cut; the newest good one is continued, and nothing deleted."""
    with open_checkpoints(tmp_path) as saved:
        for step in (10, 20, 25, 26):  # 26 pushes out 25
            saved.save(at(state, step), {"windows": step})
    damage(tmp_path, 26, how)
    with open_checkpoints(tmp_path) as saved:
        restored, data = saved.restore(state)
        assert (int(restored.step), data) == (20, {"windows": 20})
        assert saved.latest_step == 20
        saved.save(at(state, 26), {"windows": 26})
    (warning,) = [m for m in caplog.messages if "is damaged" in m]
    assert str(tmp_path / "checkpoints" / "26") in warning
    assert "continued from step 20" in warning
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"10", "20", "26", "damaged-26"}


def test_nothing_that_can_be_read_is_one_line(state, tmp_path):
    with open_checkpoints(tmp_path) as saved:
        saved.save(at(state, 10), {"windows": 10})
        with pytest.raises(InputError, match=r"checkpoints/10: written by another"):
            saved.restore(state.replace(params={"other": jnp.zeros(3)}))
    assert steps_there(tmp_path) == {10}


# Orbax leaves coroutines of the failed save behind, whose event loop is closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_failed_save_is_one_line(state, tmp_path):
    """A disk that is full: here a limit of this process."""
    params = {"conv_first": {"kernel": jnp.arange(100_000.0)}}
    large = initial_state(params, optim.create_optimizer(OptimConfig()))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_checkpoints(tmp_path) as saved:
        saved.save(at(large, 10), {"windows": 10})

    def save_and_close():
        with open_checkpoints(tmp_path) as saved:
            saved.save(at(large, 20), {"windows": 20})

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(ResourceError, match=r"\(File too large\)") as error:
            save_and_close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "continues from step 10" in str(error.value)
    assert str(tmp_path / "checkpoints") in str(error.value)
    assert "\n" not in str(error.value)
    with open_checkpoints(tmp_path) as again:
        restored, _ = again.restore(large)
    assert int(restored.step) == 10
