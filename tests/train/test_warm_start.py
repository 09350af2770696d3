"""Parameters from other networks: whole, in part, deeper; all accounted for."""

import dataclasses

import jax
import numpy as np
import pytest

from edvr_jax import save_weights
from edvr_jax.config import CascadeConfig, Config, InitConfig, ModelConfig
from edvr_jax.errors import InputError
from edvr_jax.models import ConcatFusion, create_model
from edvr_jax.models import params as params_lib
from edvr_jax.train import warm_start
from tests.messages import refused


@pytest.fixture(scope="module")
def model(tiny_config):
    return dataclasses.replace(
        tiny_config, with_tsa=False, num_extract_blocks=2, num_reconstruct_blocks=2
    )


@pytest.fixture
def weights(tmp_path):
    """Function from a network to a file of weights, each parameter a number."""

    def write(config, name="source"):
        flat = {
            key: np.full(shape, index, np.float32)
            for index, (key, shape) in enumerate(params_lib.shapes(config).items())
        }
        path = tmp_path / f"{name}.safetensors"
        params = params_lib.unflatten(flat)
        save_weights(path, config, params, origin="", license="")
        return str(path), flat

    return write


def start(model, *sources, **init):
    """Start from zeros, so that what is not filled is seen."""
    config = Config(model=model, init=InitConfig(**init))
    if isinstance(model, CascadeConfig) or model.output_scale == 1:
        config = _deblur(model, init)
    fresh = params_lib.unflatten(
        {key: np.zeros(shape) - 1 for key, shape in params_lib.shapes(model).items()}
    )
    params, report = warm_start.init_from_weights(fresh, config, sources)
    return {k: np.asarray(v) for k, v in params_lib.flatten(params).items()}, report


def _deblur(model, init):
    if model.output_scale != 1:
        return Config(model=model, init=InitConfig(**init))
    base = Config()
    degrade = dataclasses.replace(base.data.degrade, track="deblur")
    data = dataclasses.replace(base.data, degrade=degrade)
    return Config(model=model, data=data, init=InitConfig(**init))


def test_same_network_is_taken_whole(model, weights):
    path, flat = weights(model)
    params, report = start(model, path)
    assert params.keys() == flat.keys()
    for key, value in flat.items():
        np.testing.assert_array_equal(params[key], value)
    assert report == [f"{len(flat)} parameters from {path}"]


def test_fusion_starts_fresh_if_allowed(model, weights):
    path, flat = weights(model)
    with_tsa = dataclasses.replace(model, with_tsa=True)
    with pytest.raises(InputError, match=r"missing: fusion/.*unexpected: fusion/bias"):
        start(with_tsa, path)
    params, report = start(with_tsa, path, fresh=("fusion",))
    for key, value in params.items():
        is_fresh = key.startswith("fusion/")
        np.testing.assert_array_equal(value, -1 if is_fresh else flat[key])
    assert report[1].endswith("parameters start fresh: fusion")


def test_depth_grows_by_copies_in_turn(model, weights):
    path, flat = weights(model)
    deep = dataclasses.replace(model, num_extract_blocks=3, num_reconstruct_blocks=5)
    with pytest.raises(InputError, match=r"16 missing: .*_2/conv1"):
        start(deep, path)
    params, report = start(deep, path, grow_depth=True)
    for index in range(5):
        for leaf in ("conv1/kernel", "conv2/bias"):
            np.testing.assert_array_equal(
                params[f"reconstruction_{index}/{leaf}"],
                flat[f"reconstruction_{index % 2}/{leaf}"],
            )
    np.testing.assert_array_equal(
        params["feature_extraction_2/conv1/kernel"],
        flat["feature_extraction_0/conv1/kernel"],
    )
    assert "(16 of them copied into new blocks)" in report[0]
    with pytest.raises(InputError, match="unexpected"):
        start(model, weights(deep, "deep")[0], grow_depth=True)  # does not shrink


def test_width_does_not_grow(model, weights):
    path, _ = weights(model)
    wide = dataclasses.replace(model, num_features=16)
    with pytest.raises(InputError, match="8 features, the network 16; width cannot"):
        start(wide, path, grow_depth=True)


def test_predeblur_comes_from_its_own_network(tiny_config, weights):
    image = ModelConfig(
        num_features=8,
        num_frames=1,
        with_alignment=False,
        with_tsa=False,
        with_predeblur=True,
        num_extract_blocks=0,
        num_reconstruct_blocks=0,
    )
    path, flat = weights(image)
    blurred = dataclasses.replace(tiny_config, with_predeblur=True)
    params, report = start(blurred, f"predeblur={path}")
    for key, value in params.items():
        is_taken = key.startswith("predeblur/")
        np.testing.assert_array_equal(value, flat[key] if is_taken else -1)
    assert report[0].startswith(f"{sum('predeblur' in k for k in flat)} parameters")
    assert "fusion" in report[1]
    with pytest.raises(InputError, match="no parameters under predeblur"):
        start(tiny_config, f"predeblur={path}")
    with pytest.raises(InputError, match="nothing under pcd_align"):
        start(blurred, f"pcd_align={path}")


def test_networks_become_stages(tiny_config, model, weights):
    stage2 = dataclasses.replace(model, scale=1, hr_in=True)
    cascade = CascadeConfig(stage1=tiny_config, stage2=stage2)
    first, flat1 = weights(tiny_config, "first")
    params, report = start(cascade, f"stage1={first}")
    for key, value in params.items():
        stage, _, rest = key.partition("/")
        np.testing.assert_array_equal(value, flat1[rest] if stage == "stage1" else -1)
    assert report[1].endswith("start fresh: stage2")
    second, flat2 = weights(stage2, "second")
    params, report = start(cascade, f"stage1={first}", f"stage2={second}")
    np.testing.assert_array_equal(
        params["stage2/conv_last/bias"], flat2["conv_last/bias"]
    )
    assert len(report) == 2
    both, _ = weights(cascade, "both")
    assert len(start(cascade, both)[1]) == 1
    with pytest.raises(InputError, match="parameters do not fit"):
        start(cascade, f"stage1={second}")


def test_a_network_begins_as_the_identity(tiny_config):
    network = dataclasses.replace(
        tiny_config, scale=1, with_predeblur=True, center_frame_index=0
    )
    config = _deblur(network, {"identity": True})
    state = warm_start.start_state(config, (), log=lambda line: None)
    model = create_model(network)
    frames = np.random.default_rng(0).random((1, 3, 16, 16, 3), np.float32)
    features = np.random.default_rng(1).uniform(-0.9, 2, (3, 16, 16, 8))

    @jax.jit
    def run(params):
        pyramid = tuple(features[:, ::step, ::step] for step in (1, 2, 4))
        center = tuple(level[:1] for level in pyramid)
        parts = {name: {"params": params[name]} for name in ("pcd_align", "fusion")}
        aligned = model.pcd_align.apply(parts["pcd_align"], pyramid, center)
        fused = model.fusion.apply(parts["fusion"], aligned[None])
        return model.apply({"params": params}, frames), aligned, fused

    for params in (state.params, state.ema_params):
        restored, aligned, fused = run(params)
        np.testing.assert_array_equal(restored, frames[:, 0])
        # The alignment adds 1, and the fusion subtracts it.
        np.testing.assert_allclose(aligned, features + 1, atol=1e-5)
        np.testing.assert_allclose(fused, features[:1], atol=1e-5)
    spread = {k: np.std(state.params[k]["kernel"]) for k in ("conv_hr", "conv_1x1")}
    for name, fan_in in (("conv_hr", 9 * 8), ("conv_1x1", 8)):
        assert spread[name] == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)


def test_a_stage_begins_as_the_identity_behind_trained_weights(
    tiny_config, model, weights
):
    stage2 = dataclasses.replace(model, scale=1, num_frames=5)
    cascade = CascadeConfig(stage1=tiny_config, stage2=stage2)
    path, flat = weights(tiny_config)
    config = _deblur(cascade, {"identity": True})
    state = warm_start.start_state(config, [f"stage1={path}"], log=lambda line: None)
    started = params_lib.flatten(state.params)
    for key, value in flat.items():
        np.testing.assert_array_equal(started[f"stage1/{key}"], value)
    assert not started["stage2/conv_last/kernel"].any()

    aligned = np.random.default_rng(1).uniform(0.1, 3, (1, 5, 4, 4, 8))
    fusion = {"params": state.params["stage2"]["fusion"]}
    fused = ConcatFusion(8).apply(fusion, aligned.astype(np.float32))
    np.testing.assert_allclose(fused, aligned[:, 2] - 1, atol=1e-6)


def test_identity_refuses_an_own_module(tiny_config):
    config = Config(model=tiny_config, init=InitConfig(identity=True))
    own = create_model(tiny_config, fusion=ConcatFusion(8))
    with refused("init.identity", "your own module"):
        warm_start.start_state(config, (), model=own, log=lambda line: None)
