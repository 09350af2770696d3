"""tools/train_family.py: the chain of a network within a budget, and again."""

import json
import subprocess
import sys

import pytest

from edvr_jax import load_weights
from tests.training import ROOT


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_as_users_do")
def test_family_is_trained_within_a_budget_and_left_alone_when_done(clips, tmp_path):
    """The shipped network's chain on small crops: three phases, then nothing to do."""
    settings = (
        "--data.val-clips val --data.gt-crop 32 --data.gt-downscale 1 "
        "--eval.frames-per-clip 1"
    )
    command = [
        *(sys.executable, str(ROOT / "tools" / "train_family.py")),
        *("--data", str(clips), "--runs", str(tmp_path), "--only", "edvr_s_x4"),
        f"--settings={settings}",
    ]
    budget = subprocess.run(
        [*command, "--budget-minutes", "0.1"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "phase 3 of 3: deep" in budget.stdout
    config, _ = load_weights(tmp_path / "edvr_s_x4.safetensors")
    assert config.scale == 4
    for phase in ("align", "all", "deep"):
        written = json.loads(
            (tmp_path / "edvr_s_x4" / phase / "config.json").read_text()
        )
        steps = written["total_steps"]
        assert steps >= 60
        assert written["optim"]["period_steps"] == [steps]


def test_second_stage_needs_the_first_one(clips, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "tools" / "train_family.py")),
            *("--data", str(clips), "--runs", str(tmp_path)),
            *("--only", "edvr_s_deblur_stage2"),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.endswith(
        "edvr_s_deblur.safetensors: train edvr_s_deblur first\n"
    )
