"""A module of one's own restores clips, from files and from artifacts."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
import safetensors

import edvr_jax
from edvr_jax import cli, weights
from edvr_jax.evaluate import evaluator, metrics
from edvr_jax.evaluate.protocols import EvalClip, Protocol
from edvr_jax.media.read import pixels
from edvr_jax.models import params as params_lib
from edvr_jax.restore.restorer import Restorer
from tests.messages import check_message, refused
from tests.own_modules import CenterAlignment, Plain, Wrong

ABOUT = {"origin": "a test", "license": "CC0-1.0"}


@pytest.fixture(scope="module")
def params(tiny_config):
    rng = np.random.default_rng(0)
    shapes = params_lib.shapes(tiny_config, Plain())
    flat = {k: rng.normal(0, 0.1, s).astype(np.float32) for k, s in shapes.items()}
    return params_lib.unflatten(flat)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(1).integers(0, 256, (4, 12, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def restored(tiny_config, params, frames):
    """Every window put into the module as a whole."""
    windows = [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    lq = frames[np.array(windows)] / np.float32(255)
    return np.asarray(jax.jit(Plain().apply)({"params": params}, lq))


@pytest.fixture(scope="module")
def file(tiny_config, params, tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "plain.safetensors"
    edvr_jax.save_weights(path, tiny_config, params, model=Plain(), **ABOUT)
    return path


@pytest.mark.parametrize("tile", [None, "auto"])
def test_restores_what_the_module_does(tiny_config, params, frames, restored, tile):
    found = edvr_jax.restore_frames(
        tiny_config, params, frames, model=Plain(), padding="replicate", tile=tile
    )
    # Measured 3e-7, CPU, for windows of another number at a time.
    np.testing.assert_allclose(list(found), restored, rtol=0, atol=1e-5)


def test_artifact_needs_no_code(tiny_config, params, frames, restored, tmp_path):
    path, here = tmp_path / "plain.edvr", jax.export.default_export_platform()
    edvr_jax.export.save(path, tiny_config, params, model=Plain(), platforms=[here])
    networks, _ = edvr_jax.export.load(path)
    found = list(Restorer(networks)(frames))
    np.testing.assert_allclose(found[1:3], restored[1:3], rtol=0, atol=1e-5)


def test_what_cannot_be_exported_is_one_line(tiny_config, tmp_path):
    class Fixed(Plain):
        def __call__(self, frames):
            return super().__call__(frames.reshape(1, 3, int(frames.shape[2]), -1, 3))

    shapes = params_lib.shapes(tiny_config, Fixed())
    flat = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    path, params = tmp_path / "fixed.edvr", params_lib.unflatten(flat)
    with refused("Fixed()", "cannot be exported"):
        edvr_jax.export.save(
            path, tiny_config, params, model=Fixed(), platforms=["cpu"]
        )
    assert not path.exists()


def test_weights_know_their_module(tiny_config, params, file):
    config, found = edvr_jax.load_weights(file, model=Plain())
    assert config == tiny_config
    jax.tree.map(np.testing.assert_array_equal, found, params)
    with safetensors.safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
    assert metadata["config_type"] == "ModelConfig"
    fields = {**dataclasses.asdict(tiny_config), "center_frame_index": None}
    assert json.loads(metadata["config"]) == fields
    assert metadata["model"] == weights.read_metadata(file).model == "Plain()"
    with refused(file, "a module of your own", "Plain()", "model="):
        edvr_jax.load_weights(file)
    with refused(file, "missing: conv_first", "unexpected: Conv_0/bias"):
        replaced = edvr_jax.create_model(tiny_config, pcd_align=CenterAlignment())
        edvr_jax.load_weights(file, model=replaced)
    with refused("params", "Conv_0/kernel is 3x3x9x48 instead of 5x5x9x48"):
        edvr_jax.save_weights(file, config, params, model=Plain(kernel=5), **ABOUT)


def test_the_network_itself_is_no_module_of_ones_own(
    tiny_config, random_params, tmp_path
):
    path, params = tmp_path / "a.safetensors", random_params(tiny_config)
    model = edvr_jax.create_model(tiny_config)
    edvr_jax.save_weights(path, tiny_config, params, model=model, **ABOUT)
    assert weights.read_metadata(path).model == ""
    edvr_jax.load_weights(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("restore", "{clip}", "{out}", "--weights", "{file}"),
        ("eval", "--gt", "{clip}", "--weights", "{file}"),
        ("export", "{file}", "{out}"),
        ("convert", "{file}", "{out}.safetensors"),
    ],
)
def test_commands_name_the_module(clips, file, tmp_path, capsys, arguments):
    places = {"clip": clips / "val", "out": tmp_path / "out", "file": file}
    assert cli.main([argument.format(**places) for argument in arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    check_message(line, file, "a module of your own", "Plain()")
    assert not list(tmp_path.iterdir())


def test_info_counts_its_parameters(file, capsys):
    assert cli.main(["info", str(file)]) == 0
    out = capsys.readouterr().out
    assert "Plain(), of your own" in out
    assert f"{3 * 3 * 9 * 48 + 48:,}" in out


def test_evaluation_with_metrics_of_ones_own(tiny_config, params, fixtures):
    truth = list(np.load(fixtures / "psnr_ssim.npz")["a_rgb"][:, :48, :64])
    clip, protocol = EvalClip("clip", truth), Protocol(crop_border=2)

    def darkest(restored, truth):
        assert restored.shape == truth.shape == (44, 60, 3)
        assert restored.dtype == truth.dtype == np.uint8
        return restored.min()

    options = {"protocol": protocol, "model": Plain()}
    (scores,) = evaluator.evaluate(
        tiny_config, params, [clip], metrics={"darkest": darkest}, **options
    )
    lq = [protocol.degrade(frame, 4) for frame in truth]
    images = edvr_jax.restore_frames(tiny_config, params, lq, model=Plain())
    images = [pixels.to_uint8(image) for image in images]
    for index, image in enumerate(images):
        found = scores.frames["model"][index]
        assert found["darkest"] == image[2:-2, 2:-2].min()
        assert found["psnr_y"] == metrics.psnr(
            truth[index], image, channel="y", crop_border=2
        )
    assert scores.mean("bicubic").keys() == found.keys()
    report = evaluator.report([scores], {})
    assert report["mean"]["model"]["darkest"] == scores.mean("model")["darkest"]
    evaluate = functools.partial(evaluator.evaluate, tiny_config, params, [clip])
    for own, facts in (
        ({"psnr_y": darkest}, ("psnr_y", "another score")),
        ({"a b": darkest}, ("'a b'",)),
        ({"darkest": 3}, ("darkest", "function")),
        ({"darkest": lambda a, b: a}, ("darkest", "number", "ndarray")),
    ):
        with refused(*facts):
            list(evaluate(metrics=own, **options))


def test_restoring_by_what_is_no_network_is_one_line(tiny_config, frames):
    with refused("Wrong"):
        edvr_jax.restore_frames(tiny_config, {}, frames, model=Wrong)
