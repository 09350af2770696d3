import dataclasses
import fractions
import sys

import numpy as np
import pytest
import safetensors.numpy

from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.errors import InputError
from edvr_jax.models import params as params_lib
from edvr_jax.weights import torch_files, torch_names

SMALL = {
    "num_features": 8,
    "deformable_groups": 4,
    "num_extract_blocks": 2,
    "num_reconstruct_blocks": 3,
}
DEBLUR = ModelConfig(scale=1, hr_in=True, with_predeblur=True, **SMALL)
CONFIGS = {
    "basicsr_sr": ModelConfig(**SMALL),
    "basicsr_sr_without_tsa": ModelConfig(with_tsa=False, **SMALL),
    "basicsr_sr_7frames": ModelConfig(
        **SMALL | {"num_extract_blocks": 1, "num_reconstruct_blocks": 2}, num_frames=7
    ),
    "basicsr_srblur_predeblur": ModelConfig(with_predeblur=True, **SMALL),
    "basicsr_deblur_predeblur_hr_in": DEBLUR,
    "official_sr": ModelConfig(**SMALL),
    "official_deblur_predeblur_hr_in": DEBLUR,
    "official_stage2_hr_in": ModelConfig(
        **SMALL | {"num_reconstruct_blocks": 2}, scale=1, hr_in=True
    ),
    "mmagic_sr": ModelConfig(**SMALL),
    "mmagic_sr_without_tsa": ModelConfig(with_tsa=False, **SMALL),
}


def load(path):
    return safetensors.numpy.load_file(path)


def assert_same(a, b):
    a, b = params_lib.flatten(a), params_lib.flatten(b)
    assert a.keys() == b.keys()
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key])
        assert value.dtype == b[key].dtype


@pytest.fixture
def state(fixtures):
    """Parameters of one network under BasicSR's names."""
    return load(fixtures / "models/basicsr_sr.safetensors")


def write(tmp_path, state):
    safetensors.numpy.save_file(state, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize("name", CONFIGS)
def test_layout_and_config_are_found(name, fixtures):
    path = fixtures / f"models/{name}.safetensors"
    layout, config, params = torch_files.read_torch(path)
    assert layout == name.partition("_")[0]
    assert config == CONFIGS[name]
    leaves = params_lib.flatten(params).values()
    assert all(leaf.dtype == np.float32 for leaf in leaves)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_is_used_once_and_every_parameter_filled_once(name, fixtures):
    state = load(fixtures / f"models/{name}.safetensors")
    entries = torch_names.mapping(CONFIGS[name], name.partition("_")[0])
    assert sorted(entry.torch_key for entry in entries) == sorted(state)
    shapes = params_lib.shapes(CONFIGS[name])
    assert sorted(entry.path for entry in entries) == sorted(shapes)
    assert {entry.path: entry.shape for entry in entries} == shapes
    for entry in entries:
        assert entry.torch_shape == state[entry.torch_key].shape


@pytest.mark.parametrize("name", CONFIGS)
def test_writing_back_gives_the_same_file(name, fixtures, tmp_path):
    path = fixtures / f"models/{name}.safetensors"
    layout, config, params = torch_files.read_torch(path)
    torch_files.to_torch(config, params, tmp_path / "b.safetensors", layout=layout)
    original, written = load(path), load(tmp_path / "b.safetensors")
    assert original.keys() == written.keys()
    for key, value in original.items():
        np.testing.assert_array_equal(value, written[key])


@pytest.mark.parametrize("layout", torch_names.LAYOUTS)
@pytest.mark.parametrize(
    "config",
    [
        *(ModelConfig(scale=scale, **SMALL) for scale in (1, 2, 3, 4)),
        ModelConfig(with_tsa=False, num_frames=3, in_channels=1, **SMALL),
        ModelConfig(in_channels=4, out_channels=1, **SMALL),
        ModelConfig(**SMALL | {"num_extract_blocks": 0, "num_reconstruct_blocks": 12}),
        ModelConfig(with_predeblur=True, **SMALL),
        DEBLUR,
        CONFIGS["official_stage2_hr_in"],
    ],
    ids=repr,
)
def test_round_trip_is_exact(config, layout, tmp_path, random_params):
    params, path = random_params(config), tmp_path / "a.safetensors"
    if layout == "mmagic" and (config.hr_in or config.with_predeblur):
        with pytest.raises(InputError, match="mmagic's EDVR has neither"):
            torch_files.to_torch(config, params, path, layout=layout)
        assert not list(tmp_path.iterdir())
        return
    torch_files.to_torch(config, params, path, layout=layout)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    found_layout, found_config, found = torch_files.read_torch(path)
    assert (found_layout, found_config) == (layout, config)
    assert_same(found, params)


def test_kernels_are_transposed(state, fixtures):
    _, params = torch_files.from_torch(fixtures / "models/basicsr_sr.safetensors")
    kernel = params["pcd_align"]["dcn_pack_l2"]["conv_offset"]["kernel"]
    weight = state["pcd_align.dcn_pack.l2.conv_offset.weight"]
    assert kernel[0, 2, 5, 100] == weight[100, 5, 0, 2]


def test_official_temporal_attention_is_numbered_the_other_way(fixtures):
    state = load(fixtures / "models/official_sr.safetensors")
    _, params = torch_files.from_torch(fixtures / "models/official_sr.safetensors")
    for ours, theirs in (("temporal_attn1", "tAtt_2"), ("temporal_attn2", "tAtt_1")):
        np.testing.assert_array_equal(
            params["fusion"][ours]["bias"], state[f"tsa_fusion.{theirs}.bias"]
        )


def test_all_differences_are_in_one_error(state, tmp_path):
    del state["conv_last.bias"]
    state["conv_hr.weight"] = state["conv_hr.weight"][:, :32]
    state["discriminator.weight"] = np.zeros((3, 3), np.float32)
    with pytest.raises(InputError) as error:
        torch_files.from_torch(write(tmp_path, state))
    message = str(error.value)
    assert "\n" not in message
    assert "a.safetensors (basicsr names)" in message
    assert "1 missing: conv_last.bias" in message
    assert "1 unexpected: discriminator.weight" in message
    assert "conv_hr.weight is 64x32x3x3 instead of 64x64x3x3" in message


def test_long_lists_are_cut(state, tmp_path):
    missing = [key for key in state if key.startswith("pcd_align.dcn")]
    state = {key: value for key, value in state.items() if key not in missing}
    with pytest.raises(InputError, match=r"12 missing: .* and 6 more$"):
        torch_files.from_torch(write(tmp_path, state))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda s: s.clear() or s.update(a=np.zeros(3)),
            "no EDVR weights, only 0 of 1",
        ),
        (lambda s: s.clear(), "holds no table of parameters"),
        (lambda s: s.pop("conv_last.weight"), "none of conv_last is there"),
        (
            lambda s: s.update({"fusion.feat_fusion.weight": np.zeros((8, 32, 1, 1))}),
            "num_frames must be odd, got 4",
        ),
        (
            lambda s: s.update({"feature_extraction.99999999.conv1.bias": s["b"]}),
            "unexpected",
        ),
    ],
)
def test_other_networks_are_refused(state, tmp_path, edit, message):
    state["b"] = np.zeros(8, np.float32)
    edit(state)
    with pytest.raises(InputError, match=message):
        torch_files.from_torch(write(tmp_path, state))


def test_half_precision_is_read_as_float32(state, tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        path = write(tmp_path, {key: v.astype(dtype) for key, v in state.items()})
        _, params = torch_files.from_torch(path)
        assert params["conv_hr"]["bias"].dtype == np.float32
        np.testing.assert_array_equal(
            params["conv_hr"]["bias"],
            state["conv_hr.bias"].astype(dtype).astype(np.float32),
        )


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "generator.", "module.generator."),
        *("_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod."),
        *("model.", "net_g.", "net.module.", "network.", "model_ema."),
    ],
)
def test_prefixes_are_removed(state, tmp_path, prefix):
    path = write(tmp_path, {prefix + key: value for key, value in state.items()})
    assert torch_files.from_torch(path)[0] == CONFIGS["basicsr_sr"]


def test_other_modules_of_a_training_program_are_left_out(state, tmp_path, caplog):
    """Lightning saves losses and metrics beside the model."""
    whole = {f"model.{key}": value for key, value in state.items()}
    whole["vgg_loss.features.0.weight"] = np.zeros((4, 3, 3, 3), np.float32)
    whole["val_psnr.total"] = np.zeros(1, np.float32)
    assert torch_files.from_torch(write(tmp_path, whole))[0] == CONFIGS["basicsr_sr"]
    (message,) = caplog.messages
    assert message.endswith(": left out val_psnr, vgg_loss")
    # What looks like a part of the network is no extra.
    whole["conv_last.weight"] = np.zeros((3, 64, 3, 3), np.float32)
    whole["fusion.more.weight"] = np.zeros(3, np.float32)
    with pytest.raises(InputError, match=r"unexpected: fusion\.more\.weight"):
        torch_files.from_torch(write(tmp_path, whole))


def test_extras_of_mmagic_are_left_out_and_the_average_preferred(
    state, tmp_path, caplog
):
    average = {f"generator_ema.{key}": value + 1 for key, value in state.items()}
    whole = average | {f"generator.{key}": value for key, value in state.items()}
    whole["step_counter"] = np.zeros(1, np.int64)
    whole["data_preprocessor.mean"] = np.zeros(3, np.float32)
    _, params = torch_files.from_torch(write(tmp_path, whole))
    np.testing.assert_array_equal(params["conv_hr"]["bias"], state["conv_hr.bias"] + 1)
    assert caplog.messages[-1].endswith(
        "left out data_preprocessor, generator, step_counter"
    )


def test_damaged_and_missing_files(tmp_path, fixtures):
    whole = (fixtures / "models/basicsr_sr.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for size in (0, 5, 1000, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"cut\.safetensors: not a readable"):
            torch_files.from_torch(path)
    with pytest.raises(InputError, match="no such file"):
        torch_files.from_torch(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="this is a folder"):
        torch_files.from_torch(tmp_path)


def test_without_torch_pickled_files_are_explained(
    tmp_path, monkeypatch, random_params
):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"pip install 'edvr-jax\[torch\]'"):
        torch_files.from_torch(tmp_path / "a.pth")
    config = CONFIGS["basicsr_sr"]
    with pytest.raises(InputError, match=r"pip install 'edvr-jax\[torch\]'"):
        torch_files.to_torch(config, random_params(config), tmp_path / "b.pth")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_to_torch_checks_its_input(tmp_path, random_params):
    config = CONFIGS["basicsr_sr"]
    params = random_params(config)
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="no layout 'caffe'"):
        torch_files.to_torch(config, params, path, layout="caffe")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\.pth or \.safetensors"):
        torch_files.to_torch(config, params, tmp_path / "a.bin")
    with pytest.raises(InputError, match="stage by stage"):
        torch_files.to_torch(CascadeConfig(), params, path)
    clamped = dataclasses.replace(config, max_offset=10.0)
    with pytest.raises(InputError, match="stay in the native format"):
        torch_files.to_torch(clamped, params, path)
    other = dataclasses.replace(config, num_frames=3)
    with pytest.raises(InputError, match=r"feat_fusion/kernel is 1x1x40x8 instead of"):
        torch_files.to_torch(other, params, path)
    with pytest.raises(InputError, match="cannot be written"):
        torch_files.to_torch(config, params, tmp_path / "no" / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_stages_of_a_cascade_convert_one_by_one(tmp_path, random_params):
    config = CascadeConfig(
        stage1=CONFIGS["basicsr_sr"], stage2=CONFIGS["official_stage2_hr_in"]
    )
    params = random_params(config)
    for stage in ("stage1", "stage2"):
        path = tmp_path / f"{stage}.safetensors"
        network = getattr(config, stage)
        torch_files.to_torch(network, params[stage], path, layout="official")
        found_config, found = torch_files.from_torch(path)
        assert found_config == network
        assert_same(found, params[stage])


# The checkpoint around the parameters, as each project's training code writes it.
def wrap(state, layout, torch):
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    if layout == "basicsr":
        worse = {key: value + 1 for key, value in tensors.items()}
        return {"params": worse, "params_ema": tensors}
    if layout == "official":
        return {f"module.{key}": value for key, value in tensors.items()}
    generator = {f"generator.{key}": value for key, value in tensors.items()}
    generator["step_counter"] = torch.zeros(1)
    return {"meta": {"iter": 600_000, "CLASSES": None}, "state_dict": generator}


@pytest.mark.parametrize("name", ["basicsr_sr", "official_sr", "mmagic_sr"])
def test_checkpoints_of_training_code(name, fixtures, tmp_path):
    torch = pytest.importorskip("torch")
    path = fixtures / f"models/{name}.safetensors"
    layout = name.partition("_")[0]
    torch.save(wrap(load(path), layout, torch), tmp_path / "a.pth")
    found_layout, config, params = torch_files.read_torch(tmp_path / "a.pth")
    assert (found_layout, config) == (layout, CONFIGS[name])
    assert_same(params, torch_files.from_torch(path)[1])


@pytest.mark.parametrize("layout", torch_names.LAYOUTS)
def test_pickled_round_trip_is_exact(layout, tmp_path, random_params):
    torch = pytest.importorskip("torch")
    config = ModelConfig(**SMALL)
    params = random_params(config)
    torch_files.to_torch(config, params, tmp_path / "a.pth", layout=layout)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]
    saved = torch.load(tmp_path / "a.pth", weights_only=True)
    top = {"basicsr": "params", "official": "conv_first.weight", "mmagic": "state_dict"}
    assert top[layout] in saved
    found_layout, found_config, found = torch_files.read_torch(tmp_path / "a.pth")
    assert (found_layout, found_config) == (layout, config)
    assert_same(found, params)


def test_damaged_pickled_files(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    torch.save({"params": {"conv_first.weight": torch.zeros(8, 3, 3, 3)}}, path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:100], whole[:-100]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.pth: not a (weights|readable)"):
            torch_files.from_torch(path)
    torch.save({"params": fractions.Fraction(1, 2)}, path)  # no weights
    with pytest.raises(InputError, match="holds no table of parameters; it holds par"):
        torch_files.from_torch(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="holds no table of parameters"):
        torch_files.from_torch(path)
    torch.save({"optimizer": {"lr": 1}}, path)
    with pytest.raises(InputError, match="parameters; it holds optimizer"):
        torch_files.from_torch(path)
