"""ONNX files compute what their networks do, for windows of any number and size."""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import edvr_jax
from edvr_jax import cli, export, models
from edvr_jax.config import CascadeConfig
from edvr_jax.models import create_model
from edvr_jax.models import params as params_lib
from tests.messages import check_message, refused

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def network(tiny_config, random_params):
    """Function from the name of a network to its configuration and parameters."""
    fused = dataclasses.replace(tiny_config, with_tsa=False)
    deblur = dataclasses.replace(tiny_config, hr_in=True, scale=1)
    configs = {
        "tsa": tiny_config,
        "gray": dataclasses.replace(fused, in_channels=1, scale=3, max_offset=0.5),
        "predeblur": dataclasses.replace(deblur, with_predeblur=True),
        "predeblur_x2": dataclasses.replace(
            fused, with_predeblur=True, scale=2, center_frame_index=0
        ),
        "single": dataclasses.replace(fused, num_frames=1, with_alignment=False),
        "cascade": CascadeConfig(dataclasses.replace(fused, scale=2), deblur),
    }

    def make(name):
        flat = params_lib.flatten(random_params(configs[name], scale=0.1))
        for key in flat:
            if "conv_offset/" in key:
                flat[key] *= 10  # offsets of some pixels, also out of the image
        return configs[name], params_lib.unflatten(flat)

    return make


def make_windows(config, *, number, rows, columns):
    size = rows * config.size_multiple, columns * config.size_multiple
    shape = (number, config.num_frames, *size, config.in_channels)
    return np.random.default_rng(1).random(shape, np.float32)


def run(session, windows):
    """Run an ONNX network on [N, T, H, W, C]."""
    n, _, height, width, _ = windows.shape
    frames = windows.transpose(0, 1, 4, 2, 3).reshape(n, -1, height, width)
    (restored,) = session.run(["restored"], {"frames": frames})
    return restored.transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    "name", ["tsa", "gray", "predeblur", "predeblur_x2", "single", "cascade"]
)
def test_computes_what_the_network_does(network, tmp_path, name):
    config, params = network(name)
    path = tmp_path / "net.onnx"
    export.save_onnx(path, config, params)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    apply = jax.jit(create_model(config).apply)
    sizes = [(2, 2, 3), (1, 3, 2)] if name == "tsa" else [(2, 2, 3)]
    for number, rows, columns in sizes:
        windows = make_windows(config, number=number, rows=rows, columns=columns)
        expected = apply({"params": params}, windows)
        # Measured 1.5e-6 at most, by onnxruntime 1.32 on CPU.
        np.testing.assert_allclose(
            run(session, windows), expected, rtol=0, atol=1e-4, strict=True
        )


def test_holds_every_parameter_in_float32(network, tmp_path):
    config, params = network("cascade")
    export.save_onnx(tmp_path / "net.onnx", config, params)
    stored = onnx.load(tmp_path / "net.onnx").graph.initializer
    sizes = {x.name: np.prod(x.dims) for x in stored if x.data_type == 1}
    for name, shape in params_lib.shapes(config).items():
        assert sizes[name] == np.prod(shape)


def test_same_network_results_in_same_bytes(network, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        export.save_onnx(tmp_path / name, *network("tsa"))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_size_that_does_not_fit_is_refused(network, tmp_path):
    config, params = network("tsa")
    export.save_onnx(tmp_path / "net.onnx", config, params)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        session.run(None, {"frames": np.zeros((1, 9, 10, 8), np.float32)})


def test_bfloat16_is_refused(network, tmp_path):
    config, params = network("cascade")
    half = CascadeConfig(config.stage1, config.stage2.with_dtype("bfloat16"))
    with refused("net.onnx", "bfloat16"):
        export.save_onnx(tmp_path / "net.onnx", half, params)
    assert not list(tmp_path.iterdir())


def test_parameters_of_another_network_are_refused(network, tmp_path):
    with refused("feat_fusion"):
        export.save_onnx(tmp_path / "net.onnx", network("tsa")[0], network("gray")[1])
    assert not list(tmp_path.iterdir())


def test_missing_package_is_named(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in ("onnx_network", "onnx_ops"):  # imported by other tests
        monkeypatch.delitem(sys.modules, f"edvr_jax.models.{name}", raising=False)
        monkeypatch.delattr(models, name, raising=False)
    with refused("net.onnx", "edvr-jax[onnx]"):
        export.save_onnx(tmp_path / "net.onnx", *network("tsa"))
    assert not list(tmp_path.iterdir())


def test_example_of_the_documentation_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs/restore.md").read_text("utf-8")
    (example,) = (
        block
        for block in text.split("```python\n")[1:]
        if "onnxruntime" in block.split("```")[0]
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["export", "edvr_s_x4", "edvr_s_x4.onnx"]
    assert cli.main(arguments) == 0
    check_message(capsys.readouterr().out, "edvr_s_x4.onnx", "ONNX", "MiB")
    names = {}
    exec(compile(example.split("```")[0], "<docs/restore.md>", "exec"), names)
    window = np.random.default_rng(0).integers(0, 256, (5, 16, 20, 3), np.uint8)
    config, params = edvr_jax.load_weights("edvr_s_x4")
    apply = jax.jit(create_model(config).apply)
    expected = apply({"params": params}, window[None].astype(np.float32) / 255)[0]
    restored = names["restore"](window)
    # Measured 1.1e-6 on CPU.
    np.testing.assert_allclose(restored, expected.clip(0, 1), rtol=0, atol=1e-4)


def test_restore_refuses_onnx_files(tmp_path):
    with refused("net.onnx", "edvr export"):
        export.load(tmp_path / "net.onnx")
