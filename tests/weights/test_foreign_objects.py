"""PyTorch files that hold more than weights: read without running any of it."""

import argparse
import datetime
import functools
import io
import os
import pickle
import sys
import types

import numpy as np
import pytest
import safetensors.numpy

from edvr_jax.errors import InputError
from edvr_jax.weights import torch_files


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
    config, params = torch_files.from_torch(path)
    assert config.num_features == state["conv_first.weight"].shape[0]
    np.testing.assert_array_equal(params["conv_hr"]["bias"], state["conv_hr.bias"])
    assert not proof.exists()
    (message,) = caplog.messages
    assert message == f"{path}: left out epoch, message_hub"


def rebuild(*arguments):
    """Stand-in for the function that makes a tensor."""
    return arguments


@pytest.fixture
def without_torch(monkeypatch):
    """Torch's list of what weights may hold, without torch."""
    listed = types.ModuleType("torch._weights_only_unpickler")
    allowed = {"torch._utils.rebuild": rebuild, "builtins.set": set}
    listed.__dict__["_get_allowed_globals"] = lambda: allowed
    torch = types.ModuleType("torch")
    torch.__dict__["_weights_only_unpickler"] = listed
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, listed.__name__, listed)


ATTACKS = {
    "function": b"cos\nsystem\nU\x05exit 1\x85R.",
    "instance": b"(U\x05exit 1ios\nsystem\n.",
    "new object": b"cos\nsystem\nU\x05exit 1\x85\x81.",
    "name with a dot": b"U\x02osU\x0epath.os.system\x93U\x05exit 1\x85R.",
    "getattr": b"cbuiltins\ngetattr\n(cos\n__dict__\nU\x06systemtR.",
    "eval": b"cbuiltins\neval\nU\x031/0\x85R.",
    "state": b"cos\nsystem\n)\x81}U\x01xK\x01sb.",
}


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_inert(name):
    opcodes = ATTACKS[name].replace(b"U\x05exit 1", b"U\x06exit 1")
    found = torch_files._load_inert(io.BytesIO(b"\x80\x04" + opcodes))
    assert isinstance(found, torch_files._Inert)


@pytest.mark.usefixtures("without_torch")
def test_parts_of_tensors_are_made():
    data = b"\x80\x02ctorch._utils\nrebuild\nK\x01K\x02\x86R."
    assert torch_files._load_inert(io.BytesIO(data)) == (1, 2)


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("state", [b"}U\x04evilK\x01s", b"N}U\x04evilK\x01s\x86"])
def test_a_file_cannot_change_what_reads_it(state):
    """Attributes of functions, by a dictionary and by slots."""
    data = b"\x80\x02ctorch._utils\nrebuild\n" + state + b"b."
    with pytest.raises(pickle.UnpicklingError, match="sets attributes of rebuild"):
        torch_files._load_inert(io.BytesIO(data))
    assert not hasattr(rebuild, "evil")


def test_whole_network_names_the_remedy(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Conv2d(3, 3, 1), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"no table of parameters.*state_dict"):
        torch_files.from_torch(tmp_path / "a.pth")
