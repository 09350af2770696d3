"""The networks against PyTorch's outputs and activations, stored without torch.

The fixtures are made by tools/make_parity_fixtures.py: BasicSR's, the official and
mmagic's networks, run in float64.
"""

import json

import jax
import numpy as np
import pytest

from edvr_jax.config import ModelConfig
from edvr_jax.models import cost, create_model
from edvr_jax.models import params as params_lib
from edvr_jax.weights import torch_files

pytestmark = pytest.mark.usefixtures("optimized")

NETWORKS = (
    "basicsr_sr",
    "basicsr_sr_without_tsa",
    "basicsr_sr_7frames",
    "basicsr_srblur_predeblur",
    "basicsr_deblur_predeblur_hr_in",
    "official_sr",
    "official_deblur_predeblur_hr_in",
    "official_stage2_hr_in",
    "mmagic_sr",
    "mmagic_sr_without_tsa",
)

# Our module whose output is the reference's activation; {i} is the last block.
MODULES = {
    "predeblur": "predeblur",
    "pre_deblur": "predeblur",
    "feature_extraction": "feature_extraction_{i}",
    "pcd_align": "pcd_align",
    "pcd_alignment": "pcd_align",
    "fusion": "fusion",
    "tsa_fusion": "fusion",
    "reconstruction": "reconstruction_{i}",
    "recon_trunk": "reconstruction_{i}",
}
LARGE = {"num_features": 128, "num_reconstruct_blocks": 40}


def run(config, params, frames):
    model = create_model(config)

    @jax.jit
    def apply(params, frames):
        return model.apply(
            {"params": params},
            frames,
            capture_intermediates=lambda module, method: method == "__call__",
            mutable=["intermediates"],
        )

    with jax.default_matmul_precision("highest"):
        output, state = apply(params, frames)
    return output, state["intermediates"]


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, -3)


@pytest.mark.parametrize("name", NETWORKS)
def test_output_and_activations_equal_pytorch(name, fixtures):
    config, params = torch_files.from_torch(fixtures / f"models/{name}.safetensors")
    stored = np.load(fixtures / f"models/{name}.npz")
    output, intermediates = run(config, params, np.moveaxis(stored["input"], 2, -1))

    # Measured on a CPU: 1.2e-7 in every network.
    np.testing.assert_allclose(
        channels_first(output), stored["output"], rtol=0, atol=2e-5
    )
    blocks = {
        "feature_extraction": config.num_extract_blocks,
        "reconstruction": config.num_reconstruct_blocks,
        "recon_trunk": config.num_reconstruct_blocks,
    }
    activations = [key for key in stored.files if key.startswith("act.")]
    assert len(activations) == 4 + config.with_predeblur
    for key in activations:
        module = key.removeprefix("act.")
        ours = MODULES[module].format(i=blocks.get(module, 0) - 1)
        ours = channels_first(intermediates[ours]["__call__"][0])
        # Measured on a CPU: 7e-7; activations reach 2.
        np.testing.assert_allclose(
            ours.reshape(stored[key].shape), stored[key], rtol=0, atol=2e-5
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_fixture_tests_sampling(name, fixtures):
    stored = np.load(fixtures / f"models/{name}.npz")
    assert 0.5 < stored["mean_offset_pixels"] < 2
    assert json.loads(str(stored["arguments"]))


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (ModelConfig(), 3_300_131),
        (ModelConfig(with_tsa=False), 2_996_259),
        (ModelConfig(**LARGE), 20_633_827),
        (ModelConfig(num_frames=7, **LARGE), 20_699_363),
        (ModelConfig(with_tsa=False, **LARGE), 19_419_875),
        (ModelConfig(with_predeblur=True, **LARGE), 23_306_851),
        (ModelConfig(with_predeblur=True, hr_in=True, **LARGE), 23_602_019),
    ],
    ids=["M", "M woTSA", "L", "L 7 frames", "L woTSA", "L SR-blur", "L deblur"],
)
def test_parameter_count(config, count):
    assert params_lib.count(config) == count


# Counts of PyTorch's EDVR at 5 frames of 180x320 (deblurring: 720x1280), in 1e9.
@pytest.mark.parametrize(
    ("config", "size", "giga_macs"),
    [
        (ModelConfig(), (180, 320), 486.8),
        (ModelConfig(with_tsa=False), (180, 320), 469.1),
        (ModelConfig(**LARGE), (180, 320), 2115.5),
        (ModelConfig(with_tsa=False, **LARGE), (180, 320), 2044.8),
        (ModelConfig(with_predeblur=True, hr_in=True, **LARGE), (720, 1280), 2833.2),
    ],
    ids=["M", "M woTSA", "L", "L woTSA", "L deblur"],
)
def test_macs(config, size, giga_macs):
    # Of four convolutions, two at full, one at half and one at quarter size, the
    # reference's half runs once instead of five times.
    pixels = 180 * 320 * (1 + 1 + 1 / 4 + 1 / 16)
    saved = 4 * 9 * config.num_features**2 * pixels
    actual = cost.macs(config, *size)
    assert (actual + saved) / 1e9 == pytest.approx(giga_macs, abs=0.05)


def test_macs_of_a_stream_compute_each_frame_once():
    config = ModelConfig()
    window = cost.macs(config, 180, 320)
    stream = cost.macs(config, 180, 320, is_streaming=True)
    # 5 frames' extraction is 113.3 G of M's window.
    assert (window - stream) / 1e9 == pytest.approx(113.3 * 4 / 5, abs=0.05)
    single = ModelConfig(num_frames=1)
    assert cost.macs(single, 64, 64) == cost.macs(single, 64, 64, is_streaming=True)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_macs_of_every_scale_equal_hand_count(scale):
    config = ModelConfig(scale=scale, num_features=8, deformable_groups=2)
    tail = {1: 8, 2: 8 * 256, 3: 8 * 576, 4: 8 * 32 + 8 * 256 * 4}[scale] * 9
    tail = 0 if scale == 1 else tail
    hr = ((8 if scale == 1 else 64) * 64 + 64 * 3) * 9 * scale**2
    fewer = ModelConfig(
        scale=1, num_features=8, deformable_groups=2, num_reconstruct_blocks=10
    )
    base = cost.macs(fewer, 16, 16) - (8 * 64 + 64 * 3) * 9 * 256
    assert cost.macs(config, 16, 16) == base + (tail + hr) * 256
