"""``edvr train``: what it says before it trains, and what it refuses."""

import json

import pytest

from edvr_jax import cli
from tests.training import ROOT

DEBUG = str(ROOT / "configs" / "debug.py")


def test_dry_run_says_what_a_run_needs(capsys):
    assert cli.main(["train", "--config", DEBUG, "--dry-run", "--seed", "3"]) == 0
    text = capsys.readouterr().out
    settings = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert settings["seed"] == 3
    assert settings["model"]["num_features"] == 8
    assert "run: 99,203 parameters" in text
    assert "G multiply-accumulates, forward, per window" in text
    (memory,) = [line for line in text.splitlines() if "GiB per device" in line]
    # Parameters, average and two moments alone take 1.6 MB; measured 0.02 GiB.
    assert 0.002 < float(memory.split()[1]) < 0.1
    assert "4 devices" in memory


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "x"], "--workdir is missing"),
        (["--workdir", "x"], "--data is missing"),
        (["--data=x", "--workdir=y", "--profile=20:10"], "--profile 20:10: give two"),
        (["--data=x", "--workdir=y", "--chain"], "has no get_chain(); leave out"),
    ],
)
def test_wrong_options_are_one_line(options, message, capsys):
    assert cli.main(["train", "--config", DEBUG, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_wandb_is_an_extra(tmp_path, clips, capsys):
    try:
        import wandb  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("wandb is installed")
    options = f"--config={DEBUG} --data={clips} --workdir={tmp_path / 'run'}"
    options += " --data.gt-crop 32 --wandb project"
    assert cli.main(["train", *options.split()]) == 2
    assert "pip install 'edvr-jax[wandb]'" in capsys.readouterr().err
