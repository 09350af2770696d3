"""The scripts in ``examples/`` run, and docs/own_parts.md shows them as they are."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import edvr_jax
from edvr_jax import cli, weights
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.restore.restorer import Restorer
from examples import own_loop, own_parts, quickstart
from tests.messages import refused
from tests.training import read_log
from tests.videos import moving_bars, write_video

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("name", "page"),
    [("own_parts", "own_parts"), ("own_loop", "own_parts"), ("quickstart",) * 2],
)
def test_documentation_shows_the_script(name, page):
    shown = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    script = (ROOT / "examples" / f"{name}.py").read_text("utf-8")
    assert f"```python\n{script}```\n" in shown


def test_quickstart(tmp_path, random_params):
    config = edvr_jax.ModelConfig(4, 1, 1, 0, 0, with_tsa=False, scale=2)
    file = tmp_path / "w.safetensors"
    params = random_params(config, scale=0.05)
    edvr_jax.save_weights(file, config, params, origin="", license="")
    write_video(tmp_path / "in.mp4", moving_bars(3, 16, 24))
    quickstart.main(tmp_path / "in.mp4", tmp_path / "out.mp4", weights=file)
    clip = open_clip(tmp_path / "out.mp4")
    assert (clip.size, len(list(clip))) == ((32, 48), 3)
    assert clip.fps == open_clip(tmp_path / "in.mp4").fps


def test_own_parts_from_training_to_export(clips, tmp_path, capsys):
    """A short form: two steps, not killed."""
    run = tmp_path / "run"
    own_parts.main(clips, run, num_steps=2)
    (scores,) = (record for record in read_log(run) if "psnr_y" in record)
    assert 0 < scores["mean_error"] < 128
    assert f"mean_error {scores['mean_error']:.4g}" in capsys.readouterr().out
    restored = np.load(run / "restored.npy")
    assert restored.shape == (6, 4 * 64, 4 * 96, 3)
    with refused(run / "ema.safetensors", "EDVR(pcd_align=ConvAlignment"):
        edvr_jax.load_weights(run / "ema.safetensors")

    # The artifact restores the same without the script.
    networks, _ = edvr_jax.export.load(run / "own.edvr")
    frames = Restorer(networks)(open_clip(clips / "val"), dtype="uint8")
    difference = np.stack(list(frames)).astype(int) - restored
    assert abs(difference).max() <= 1  # measured 0, CPU
    command = [
        "restore",
        clips / "val",
        tmp_path / "out",
        "--artifact",
        run / "own.edvr",
    ]
    assert cli.main([str(word) for word in command]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_own_loop(clips, tmp_path, capsys):
    params, losses = own_loop.main(clips, tmp_path / "cache", num_steps=6)
    # Measured 0.18 to 0.06, CPU; windows differ.
    assert all(0 < loss < 1 for loss in losses)
    assert np.isfinite(
        np.concatenate([x.ravel() for x in jax.tree.leaves(params)])
    ).all()
    assert capsys.readouterr().out.count("step ") == 6


@pytest.mark.slow
@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="two processes do not share an accelerator"
)
def test_own_parts_killed_ends_with_the_same_bits(clips, tmp_path):
    """As a command, by SIGKILL, between two checkpoints.

    The checkpoint of step 5 is complete by then: validation takes longer than a save.
    """
    start(clips, tmp_path / "whole").communicate()
    process = start(clips, tmp_path / "run")
    for line in process.stdout:
        if line.startswith("step 13/"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "ema.safetensors").exists()
    again = start(clips, tmp_path / "run")
    out, _ = again.communicate()
    assert again.returncode == 0
    assert "resumed at step" in out
    folders = tmp_path / "run", tmp_path / "whole"
    prints = [weights.fingerprint(weights.read_stored(x).flat) for x in folders]
    assert prints[0] == prints[1]
    frames = [(folder / "restored.npy").read_bytes() for folder in folders]
    assert frames[0] == frames[1]


def start(clips, run):
    return subprocess.Popen(
        [sys.executable, "-u", "examples/own_parts.py", clips, run],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
