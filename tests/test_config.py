import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from edvr_jax import cli
from edvr_jax.commands.train import load_config, with_config_file
from edvr_jax.config import (
    CascadeConfig,
    Config,
    DataConfig,
    DegradeConfig,
    FidelityConfig,
    ModelConfig,
    OptimConfig,
    Phase,
    WebConfig,
    from_dict,
    to_json,
)
from edvr_jax.errors import InputError
from edvr_jax.models import create_model

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_experiment_loads_traces_and_survives_json(path):
    config = load_config(path)
    assert from_dict(Config, json.loads(to_json(config))) == config
    assert "dataset=" in path.read_text("utf-8")  # named, not left to the default
    model = config.model
    size = config.data.gt_crop // model.output_scale
    frames = jax.ShapeDtypeStruct(
        (1, model.num_frames, size, size, model.in_channels), np.float32
    )
    out, _ = jax.eval_shape(
        lambda x: create_model(model).init_with_output(jax.random.key(0), x), frames
    )
    assert out.shape == (1, config.data.gt_crop, config.data.gt_crop, 3)


def test_cascade_survives_json():
    config = CascadeConfig()
    assert from_dict(CascadeConfig, json.loads(to_json(config))) == config


def test_unknown_field_is_named():
    with pytest.raises(InputError, match="DataConfig has no field gt_crops"):
        from_dict(Config, {"data": {"gt_crops": 3}})


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"total_steps": "many"}, "Config.total_steps must be int, got 'many'"),
        ({"total_steps": 2.5}, "Config.total_steps must be int"),
        ({"seed": True}, "Config.seed must be int"),
        ({"data": 3}, "Config.data must be DataConfig"),
        ({"model": [1]}, "Config.model must be ModelConfig | CascadeConfig"),
        ({"model": {"with_tsa": 1}}, "ModelConfig.with_tsa must be bool"),
        ({"model": {"max_offset": "x"}}, "max_offset must be float | None"),
        ({"model": {"dtype": []}}, "dtype must be float32 or bfloat16"),
        ({"data": {"intervals": [1, "x"]}}, "intervals must be tuple[int, ...]"),
        (
            {"data": {"degrade": {"web": {"crf": [1]}}}},
            "crf must be tuple[float, float]",
        ),
        (
            {"model": {"num_extract_blocks": 10**9}},
            "num_extract_blocks must be at most",
        ),
        ({"model": {"no\x1b": 1}}, "no field 'no\\x1b'"),
        ([1], "Config needs fields and values, got [1]"),
    ],
)
def test_values_of_another_type_are_named(values, named):
    with pytest.raises(InputError) as error:
        from_dict(Config, values)
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("cls", "change", "expected"),
    [
        (ModelConfig, {"num_frames": "5"}, "ModelConfig.num_frames must be int"),
        (ModelConfig, {"num_features": 64.0}, "ModelConfig.num_features must be int"),
        (ModelConfig, {"scale": None}, "ModelConfig.scale must be int"),
        (CascadeConfig, {"stage1": "edvr_s_x4"}, "stage1 must be ModelConfig"),
        (OptimConfig, {"frozen": ["predeblur"]}, "frozen must be tuple[str"),
        (OptimConfig, {"peak_lr": "4e-4"}, "peak_lr must be float"),
        (DataConfig, {"gt_crop": 64.5}, "gt_crop must be int"),
        (Phase, {"name": "all", "config": ModelConfig()}, "config must be Config"),
    ],
)
def test_values_of_another_type_are_named_in_python_too(cls, change, expected):
    with pytest.raises(InputError) as error:
        cls(**change)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("cls", "change", "message"),
    [
        (DataConfig, {"camera_motion": 2.0}, "probability"),
        (DataConfig, {"synthetic_motion": -0.1}, "synthetic_motion"),
        (DataConfig, {"batch_size": 0}, "batch_size"),
        (DataConfig, {"crop_candidates": 0}, "crop_candidates"),
        (FidelityConfig, {"alone": True}, "weight"),
        (WebConfig, {"clean": 1.5}, "probability"),
        (DegradeConfig, {"track": "deblur", "shutter": 1.5}, "shutter"),
        (DegradeConfig, {"track": "sr", "shutter": 0.5}, "shutter"),
        (DegradeConfig, {"track": "deblur", "shake": 1.0}, "shake"),
        (WebConfig, {"codecs": ()}, "codecs"),
        (WebConfig, {"crf": (30.0, 20.0)}, "crf"),
        (WebConfig, {"crf": (20.0, 60.0)}, "from 0 to 51"),
        (FidelityConfig, {"huber_delta": 0.0}, "huber_delta"),
        (FidelityConfig, {"weight": 1.0, "decay_periods": 0}, "decay_periods"),
        (
            Config,
            {
                "model": CascadeConfig(),
                "optim": OptimConfig(fidelity=FidelityConfig(weight=1.0)),
            },
            "cascade",
        ),
        (DataConfig, {"intervals": ()}, "intervals"),
        (DataConfig, {"lq": "given", "gt_downscale": 2}, "gt_downscale"),
        (DataConfig, {"lq": "given", "more_downscales": (3,)}, "more_downscales"),
        (DataConfig, {"more_downscales": (3, 0)}, "more_downscales"),
        (Config, {"model": ModelConfig(scale=1)}, "track sr does not go with scale 1"),
        (Config, {"data": DataConfig(gt_crop=40)}, "multiple of 16"),
        (Config, {"total_steps": 0}, "total_steps"),
        (Config, {"total_steps": 600_001}, "period_steps"),
        (OptimConfig, {"ema_decay": 1.0}, "ema_decay"),
        (OptimConfig, {"peak_lr": float("nan")}, "peak_lr"),
    ],
)
def test_impossible_values_are_refused(cls, change, message):
    with pytest.raises(InputError, match=message):
        cls(**change)


def test_configs_are_frozen_and_hashable():
    config = Config()
    assert hash(config) == hash(dataclasses.replace(config))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


def test_a_file_gives_the_defaults_that_options_override(capsys):
    path = str(CONFIGS[0])
    command = with_config_file(["train", "--config", path])
    assert load_config(CONFIGS[0]) == command.__dataclass_fields__["settings"].default
    with pytest.raises(SystemExit) as exit_info:
        cli.main(
            f"train --config={path} --data x --workdir y --optim.peek-lr 1".split()
        )
    assert exit_info.value.code == 2
    assert "--optim.peak-lr" in capsys.readouterr().err


def test_missing_config_file_is_one_line(capsys):
    assert cli.main(["train", "--config", "nowhere.py"]) == 2
    assert capsys.readouterr().err == (
        "error: nowhere.py: no such config file; see configs/*.py\n"
    )
