"""A training process killed at any moment, and resumed, ends with the same bits."""

import random
import signal
import time

import jax
import pytest

from tests.training import (
    assert_same_bits,
    losses,
    read_log,
    replace,
    run,
    start,
    wait_until,
)

pytestmark = [
    pytest.mark.usefixtures("quick_compile"),
    pytest.mark.skipif(
        jax.default_backend() != "cpu",
        reason="two processes do not share an accelerator",
    ),
]


@pytest.fixture(scope="module")
def config(experiment):
    """Long enough to be killed often; a checkpoint every five steps."""
    return replace(
        experiment, total_steps=20, checkpoint_every_steps=5, eval__every_steps=10
    )


@pytest.fixture(scope="module")
def undisturbed(config, clips, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "long"
    state, _ = run(config, clips, workdir)
    return workdir, state


def test_loss_falls(undisturbed):
    values = list(losses(undisturbed[0]).values())
    # Measured 0.65, CPU; one seed, so it does not vary.
    assert sum(values[-5:]) < 0.8 * sum(values[:5])
    last = read_log(undisturbed[0])[-1]
    assert last["psnr_y"] > last["psnr_y_bicubic"] - 1


@pytest.mark.parametrize(
    "num_kills", [2, pytest.param(12, marks=pytest.mark.slow, id="12")]
)
def test_killed_run_ends_with_the_same_bits(
    config, clips, undisturbed, tmp_path, num_kills
):
    workdir = tmp_path / "run"
    checkpoints = workdir / "checkpoints"
    moments = random.Random(num_kills)  # what is random is when a process gets there
    num_during_save = 0
    for kill in range(num_kills):
        process = start(config, clips, workdir)
        try:
            num_lines = len(read_log(workdir)) if kill else 0
            if kill % 2:
                # Half of them while a checkpoint is written.
                before = {path.name for path in checkpoints.glob("*")}
                wait_until(
                    lambda before=before: any(
                        "tmp" in path.name and path.name not in before
                        for path in checkpoints.glob("*")
                    ),
                    process,
                )
            else:
                more = moments.randint(1, 2) if kill else 7  # after step 5
                wait_until(lambda n=num_lines + more: _was_logged(workdir, n), process)
                time.sleep(moments.uniform(0, 0.3))
        finally:
            process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        num_during_save += any("tmp" in path.name for path in checkpoints.glob("*"))
    assert num_during_save >= 1
    state, lines = run(config, clips, workdir)
    assert any(line.startswith("resumed at step ") for line in lines)
    assert_same_bits(state, undisturbed[1])
    # The order of the data: each step saw the same windows.
    assert losses(workdir) == losses(undisturbed[0])


def _was_logged(workdir, num_lines):
    """Tell whether the log has come so far, or to an end."""
    records = read_log(workdir)
    return len(records) >= num_lines or (records and records[-1]["step"] >= 18)
