"""Weights out of the folder of a run: which checkpoint, which tree, and refusals."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edvr_jax import cli, load_weights, weights
from edvr_jax.config import CascadeConfig, Config, OptimConfig, to_json
from edvr_jax.errors import InputError
from edvr_jax.models import params as params_lib
from edvr_jax.train import optim, warm_start
from edvr_jax.train.checkpoint import Checkpoints
from edvr_jax.train.state import initial_state
from edvr_jax.weights import runs


def write_run(folder, config, params, steps, scores=None):
    """Checkpoints whose parameters are step, and whose average is step + 0.5."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(config))
    optimizer = optim.create_optimizer(OptimConfig())
    state = initial_state(jax.tree.map(jnp.asarray, params), optimizer)

    def fill(tree, value):
        return jax.tree.map(lambda x: jnp.full_like(x, value), tree)

    every = dataclasses.replace(config, checkpoint_every_steps=1, keep_checkpoints=9)
    with Checkpoints(folder / "checkpoints", every) as saved:
        for step in steps:
            state = state.replace(
                step=jnp.asarray(step),
                params=fill(state.params, step),
                ema_params=fill(state.params, step + 0.5),
            )
            saved.save(state, {"windows": 0})
            if step in (scores or {}):
                saved.set_score(step, scores[step])
    return folder


@pytest.fixture(scope="module")
def run(tiny_config, random_params, tmp_path_factory):
    """A run with checkpoints of steps 3, 10 and 20; the best one is 10."""
    return write_run(
        tmp_path_factory.mktemp("runs") / "mine",
        Config(model=tiny_config),
        random_params(tiny_config),
        [3, 10, 20],
        {3: 30.0, 10: 31.0},
    )


def value(params):
    """The number that fills all parameters."""
    (number,) = {float(x) for leaf in jax.tree.leaves(params) for x in np.unique(leaf)}
    return number


@pytest.mark.parametrize(
    ("suffix", "expected"), [("", 20.5), ("@best", 10.5), ("@3", 3.5)]
)
def test_folder_stands_for_its_weights(run, tiny_config, suffix, expected):
    config, params = load_weights(f"{run}{suffix}")
    assert config == tiny_config
    assert value(params) == expected
    metadata = weights.read_metadata(f"{run}{suffix}")
    assert metadata.config == config
    assert metadata.origin == f"edvr_jax, run mine, step {int(expected)}, average"


# Looked at as well: convert --step 7 (below); bench, metrics, records and prepare take
# no weights.
COMMANDS = {
    "info": ["{weights}"],
    "convert": ["{weights}", "{tmp}/out.safetensors"],
    "export": ["{weights}", "{tmp}/out.artifact"],
    "restore": ["{clips}/val", "{tmp}/out", "--weights", "{weights}"],
    "eval": ["--gt", "{clips}", "--weights", "{weights}"],
}


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        ("7", "no checkpoint of step 7; there are 3, 10, 20"),
        ("last", "no checkpoint of step last; there are 3, 10, 20"),
        ("", "no checkpoint of step ; there are 3, 10, 20"),
        ("best", "no checkpoint was validated yet; name a step: 3, 10, 20"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_checkpoint_that_is_not_there(
    run, clips, tmp_path, capsys, command, selected, message
):
    folder = tmp_path / "run"
    folder.symlink_to(run)
    if selected == "best":
        folder.unlink()
        shutil.copytree(run, folder)
        (folder / "scores.json").unlink()
    places = {"weights": f"{folder}@{selected}", "clips": clips, "tmp": tmp_path}
    arguments = [argument.format(**places) for argument in COMMANDS[command]]
    assert cli.main([command, *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {folder}: {message}"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("prefix", ["", "fusion="])
def test_init_refuses_a_checkpoint_that_is_not_there(
    run, tiny_config, random_params, prefix
):
    params, config = random_params(tiny_config), Config(model=tiny_config)
    with pytest.raises(InputError, match="mine: no checkpoint of step 7; there are 3,"):
        warm_start.init_from_weights(params, config, (f"{prefix}{run}@7",))


@pytest.mark.parametrize(
    ("options", "expected", "origin"),
    [
        ([], 20.5, "step 20, average"),
        (["--best"], 10.5, "step 10, average"),
        (["--step", "3"], 3.5, "step 3, average"),
        (["--best", "--raw"], 10, "step 10, no average"),
    ],
)
def test_convert_writes_a_file_that_every_command_reads(
    run, tmp_path, options, expected, origin
):
    target = tmp_path / "out.safetensors"
    assert cli.main(["convert", str(run), str(target), *options]) == 0
    _, params = load_weights(target)
    assert value(params) == expected
    assert origin in weights.read_metadata(target).origin
    assert "run mine" in weights.read_metadata(target).origin


def test_info_reads_a_run_and_changes_nothing(run, capsys):
    def files():
        return {p: p.stat().st_mtime_ns for p in run.rglob("*")}

    before = files()
    assert cli.main(["info", str(run)]) == 0
    assert "run mine" in capsys.readouterr().out
    load_weights(str(run))
    assert files() == before


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("{run}@7", [], "no checkpoint of step 7; there are 3, 10, 20"),
        ("{run}", ["--step", "7"], "no checkpoint of step 7; there are 3, 10, 20"),
        ("{run}", ["--step", "3", "--best"], "name one checkpoint"),
        ("{run}@3", ["--best"], "name one checkpoint"),
        ("edvr_s_x4", ["--best"], "--best and --raw are for the folder of a run"),
        ("{tmp}", [], "this folder is no training run"),
        ("{run}/..", [], "mine"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    run, tmp_path, capsys, source, options, message
):
    source = source.format(run=run, tmp=tmp_path)
    target = tmp_path / "out.safetensors"
    assert cli.main(["convert", source, str(target), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not target.exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "missing"])
def test_damaged_checkpoint_is_named_and_others_can_be_read(run, tmp_path, damage):
    """Zero bytes after a power cut, half a file, a file that is gone."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for path in (copy / "checkpoints" / "20" / "state").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
            if damage == "missing":
                path.unlink()
    with pytest.raises(InputError, match=r"checkpoints/20: this checkpoint is damaged"):
        load_weights(str(copy))
    assert value(load_weights(f"{copy}@10")[1]) == 10.5


@pytest.mark.parametrize("content", [b"", b"[]", b'{"3": "x"}', b"\xff"])
def test_damaged_scores_and_settings_are_named(run, tmp_path, content):
    folder = shutil.copytree(run, tmp_path / "copy")
    (folder / "scores.json").write_bytes(content)
    with pytest.raises(InputError, match=r"scores\.json: damaged.*name a step"):
        load_weights(f"{folder}@best")
    load_weights(folder)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json: not the settings"):
        load_weights(folder)


def test_run_that_has_nothing_yet(tiny_config, random_params, tmp_path):
    folder = write_run(tmp_path / "new", Config(model=tiny_config), {}, [])
    with pytest.raises(InputError, match="has no checkpoint yet"):
        load_weights(str(folder))
    assert not (folder / "checkpoints").exists()
    # A finished run without them.
    params = random_params(tiny_config)
    weights.save_weights(
        folder / "ema.safetensors", tiny_config, params, origin="a run", license="mine"
    )
    _, found = load_weights(str(folder))
    np.testing.assert_array_equal(found["conv_hr"]["bias"], params["conv_hr"]["bias"])
    assert weights.read_metadata(str(folder)).origin == "a run"
    with pytest.raises(InputError, match="has no checkpoint yet"):
        load_weights(f"{folder}@best")


def test_checkpoint_deleted_by_the_running_run(run, tmp_path, monkeypatch):
    """Training saved 30 and deleted 20 after we chose it. Also looked at: @best."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    restore = runs._restore

    def train_on(path, tree):
        if path.parent.name == "20":
            path.parent.rename(copy / "checkpoints" / "30")
        return restore(path, tree)

    monkeypatch.setattr(runs, "_restore", train_on)
    _, params, origin = runs.read(copy)
    assert value(params) == 20.5
    assert "step 30, average" in origin
    (copy / "checkpoints" / "30").rename(copy / "checkpoints" / "20")
    with pytest.raises(InputError, match="no checkpoint of step 20; there are 3, 10"):
        runs.read(copy, "20")


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"3": []}'])
def test_damaged_scores_are_one_line(run, tmp_path, damage):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "scores.json").write_text(damage)
    with pytest.raises(InputError, match=r"scores\.json: damaged"):
        load_weights(f"{copy}@best")
    assert value(load_weights(str(copy))[1]) == 20.5


def test_a_name_that_ships_is_that_beside_a_folder(run, tmp_path, monkeypatch):
    """Such as the folder of a run, of its results, or of data."""
    shutil.copytree(run, tmp_path / "edvr_s_x4")
    monkeypatch.chdir(tmp_path)
    assert load_weights("edvr_s_x4")[0].num_features == 32
    assert weights.read_metadata("edvr_s_x4").config.num_features == 32
    assert cli.main(["convert", "edvr_s_x4", "out.safetensors"]) == 0
    assert load_weights("out.safetensors")[0].num_features == 32
    assert value(load_weights("./edvr_s_x4")[1]) == 20.5


def test_cascade_and_settings_of_another_version(tiny_config, random_params, tmp_path):
    """Only the network's settings count, whatever the others are called."""
    stage2 = dataclasses.replace(tiny_config, scale=1)
    config = CascadeConfig(stage1=tiny_config, stage2=stage2)
    folder = write_run(
        tmp_path / "two", Config(model=config), random_params(config), [4]
    )
    fields = json.loads((folder / "config.json").read_text())
    fields["optim"]["an_old_field"] = 1
    (folder / "config.json").write_text(json.dumps(fields))
    found, params = load_weights(str(folder))
    assert found == config
    assert params_lib.count(config) == sum(x.size for x in jax.tree.leaves(params))
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not the settings of a run"):
        load_weights(str(folder))
