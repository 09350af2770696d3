import json
from typing import get_args

import jax
import numpy as np
import pytest
import safetensors.numpy

from edvr_jax import weights
from edvr_jax.config import CascadeConfig, ModelConfig
from edvr_jax.errors import InputError
from edvr_jax.models import create_model
from edvr_jax.weights import native, torch_files

TINY = ModelConfig(
    num_features=4,
    num_frames=3,
    deformable_groups=1,
    num_extract_blocks=1,
    num_reconstruct_blocks=1,
    center_frame_index=0,
    dtype="bfloat16",
)
SECOND = ModelConfig(
    num_features=4,
    num_frames=1,
    deformable_groups=2,
    num_extract_blocks=0,
    num_reconstruct_blocks=1,
    scale=1,
    hr_in=True,
)
ABOUT = {"origin": "a test: größer", "license": "CC0-1.0"}


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(b))


def test_round_trip_keeps_all(tmp_path, random_params):
    path, params = tmp_path / "a.safetensors", random_params(TINY)
    weights.save_weights(path, TINY, params, **ABOUT)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    config, found = weights.load_weights(path)
    assert config == TINY
    assert_same(params, found)
    assert weights.read_metadata(str(path)) == weights.Metadata(TINY, "native", **ABOUT)


def test_file_is_plain_safetensors(tmp_path, random_params):
    path = tmp_path / "a.safetensors"
    weights.save_weights(path, TINY, random_params(TINY), **ABOUT)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert "pcd_align/dcn_pack_l1/conv_offset/kernel" in file.keys()  # noqa: SIM118
        metadata = file.metadata()
    assert metadata["format"] == "edvr_jax"
    assert metadata["format_version"] == "1"
    assert metadata["config_type"] == "ModelConfig"
    assert json.loads(metadata["config"])["num_features"] == 4


def test_device_arrays_are_written(tmp_path, random_params):
    params = jax.tree.map(jax.numpy.asarray, random_params(TINY))
    weights.save_weights(tmp_path / "a.safetensors", TINY, params, **ABOUT)
    assert_same(params, weights.load_weights(tmp_path / "a.safetensors")[1])


def test_float16_halves_the_file(tmp_path, random_params):
    params = random_params(TINY)
    for dtype in ("float32", "float16"):
        path = tmp_path / f"{dtype}.safetensors"
        weights.save_weights(path, TINY, params, dtype=dtype, **ABOUT)
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert 0.45 < sizes[0] / sizes[1] < 0.6
    _, found = weights.load_weights(tmp_path / "float16.safetensors")
    expected = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), params)
    assert_same(expected, found)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_values_that_cannot_be_stored_are_refused(tmp_path, value, random_params):
    params = random_params(TINY)
    params["conv_hr"]["bias"][3] = value
    with pytest.raises(InputError, match="conv_hr/bias is not finite as float16"):
        weights.save_weights(
            tmp_path / "a.safetensors", TINY, params, dtype="float16", **ABOUT
        )
    assert not list(tmp_path.iterdir())


def test_cascade_round_trip_and_its_stages(tmp_path, random_params):
    config = CascadeConfig(stage1=TINY, stage2=SECOND)
    params = random_params(config)
    path = tmp_path / "cascade.safetensors"
    weights.save_weights(path, config, params, **ABOUT)
    found_config, found = weights.load_weights(path)
    assert found_config == config
    assert_same(params, found)

    # Either stage is a network of its own, and two networks make a cascade.
    output = jax.eval_shape(
        create_model(SECOND).apply,
        {"params": found["stage2"]},
        np.zeros((1, 1, 16, 16, 3), np.float32),
    )
    assert output.shape == (1, 16, 16, 3)
    stages = []
    for name, stage in (("stage1", TINY), ("stage2", SECOND)):
        file = tmp_path / f"{name}.safetensors"
        weights.save_weights(file, stage, found[name], **ABOUT)
        stages.append(weights.load_weights(file))
    combined_config, combined = weights.combine_stages(*stages)
    assert combined_config == config
    assert_same(params, combined)
    with pytest.raises(InputError, match="stage2 must keep the size"):
        weights.combine_stages(stages[1], stages[0])
    with pytest.raises(InputError, match="not a cascade"):
        weights.combine_stages((config, params), stages[1])


def test_parameters_of_another_network_are_refused(tmp_path, random_params):
    path, params = tmp_path / "a.safetensors", random_params(TINY)
    del params["upconv1"]
    params["predeblur"] = {"kernel": np.zeros(3, np.float32)}
    params["conv_hr"]["bias"] = np.zeros(65, np.float32)
    expected = (
        "2 missing: upconv1/bias, upconv1/kernel; 1 unexpected: predeblur/kernel; "
        "1 of another shape: conv_hr/bias is 65 instead of 64"
    )
    with pytest.raises(InputError, match=f"params: .*{expected}"):
        weights.save_weights(path, TINY, params, **ABOUT)
    assert not list(tmp_path.iterdir())

    # The same when a file does not hold what its configuration says.
    weights.save_weights(path, TINY, random_params(TINY), **ABOUT)
    state = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    metadata["config"] = metadata["config"].replace('"scale": 4', '"scale": 3')
    safetensors.numpy.save_file(state, path, metadata=metadata)
    with pytest.raises(InputError, match=r"a\.safetensors: .*2 unexpected: upconv2"):
        weights.load_weights(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format_version", "2", "weights format version 2, this edvr_jax reads 1"),
        ("config_type", "Other", "configuration is damaged"),
        ("config", "{", "configuration is damaged"),
        ("config", '{"depth": 3}', "no field depth"),
    ],
)
def test_damaged_metadata(tmp_path, key, value, message):
    metadata = {
        "format": "edvr_jax",
        "format_version": "1",
        "config_type": "ModelConfig",
        "config": "{}",
    }
    path = tmp_path / "a.safetensors"
    state = {"a": np.zeros(1, np.float32)}
    safetensors.numpy.save_file(state, path, metadata=metadata | {key: value})
    with pytest.raises(InputError, match=message):
        weights.load_weights(path)
    with pytest.raises(InputError, match=message):
        weights.read_metadata(path)


def test_pytorch_files_are_accepted_too(fixtures):
    path = fixtures / "models/official_sr.safetensors"
    config, params = weights.load_weights(path)
    expected_config, expected = torch_files.from_torch(path)
    assert config == expected_config
    assert_same(expected, params)
    assert weights.read_metadata(path) == weights.Metadata(config, "official")


def test_native_files_are_no_pytorch_files(tmp_path, random_params):
    path = tmp_path / "a.safetensors"
    weights.save_weights(path, TINY, random_params(TINY), **ABOUT)
    assert native.is_native(path)
    with pytest.raises(InputError, match="load_weights reads it"):
        torch_files.from_torch(path)


def test_names_that_ship(tmp_path, monkeypatch, random_params):
    weights.save_weights(
        tmp_path / "tiny.safetensors", TINY, random_params(TINY), **ABOUT
    )
    (tmp_path / ".hidden.safetensors").touch()
    (tmp_path / "README.md").touch()
    monkeypatch.setattr(weights.resources, "files", lambda package: tmp_path)
    assert weights.available_weights() == ("tiny",)
    assert weights.load_weights("tiny")[0] == TINY
    assert weights.read_metadata("tiny").origin == ABOUT["origin"]
    with pytest.raises(InputError, match=r"tinny: no such .* that ship: tiny$"):
        weights.load_weights("tinny")


def test_types_know_the_networks_that_ship():
    assert sorted(get_args(weights.Shipped)) == sorted(weights.available_weights())


@pytest.mark.parametrize("name", weights.available_weights())
def test_shipped_weights_load_and_say_where_they_come_from(name):
    config, params = weights.load_weights(name)
    metadata = weights.read_metadata(name)
    assert metadata.config == config
    assert metadata.origin
    assert metadata.license
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("size", [0, 5, 300])
def test_damaged_and_wrong_files(tmp_path, size, random_params):
    path = tmp_path / "a.safetensors"
    weights.save_weights(path, TINY, random_params(TINY), **ABOUT)
    path.write_bytes(path.read_bytes()[:size])
    for read in (weights.load_weights, weights.read_metadata):
        with pytest.raises(InputError, match=r"a\.safetensors: not a readable"):
            read(path)
    with pytest.raises(InputError, match=r"name the file \.safetensors"):
        weights.save_weights(tmp_path / "a.npz", TINY, random_params(TINY), **ABOUT)
