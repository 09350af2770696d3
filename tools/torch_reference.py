"""The three public PyTorch EDVR networks, loaded from checkouts the user has.

Needs torch; nothing of the references is copied here. Their compiled deformable
convolution is replaced by ``sample_conv2d`` of benchmarks/torch_edvr.py, plain torch
in any float type, so the networks run on a CPU, in float64, without torchvision or
mmcv's kernels.

Sources loaded:
    BasicSR: https://github.com/XPixelGroup/BasicSR, basicsr/archs/edvr_arch.py
    official: https://github.com/xinntao/EDVR (first releases), or its copies with
        codes/models/archs/EDVR_arch.py
    mmagic: https://github.com/open-mmlab/mmagic, mmagic/models/editors/edvr/; needs
        mmengine (or mmengine-lite) and mmcv (or mmcv-lite)
"""

import importlib
import logging
import sys
import types
from pathlib import Path

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from benchmarks.torch_edvr import sample_conv2d

# Modules whose forward outputs are stored, by layout; absent ones are skipped.
ACTIVATIONS = {
    "basicsr": "predeblur feature_extraction pcd_align fusion reconstruction",
    "official": "pre_deblur feature_extraction pcd_align tsa_fusion recon_trunk",
    "mmagic": "feature_extraction pcd_alignment fusion reconstruction",
}


def load_basicsr(path: str):
    """Return BasicSR's EDVR class from a checkout (or unpacked sdist) at `path`."""
    root = Path(path) / "basicsr"
    _require(root / "archs/edvr_arch.py")
    for package in ("basicsr", "basicsr.archs", "basicsr.utils", "basicsr.ops"):
        _empty_package(package, root.joinpath(*package.split(".")[1:]))
    vars(sys.modules["basicsr.utils"])["get_root_logger"] = logging.getLogger
    ops = types.SimpleNamespace(deform_conv2d=sample_conv2d)
    # 0.9.0 is the oldest version whose deform_conv2d BasicSR calls.
    _stub("torchvision", __version__="0.9.0", ops=ops)
    return importlib.import_module("basicsr.archs.edvr_arch").EDVR


def load_official(path: str):
    """Return the official EDVR class from a checkout of xinntao/EDVR at `path`."""
    root = Path(path) / "codes/models"
    _require(root / "archs/EDVR_arch.py")
    for package in ("models", "models.archs", "models.archs.dcn"):
        _empty_package(package, root.joinpath(*package.split(".")[1:]))
    _stub("models.archs.dcn.deform_conv_cuda")
    module = importlib.import_module("models.archs.dcn.deform_conv")
    vars(module)["modulated_deform_conv"] = _dcn_signature
    return importlib.import_module("models.archs.EDVR_arch").EDVR


def load_mmagic(path: str):
    """Return mmagic's EDVRNet class from a checkout (or unpacked wheel) at `path`."""
    root = Path(path) / "mmagic"
    _require(root / "models/editors/edvr/edvr_net.py")
    _stub(
        "mmcv.ops",
        ModulatedDeformConv2d=ModulatedDeformConv2d,
        modulated_deform_conv2d=_dcn_signature,
    )
    packages = "mmagic utils models models.utils models.archs models.base_archs"
    for package in [*packages.split(), "models.editors", "models.editors.edvr"]:
        name = package if package == "mmagic" else f"mmagic.{package}"
        _empty_package(name, root.joinpath(*name.split(".")[1:]))
    registry = importlib.import_module("mmengine.registry")
    _stub("mmagic.registry", MODELS=registry.Registry("models"))
    # Imported for parts of mmagic that EDVR does not use.
    _stub("mmagic.structures", DataSample=None)
    _stub("mmagic.utils.typing", ForwardInputs=None)
    tome = "add_tome_cfg_hook build_mmagic_tomesd_block isinstance_str"
    tome += " build_mmagic_wrapper_tomesd_block"
    _stub("mmagic.models.utils.tome_utils", **dict.fromkeys(tome.split()))
    helpers = importlib.import_module("mmagic.models.utils.model_utils")
    sys.modules["mmagic.models.utils"].__dict__.update(vars(helpers))
    folder = "archs" if (root / "models/archs").exists() else "base_archs"
    backbone = importlib.import_module(f"mmagic.models.{folder}.sr_backbone")
    upsample = importlib.import_module(f"mmagic.models.{folder}.upsample")
    blocks = (backbone.ResidualBlockNoBN, upsample.PixelShufflePack)
    for package in ("archs", "base_archs"):
        vars(sys.modules[f"mmagic.models.{package}"]).update(
            {block.__name__: block for block in blocks}
        )
    return importlib.import_module("mmagic.models.editors.edvr.edvr_net").EDVRNet


def _dcn_signature(
    x,
    offset,
    mask,
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    deformable_groups=1,
):
    taps = weight.shape[2] * weight.shape[3]
    assert offset.shape[1] == 2 * taps * deformable_groups
    assert x.shape[1] == weight.shape[1] * groups
    first = [v if isinstance(v, int) else v[0] for v in (stride, padding, dilation)]
    return sample_conv2d(x, offset, weight, bias, *first, mask=mask)


class ModulatedDeformConv2d(nn.Module):
    """Stand-in for mmcv's module of that name: the same fields and parameters."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        deform_groups=1,
        bias=True,
    ):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = (kernel_size, kernel_size)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups, self.deform_groups = groups, deform_groups
        bound = (in_channels * kernel_size**2) ** -0.5
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None


def run(network, frames, layout):
    """Run a network and return its output and the named modules' outputs.

    Args:
        network: One of the three networks.
        frames: [N, T, C, H, W].
        layout: "basicsr", "official" or "mmagic".

    Returns:
        Output and a dict of activations; the alignment's outputs are stacked over
        the frames, [N, T, C, H, W].
    """
    calls = {}
    hooks = []
    for name in ACTIVATIONS[layout].split():
        if not hasattr(network, name):
            continue

        def record(module, inputs, output, name=name):
            calls.setdefault(name, []).append(output.detach().clone())

        hooks.append(getattr(network, name).register_forward_hook(record))
    with torch.no_grad():
        output = network(frames)
    for hook in hooks:
        hook.remove()
    stacked = {
        name: torch.stack(values, 1) if name.startswith("pcd_align") else values[0]
        for name, values in calls.items()
    }
    return output, stacked


def _empty_package(name, folder):
    """Enter a package without running its __init__, which needs far more."""
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


def _stub(name, **attributes):
    """Enter a module that holds these names only."""
    module = types.ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)


def _require(file):
    if not file.is_file():
        raise SystemExit(f"{file} is not there: is this a checkout of the reference?")
