r"""Make tests/fixtures/models: PyTorch EDVR networks with weights and outputs.

Each network below is built from the reference's own code, every parameter drawn
from a fixed seed (the reference starts its offset convolutions at zero, which would
leave the deformable sampling untested), and run in float64 on a random input.
Stored per network:

    NAME.safetensors  parameters under the reference's own key names, float32
    NAME.npz          input, output and activations (of the float64 run, stored as
                      float32), the constructor's arguments as JSON, and the mean
                      |offset| in pixels

and the first parameters of the five Adam steps, as
tests/fixtures/train/five_adam_steps_init.safetensors, and edvr_jax/selftest_data. Run
at the top of the repository, with torch installed:

    python -m tools.make_parity_fixtures --basicsr PATH --edvr PATH --mmagic PATH \
        --out tests/fixtures
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from safetensors.torch import save_file

from tools import torch_reference

SMALL = {
    "num_feat": 8,
    "num_frame": 5,
    "deformable_groups": 4,
    "num_extract_block": 2,
    "num_reconstruct_block": 3,
}
SMALL_OFFICIAL = {
    "nf": 8,
    "nframes": 5,
    "groups": 4,
    "front_RBs": 2,
    "back_RBs": 3,
}
SMALL_MMAGIC = {
    "in_channels": 3,
    "out_channels": 3,
    "mid_channels": 8,
    "num_frames": 5,
    "deform_groups": 4,
    "num_blocks_extraction": 2,
    "num_blocks_reconstruction": 3,
}
SEVEN = SMALL | {"num_frame": 7, "num_extract_block": 1, "num_reconstruct_block": 2}
DEBLUR = {"with_predeblur": True, "hr_in": True}

# Name -> (constructor arguments, input shape [N, T, C, H, W]). Network number i
# draws its parameters from seed 100 + i and its input from seed 200 + i.
NETWORKS = {
    "basicsr_sr": (SMALL, (2, 5, 3, 16, 20)),
    "basicsr_sr_without_tsa": (SMALL | {"with_tsa": False}, (1, 5, 3, 16, 20)),
    "basicsr_srblur_predeblur": (SMALL | {"with_predeblur": True}, (1, 5, 3, 16, 16)),
    "basicsr_deblur_predeblur_hr_in": (SMALL | DEBLUR, (1, 5, 3, 64, 48)),
    "basicsr_sr_7frames": (SEVEN, (1, 7, 3, 20, 16)),
    "official_sr": (SMALL_OFFICIAL, (1, 5, 3, 16, 20)),
    "official_deblur_predeblur_hr_in": (
        SMALL_OFFICIAL | {"predeblur": True, "HR_in": True},
        (1, 5, 3, 48, 64),
    ),
    "official_stage2_hr_in": (
        SMALL_OFFICIAL | {"back_RBs": 2, "predeblur": False, "HR_in": True},
        (1, 5, 3, 64, 48),
    ),
    "mmagic_sr": (SMALL_MMAGIC, (1, 5, 3, 16, 20)),
    "mmagic_sr_without_tsa": (SMALL_MMAGIC | {"with_tsa": False}, (1, 5, 3, 16, 20)),
}
TRAIN_NETWORK = SMALL | {"num_extract_block": 1, "num_reconstruct_block": 1}

SELFTEST_NETWORK = TRAIN_NETWORK | {"num_feat": 4, "deformable_groups": 2}
SELFTEST_FOLDER = Path(__file__).resolve().parents[1] / "edvr_jax/selftest_data"


def draw_parameters(
    network: torch.nn.Module,
    seed: int,
    *,
    gain: float = 0.7,
    bias: float = 0.05,
    offset_weight: float = 0.05,
    offset_bias: float = 1.0,
) -> dict[str, torch.Tensor]:
    """Draw every parameter from a normal distribution, in the network's order.

    Args:
        network: The network, for its parameters' names and shapes.
        seed: Seed of the generator.
        gain: Standard deviation of a kernel times the square root of its fan-in.
        bias: Standard deviation of a bias.
        offset_weight: Standard deviation of a kernel that makes offsets.
        offset_bias: Standard deviation of a bias of offsets, in pixels.

    Returns:
        Parameters by name, float32.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.named_parameters():
        if "conv_offset" in key:
            scale = offset_weight if value.ndim == 4 else offset_bias
        else:
            scale = gain / math.sqrt(value[0].numel()) if value.ndim == 4 else bias
        state[key] = torch.randn(value.shape, generator=generator) * scale
    return state


def mean_offset(network: torch.nn.Module, frames: torch.Tensor) -> float:
    """Return the mean |offset| in pixels over all deformable convolutions."""
    means = []

    def record(module, inputs, output):
        means.append(output[:, : output.shape[1] * 2 // 3].abs().mean().item())

    hooks = [
        module.register_forward_hook(record)
        for name, module in network.named_modules()
        if name.rpartition(".")[2].startswith("conv_offset")
    ]
    with torch.no_grad():
        network(frames)
    for hook in hooks:
        hook.remove()
    return float(np.mean(means))


def make_network(name: str, cls: type, out: Path, number: int) -> None:
    """Write the fixture of one network."""
    arguments, shape = NETWORKS[name]
    network = cls(**arguments).double().eval()
    state = draw_parameters(network, 100 + number)
    network.load_state_dict({key: value.double() for key, value in state.items()})
    frames = torch.rand(shape, generator=torch.Generator().manual_seed(200 + number))
    layout = name.partition("_")[0]
    output, activations = torch_reference.run(network, frames.double(), layout)
    offset = mean_offset(network, frames.double())
    np.savez_compressed(
        out / f"{name}.npz",
        input=frames.numpy(),
        output=output.float().numpy(),
        arguments=json.dumps(arguments),
        mean_offset_pixels=offset,
        **{f"act.{key}": value.float().numpy() for key, value in activations.items()},
    )
    save(state, out / f"{name}.safetensors")
    sys.stdout.write(
        f"{name}: {sum(v.numel() for v in state.values())} parameters, output in "
        f"[{output.min():.2f}, {output.max():.2f}], mean |offset| {offset:.2f} px\n"
    )


def make_selftest(cls: type) -> None:
    """Write the network and output of `edvr selftest`; float16 holds its weights."""
    network = cls(**SELFTEST_NETWORK).double().eval()
    state = {key: value.half() for key, value in draw_parameters(network, 110).items()}
    network.load_state_dict({key: value.double() for key, value in state.items()})
    frames = torch.rand((1, 5, 3, 16, 20), generator=torch.Generator().manual_seed(210))
    with torch.no_grad():
        output = network(frames.double())
    save(state, SELFTEST_FOLDER / "weights.safetensors")
    np.savez_compressed(
        SELFTEST_FOLDER / "reference.npz",
        input=frames.numpy(),
        output=output.float().numpy(),
    )


def save(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write parameters as .safetensors, readable by all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    path.chmod(0o644)


def main() -> None:
    """Read the command line and write all fixtures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--basicsr", required=True, help="checkout of BasicSR")
    parser.add_argument("--edvr", required=True, help="checkout of xinntao/EDVR")
    parser.add_argument("--mmagic", required=True, help="checkout of mmagic")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    arguments = parser.parse_args()
    classes = {
        "basicsr": torch_reference.load_basicsr(arguments.basicsr),
        "official": torch_reference.load_official(arguments.edvr),
        "mmagic": torch_reference.load_mmagic(arguments.mmagic),
    }
    (arguments.out / "models").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NETWORKS):
        cls = classes[name.partition("_")[0]]
        make_network(name, cls, arguments.out / "models", number)
    network = classes["basicsr"](**TRAIN_NETWORK)
    state = draw_parameters(
        network, 7, gain=0.5, bias=0.02, offset_weight=0.02, offset_bias=0.5
    )
    save(state, arguments.out / "train/five_adam_steps_init.safetensors")
    make_selftest(classes["basicsr"])


if __name__ == "__main__":
    main()
