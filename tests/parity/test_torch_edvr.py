"""The PyTorch network of the benchmarks against the stored reference outputs."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from edvr_jax.weights import torch_files

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("optimized")]

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
GOLDENS = sorted(path.stem for path in FIXTURES.glob("deform_conv/*.npz"))
NETWORKS = sorted(path.stem for path in FIXTURES.glob("models/*.npz"))
FIELDS = (
    "num_features",
    "num_frames",
    "deformable_groups",
    "num_extract_blocks",
    "num_reconstruct_blocks",
    "hr_in",
    "with_predeblur",
    "with_tsa",
)


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # so small that threads only wait for each other
    return torch


@pytest.fixture(scope="module")
def torch_edvr(torch):
    return importlib.import_module("benchmarks.torch_edvr")


def relative_error(actual, expected):
    return np.abs(actual.detach().numpy() - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("function", ["sample_conv2d", "deform_conv2d"])
@pytest.mark.parametrize("name", GOLDENS)
def test_deform_conv_equals_torchvision(torch, torch_edvr, fixtures, name, function):
    stored = np.load(fixtures / f"deform_conv/{name}.npz")
    names = ("x", "offset", "weight", "bias", "mask")
    x, offset, weight, bias, mask = arguments = [
        torch.from_numpy(stored[key]).requires_grad_() for key in names
    ]
    options = {key: int(stored[key]) for key in ("stride", "padding", "dilation")}
    out = getattr(torch_edvr, function)(x, offset, weight, bias, **options, mask=mask)
    gradients = torch.autograd.grad(
        out, arguments, torch.from_numpy(stored["cotangent"])
    )
    # Measured at most 1.4e-15 (output) and 1.9e-15 (gradients), CPU, float64.
    assert relative_error(out, stored["out"]) < 1e-13
    for key, gradient in zip(names, gradients, strict=True):
        assert relative_error(gradient, stored[f"grad_{key}"]) < 1e-13, key


@pytest.mark.parametrize("name", NETWORKS)
def test_network_equals_reference(torch, torch_edvr, fixtures, tmp_path, name):
    config, params = torch_files.from_torch(fixtures / f"models/{name}.safetensors")
    weights = tmp_path / "weights.safetensors"
    torch_files.to_torch(config, params, weights, layout="basicsr")
    network = torch_edvr.EDVR(**{key: getattr(config, key) for key in FIELDS})
    load_file = importlib.import_module("safetensors.torch").load_file
    network.load_state_dict(load_file(weights), strict=True)
    stored = np.load(fixtures / f"models/{name}.npz")
    with torch.inference_mode():
        output = network.double()(torch.from_numpy(stored["input"]).double())
    # Measured 6e-8: the stored outputs are float32.
    np.testing.assert_allclose(output, stored["output"], rtol=0, atol=1e-6)
