"""Batches, scores and processes of several devices and hosts."""

import jax
import numpy as np
import pytest

from edvr_jax.errors import InputError
from edvr_jax.train import parallel


@pytest.mark.skipif(jax.device_count() != 4, reason="needs four (fake) devices")
def test_shard_keeps_the_order():
    sharded = parallel.shard({"lq": np.arange(8)})
    assert sharded.keys() == {"lq"}
    np.testing.assert_array_equal(sharded["lq"], np.arange(8).reshape(4, 2))


def test_mean_over_processes_is_of_clips():
    values = {"psnr_y": [1e9 + 3, 0, 0, 0], "ssim_y": [0.5, 0.7], "none": []}
    assert parallel.mean_over_processes(values) == {
        "psnr_y": (1e9 + 3) / 4,  # float64
        "ssim_y": 0.6,
    }
    assert parallel.mean_over_processes({}) == {}


def test_mean_over_processes_leaves_out_what_is_infinite():
    values = {"psnr_y": [30.0, np.inf, 40.0, -np.inf], "gain": [np.inf], "x": [np.nan]}
    assert parallel.mean_over_processes(values) == {
        "psnr_y": 35,
        "gain": np.inf,
        "x": np.inf,
    }


@pytest.mark.parametrize(
    ("environment", "is_job"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, False),  # outside of srun
        ({"SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "1"}, False),
        ({"SLURM_STEP_NODELIST": "a[1-2]", "SLURM_NTASKS": "8"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),  # a pod, not a job
        ({"KUBERNETES_SERVICE_HOST": "x", "JOB_COMPLETION_INDEX": "0"}, True),
    ],
)
def test_launchers_are_told_from_single_processes(environment, is_job, monkeypatch):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **k: calls.append(k))
    parallel.initialize("auto")
    assert calls == ([{}] if is_job else [])
    parallel.initialize("off", num_processes=2)
    assert len(calls) == is_job
    parallel.initialize("auto", coordinator="a:1", num_processes=2, process_id=0)
    assert calls[-1] == {
        "coordinator_address": "a:1",
        "num_processes": 2,
        "process_id": 0,
    }


def test_processes_that_cannot_be_joined_are_one_line(monkeypatch):
    def fail(**arguments):
        raise ValueError("coordinator_address should be defined.\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(InputError, match=r"be defined\.; give --coordinator"):
        parallel.initialize("on")
