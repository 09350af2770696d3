"""PyTorch files that hold more than weights: read without running any of it."""

import argparse
import datetime
import functools
import os

import numpy as np
import pytest
import safetensors.numpy

from edvr_jax import convert


@pytest.fixture
def state(fixtures):
    return safetensors.numpy.load_file(fixtures / "models" / "basicsr_sr.safetensors")


class Danger:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class MyDict(dict):
    """A class of a training program, with items."""


class MyList(list):
    """Likewise."""


@pytest.mark.parametrize("is_legacy", [False, True])
@pytest.mark.parametrize(
    "wrapper", ["state_dict", "model_state_dict", "model", "net", "params_ema"]
)
def test_foreign_objects_are_skipped_and_nothing_runs(
    state, tmp_path, caplog, wrapper, is_legacy
):
    """As mmengine, argparse and Lightning leave them, and an attack among them."""
    torch = pytest.importorskip("torch")
    path, proof = tmp_path / "a.pth", tmp_path / "ran"
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    foreign = {
        "scalar": np.float64(1.5),
        "array": np.arange(3),
        "args": argparse.Namespace(lr=1e-4, out=tmp_path),
        "path": tmp_path,
        "date": datetime.datetime(2026, 1, 1),
        "own": MyDict(a=MyList([1, Danger(proof)])),
        "attack": Danger(proof),
        "set": {MyList: 1},
        "partial": functools.partial(print, "x"),
    }
    torch.save(
        {wrapper: tensors, "message_hub": foreign, "epoch": 3},
        path,
        _use_new_zipfile_serialization=not is_legacy,
    )
    config, params = convert.from_torch(path)
    assert config.num_features == state["conv_first.weight"].shape[0]
    np.testing.assert_array_equal(params["conv_hr"]["bias"], state["conv_hr.bias"])
    assert not proof.exists()
    (message,) = caplog.messages
    assert message == f"{path}: left out epoch, message_hub"
