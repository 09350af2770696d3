"""Several processes and other numbers of devices train the same network."""

import signal
import socket

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from edvr_jax.train.workdir import Lock
from tests.training import last_step, losses, replace, run, start, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        jax.default_backend() != "cpu",
        reason="processes do not share an accelerator",
    ),
]


@pytest.fixture(scope="module")
def config(experiment):
    """Eight windows, so that eight devices have one each; all checkpoints stay."""
    return replace(
        experiment,
        data__batch_size=8,
        total_steps=8,
        checkpoint_every_steps=1,
        keep_checkpoints=20,
    )


@pytest.fixture(scope="module")
def undisturbed(config, clips, tmp_path_factory):
    """On the four devices of this process."""
    workdir = tmp_path_factory.mktemp("runs") / "four"
    state, _ = run(config, clips, workdir)
    return workdir, state


def start_two(config, clips, workdir):
    """Start two processes of two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = [f"--coordinator=localhost:{port}", "--num-processes=2"]
    return [
        start(config, clips, workdir, *options, f"--process-id={index}", num_devices=2)
        for index in range(2)
    ]


def stop_after(step, workdir, *processes):
    """Stop processes once a step is logged, by a signal to the last one."""
    wait_until(lambda: last_step(workdir) >= step, *processes)
    processes[-1].send_signal(signal.SIGUSR1)
    for process in processes:
        assert process.communicate()[0] is None
        assert process.returncode == 75


def assert_same_losses(workdir, undisturbed):
    actual, expected = losses(workdir), losses(undisturbed[0])
    assert actual.keys() == expected.keys()
    values = (list(losses.values()) for losses in (actual, expected))
    np.testing.assert_allclose(*values, rtol=1e-5)


@pytest.mark.parametrize("first", ["eight devices", "two processes"])
def test_then_one_device_then_four(config, clips, undisturbed, tmp_path, first):
    workdir = tmp_path / "run"
    if first == "eight devices":
        processes = [start(config, clips, workdir, num_devices=8)]
    else:
        processes = start_two(config, clips, workdir)
    stop_after(1, workdir, *processes)
    one_device = start(config, clips, workdir, num_devices=1)
    stop_after(last_step(workdir) + 1, workdir, one_device)
    _, lines = run(config, clips, workdir)
    assert any(line.startswith("resumed at step ") for line in lines)
    assert_same_losses(workdir, undisturbed)


def test_two_processes_of_two_devices(
    config, clips, undisturbed, tmp_path, first_moments
):
    """Their gradients are those of one; all stop together; one goes on."""
    workdir = tmp_path / "run"
    stop_after(1, workdir, *start_two(config, clips, workdir))
    # Adam's moments after the first step are its gradients.
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, undisturbed[1])
    one, two = (
        first_moments(
            ocp.StandardCheckpointer()
            .restore((folder / "checkpoints" / "1" / "state").absolute(), like)
            .opt_state
        )
        for folder in (undisturbed[0], workdir)
    )
    assert one.keys() == two.keys()
    # Processes of other numbers of devices split their sums otherwise, also those of
    # one window. CPU: 3e-7 of the largest gradient of a tensor, and 1.3e-6 in the
    # temporal attention, where float32 is 8e-6 away from float64 in either process.
    for path, expected in one.items():
        largest = np.abs(expected).max()
        np.testing.assert_allclose(two[path], expected, atol=1e-5 * largest, rtol=0)
    assert max(np.abs(x).max() for x in one.values()) > 1
    run(config, clips, workdir)
    assert_same_losses(workdir, undisturbed)


def test_all_processes_of_a_second_job_are_refused(config, clips, tmp_path):
    """Only the first one locks; the others must not wait for it in vain."""
    folder = tmp_path / "run"
    folder.mkdir()
    with Lock(folder):
        processes = start_two(config, clips, folder)
        errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    for error, message in zip(
        errors, ("is training there", "first process"), strict=True
    ):
        (line,) = [text for text in error.splitlines() if text.startswith("error: ")]
        assert message in line
        assert "Traceback" not in error
