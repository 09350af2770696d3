"""Weights from and to the Hugging Face Hub, by a stand-in on loopback."""

import dataclasses
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import edvr_jax
from edvr_jax import cli, weights
from edvr_jax import config as config_lib
from edvr_jax.config import CascadeConfig, Config, DataConfig, ModelConfig
from edvr_jax.models import params as params_lib
from edvr_jax.weights import card, hub, runs
from tests.hub_server import serve
from tests.messages import check_message, refused
from tests.videos import moving_bars, write_video

huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs the extra hub")
constants = pytest.importorskip("huggingface_hub.constants")
utils = pytest.importorskip("huggingface_hub.utils")

CONFIG = ModelConfig(4, 1, 1, 0, 0, with_tsa=False, scale=2)
UPLOAD = "from huggingface_hub.cli.hf import main; main()"


def set_endpoint(patch, url):
    """Do what HF_ENDPOINT does where huggingface_hub is imported later."""
    path = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + path)
    patch.setattr(constants, "ENDPOINT", url)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server, with everything of huggingface_hub pointed to it."""
    with serve() as server, pytest.MonkeyPatch.context() as patch:
        set_endpoint(patch, server.url)
        patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture(scope="module")
def pushed(server, tmp_path_factory, random_params):
    """Weights as convert writes them with their card, uploaded by ``hf upload``."""
    folder = tmp_path_factory.mktemp("pushed")
    params = random_params(CONFIG, scale=0.05)
    origin = "us | REDS"
    weights.save_weights(
        folder / "w.safetensors", CONFIG, params, origin=origin, license="CC0-1.0"
    )
    (folder / "hub").mkdir()
    file = folder / "hub" / hub.DEFAULT_FILE
    command = ["convert", str(folder / "w.safetensors"), str(file), "--card"]
    assert cli.main(command) == 0
    done = subprocess.run(
        [sys.executable, "-c", UPLOAD, "upload", "org/name", str(folder / "hub"), "."],
        env={
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(folder / "home"),
            "HF_TOKEN": "hf_anything",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (commit,) = list(server.repos["org/name"])[1:]
    assert set(server.repos["org/name"][commit]) == {hub.DEFAULT_FILE, "README.md"}
    return SimpleNamespace(folder=folder, params=params, commit=commit)


def same(found, expected):
    found, expected = params_lib.flatten(found), params_lib.flatten(expected)
    return all(np.array_equal(found[key], expected[key]) for key in found | expected)


def test_pull(pushed):
    config, params = edvr_jax.load_weights("hf://org/name")
    assert config == CONFIG
    assert same(params, pushed.params)
    metadata = weights.read_metadata("hf://models/org/name@main/model.safetensors")
    assert (metadata.origin, metadata.license) == ("us | REDS", "CC0-1.0")


def test_commands_take_names_of_the_hub(pushed, tmp_path, capsys):
    write_video(tmp_path / "in.mp4", moving_bars(2, 16, 16))
    clip, name = str(tmp_path / "in.mp4"), "hf://org/name"
    for command in (
        ["info", name],
        ["restore", clip, str(tmp_path / "out.mp4"), "--weights", name],
        ["eval", "--gt", clip, "--weights", name],
        ["convert", name, str(tmp_path / "copy.safetensors")],
        ["export", name, str(tmp_path / "w.edvr"), "--platforms", "cpu"],
    ):
        assert cli.main(command) in (0, None), command
    assert "origin      us | REDS\n" in capsys.readouterr().out
    assert same(edvr_jax.load_weights(tmp_path / "copy.safetensors")[1], pushed.params)


def test_revisions_and_files(server, pushed, tmp_path):
    file = tmp_path / "other.safetensors"
    other = params_lib.unflatten(
        {key: 2 * x for key, x in params_lib.flatten(pushed.params).items()}
    )
    weights.save_weights(file, CONFIG, other, origin="", license="")
    content = file.read_bytes()
    server.repos["org/two"] = {"0" * 40: {}}
    old = server.repos["org/name"][pushed.commit][hub.DEFAULT_FILE]
    first = server.commit("org/two", {hub.DEFAULT_FILE: old})
    server.commit("org/two", {hub.DEFAULT_FILE: content, "a/x2.safetensors": old})
    for name, expected in (
        (f"hf://org/two@{first}", pushed.params),
        ("hf://org/two", other),
        ("hf://org/two/a/x2.safetensors", pushed.params),
    ):
        assert same(edvr_jax.load_weights(name)[1], expected), name


def test_offline_the_copy_of_before_is_used(server, pushed, monkeypatch):
    edvr_jax.load_weights("hf://org/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.requests.clear()
    assert same(edvr_jax.load_weights("hf://org/name")[1], pushed.params)
    with refused("hf://org/new", "cache"):
        edvr_jax.load_weights("hf://org/new")
    assert not server.requests


def test_hub_that_cannot_be_reached(pushed, monkeypatch):
    edvr_jax.load_weights("hf://org/name")
    set_endpoint(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(utils._http.time, "sleep", lambda seconds: None)  # retries
    assert same(edvr_jax.load_weights("hf://org/name")[1], pushed.params)
    with refused("hf://org/new", "cache"):
        edvr_jax.load_weights("hf://org/new")


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("hf://org/none", ["hf://org/none", "no such repository"]),
        ("hf://org/name@v9", ["hf://org/name@v9", "v9"]),
        ("hf://org/name/no.pth", ["hf://org/name/no.pth", "no.pth", hub.DEFAULT_FILE]),
        ("hf://org/name/README.md", ["README.md"]),
        ("hf://name", ["hf://ORG/NAME[@REVISION][/FILE]"]),
        ("hf://", ["hf://ORG/NAME[@REVISION][/FILE]"]),
        ("hf://datasets/org/name", ["hf://datasets/org/name", "dataset"]),
    ],
)
def test_wrong_names_are_one_line(pushed, name, facts, capsys):
    assert cli.main(["info", name]) == 2
    check_message(capsys.readouterr().err, *facts)


def test_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refused("hf://org/name", "pip install 'edvr-jax[hub]'"):
        edvr_jax.load_weights("hf://org/name")


def test_card_is_read_by_the_hubs_own_reader(pushed):
    found = huggingface_hub.ModelCard.load(pushed.folder / "hub" / card.NAME)
    assert found.data.to_dict() == {
        "library_name": "edvr_jax",
        "license": "cc0-1.0",
        "metrics": ["psnr", "ssim"],
        "pipeline_tag": "video-to-video",
        "tags": ["edvr", "jax", "flax", "video-restoration", "video-super-resolution"],
    }
    for text in ('load_weights("hf://ORG/NAME")', r"| us \| REDS |", '"scale": 2'):
        assert text in found.text


@pytest.mark.parametrize(
    ("license", "stated"),
    [
        ("Apache-2.0; the clips have theirs", "apache-2.0"),
        ("ask us", "other"),
        ("not stated", None),
        ("", None),
    ],
)
def test_head_of_other_cards(license, stated):
    same_size = ModelConfig(4, 1, 1, 0, 0, with_tsa=False, scale=1)
    text = card.write_card(
        CascadeConfig(CONFIG, same_size),
        file="x2: new.safetensors",
        license=license,
        dataset="reds",
    )
    data = huggingface_hub.ModelCard(text).data
    assert (data.license, data.datasets) == (stated, ["reds"])
    assert "hf://ORG/NAME/x2: new.safetensors" in text


@pytest.mark.parametrize(
    ("name", "stated"), [("folder_of_clips", ""), ("vimeo90k", "vimeo90k")]
)
def test_dataset_of_a_run(tmp_path, name, stated):
    config = dataclasses.replace(Config(), data=DataConfig(dataset=name))
    (tmp_path / runs.CONFIG).write_text(config_lib.to_json(config))
    assert runs.read_dataset(tmp_path) == stated


def test_card_replaces_nothing(tmp_path, capsys):
    (tmp_path / card.NAME).write_text("mine")
    command = ["convert", "edvr_s_x4", str(tmp_path / hub.DEFAULT_FILE), "--card"]
    assert cli.main(command) == 2
    check_message(capsys.readouterr().err, tmp_path / card.NAME)
    assert [path.name for path in tmp_path.iterdir()] == [card.NAME]
    assert cli.main([*command, "--overwrite"]) == 0
    assert "apache-2.0" in (tmp_path / card.NAME).read_text()
