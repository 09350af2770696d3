"""The whole loop on tiny clips: learns, resumes to the bit, refuses, exports."""

import dataclasses
import functools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from edvr_jax import load_weights, save_weights, trainer
from edvr_jax.config import Config, DataConfig, EvalConfig, OptimConfig
from edvr_jax.errors import InputError

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def config(tiny_config):
    """Six steps. Runs that differ from it share its compiled step, hence its optim."""
    return Config(
        model=tiny_config,
        data=DataConfig(
            val_clips=("val",), gt_crop=32, batch_size=4, camera_motion=0.5
        ),
        optim=OptimConfig(
            peak_lr=4e-3, period_steps=(150,), restart_weights=(1.0,), ema_decay=0.9
        ),
        eval=EvalConfig(every_steps=3, frames_per_clip=2),
        total_steps=6,
        log_every_steps=1,
        checkpoint_every_steps=4,
    )


@pytest.fixture(scope="module")
def clips(fixtures, tmp_path_factory):
    """Clips that pan over a real frame; ``val`` shows the other frame."""
    folder = tmp_path_factory.mktemp("clips")
    frames = np.load(fixtures / "psnr_ssim.npz")["a_rgb"][..., ::-1]
    for name, frame in (("train", frames[0]), ("val", frames[1])):
        (folder / name).mkdir()
        for i in range(6):
            crop = np.ascontiguousarray(frame[2 * i : 2 * i + 64, 3 * i : 3 * i + 96])
            cv2.imwrite(str(folder / name / f"{i}.png"), crop)
    return folder


def run(config, clips, workdir, *, stop_at=None, **options):
    """Train; ``stop_at`` sends SIGTERM when that step is logged."""
    lines = []

    def log(line):
        lines.append(line)
        if stop_at is not None and line.startswith(f"step {stop_at}/"):
            signal.raise_signal(signal.SIGTERM)

    state = trainer.train(config, data=clips, workdir=workdir, log=log, **options)
    return state, lines


def read_log(workdir):
    lines = (workdir / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def undisturbed(config, clips, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, *run(config, clips, workdir)


def test_log_and_files(undisturbed):
    workdir, state, lines = undisturbed
    assert int(state.step) == 6
    assert any("min to go" in line for line in lines)
    records = read_log(workdir)
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4, 5, 6]
    scores = [r for r in records if "psnr_y" in r]
    assert [r["step"] for r in scores] == [3, 6]
    assert scores[0]["psnr_y_bicubic"] == scores[1]["psnr_y_bicubic"] > 15
    steps = {p.name for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()}
    assert steps == {"4", "6"}
    data = json.loads((workdir / "checkpoints" / "6" / "data" / "metadata").read_text())
    assert data == {"windows": 24}


def test_exported_weights_are_the_average(config, undisturbed):
    workdir, state, _ = undisturbed
    found, params = load_weights(workdir / "ema.safetensors")
    assert found == config.model
    jax.tree.map(np.testing.assert_array_equal, params, dict(state.ema_params))
    leaves = zip(*map(jax.tree.leaves, (state.params, state.ema_params)), strict=True)
    assert any((a != b).any() for a, b in leaves)


def test_six_steps_equal_three_interrupted_and_three_resumed(
    config, clips, undisturbed, tmp_path
):
    with pytest.raises(KeyboardInterrupt):
        run(config, clips, tmp_path / "run", stop_at=3)
    state, lines = run(config, clips, tmp_path / "run")
    assert "resumed at step 3" in lines
    jax.tree.map(np.testing.assert_array_equal, state, undisturbed[1])


def test_finished_run_is_left_as_it_is(config, clips, undisturbed):
    workdir, state, _ = undisturbed
    again, lines = run(config, clips, workdir)
    assert "resumed at step 6" in lines
    jax.tree.map(np.testing.assert_array_equal, again, state)


@pytest.fixture(scope="module")
def long_config(config):
    every_steps = dataclasses.replace(config.eval, every_steps=20)
    return dataclasses.replace(
        config, total_steps=40, checkpoint_every_steps=5, eval=every_steps
    )


@pytest.fixture(scope="module")
def long_run(long_config, clips, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "long"
    return workdir, *run(long_config, clips, workdir)


def test_loss_falls(long_run):
    records = read_log(long_run[0])
    losses = [r["loss"] for r in records if "loss" in r]
    # Measured 0.65, CPU; one seed, so it does not vary.
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert records[-1]["psnr_y"] > records[-1]["psnr_y_bicubic"] - 1


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="two processes do not share an accelerator"
)
def test_run_killed_at_any_moment_ends_with_the_same_bits(
    long_config, clips, long_run, tmp_path
):
    config_file, workdir = tmp_path / "config.py", tmp_path / "run"
    config_file.write_text(
        "from edvr_jax.config import *\n\n\n"
        f"def get_config():\n    return {long_config!r}\n"
    )
    options = {"config": config_file, "data": clips, "workdir": workdir}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen([sys.executable, "train.py", *arguments], cwd=ROOT)
    try:
        wait_until((workdir / "checkpoints" / "5").exists, process)
        num_lines = random.randint(6, 20)
        wait_until(lambda: len(read_log(workdir)) >= num_lines, process)
        # Somewhere in a step, and perhaps while a checkpoint is written.
        time.sleep(random.uniform(0, 0.3))
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    state, lines = run(long_config, clips, workdir)
    assert any(line.startswith("resumed at step ") for line in lines)
    jax.tree.map(np.testing.assert_array_equal, state, long_run[1])


def wait_until(condition, process):
    give_up = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, "the process has ended by itself"
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_other_settings_need_consent(config, clips, undisturbed, tmp_path):
    workdir = undisturbed[0]
    changed = dataclasses.replace(config, seed=1)
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        run(changed, clips, workdir)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="not empty and holds no run"):
        run(config, clips, tmp_path)


def test_run_starts_from_given_weights(config, clips, undisturbed, tmp_path):
    workdir, given, _ = undisturbed
    other = dataclasses.replace(config, seed=1, total_steps=1)
    init = str(workdir / "ema.safetensors")
    state, _ = run(other, clips, tmp_path / "run", init=init)
    # Adam's first step moves by the learning rate at most, its average by a tenth.
    for tree, factor in ((state.params, 1), (state.ema_params, 0.1)):
        atol = 1.001 * factor * config.optim.peak_lr
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=atol)
        jax.tree.map(close, tree, given.ema_params)
    with pytest.raises(InputError, match="another network"):
        run(config, clips, tmp_path / "other", init="edvr_s_x4")


def test_another_network_is_refused_even_with_consent(config, clips, undisturbed):
    model = dataclasses.replace(config.model, with_tsa=False)
    changed = dataclasses.replace(config, model=model)
    with pytest.raises(InputError, match=r"another network \(model.with_tsa"):
        run(changed, clips, undisturbed[0], accept_changes=True)


def test_a_start_that_failed_can_be_corrected(config, clips, tmp_path):
    data = dataclasses.replace(config.data, gt_crop=96)
    with pytest.raises(InputError, match="smaller than data"):
        run(dataclasses.replace(config, data=data), clips, tmp_path / "run")
    data = dataclasses.replace(config.data, val_clips=("nobody",))
    with pytest.raises(InputError, match="no clip named nobody"):
        run(dataclasses.replace(config, data=data), clips, tmp_path / "run")


def test_short_validation_clip_is_named(config, clips, tmp_path):
    shutil.copytree(clips, tmp_path / "clips")
    for i in range(2, 6):
        (tmp_path / "clips" / "val" / f"{i}.png").unlink()
    with pytest.raises(InputError, match="val: 2 frames, but a window needs 3"):
        run(config, tmp_path / "clips", tmp_path / "run")


def test_what_cannot_be_trained_is_refused(config, clips, tmp_path):
    model = dataclasses.replace(config.model, in_channels=4)
    with pytest.raises(InputError, match="RGB"):
        run(dataclasses.replace(config, model=model), clips, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    data = dataclasses.replace(config.data, dataset="vid4")
    for clip in ("calendar", "city", "foliage", "walk"):
        shutil.copytree(clips / "val", tmp_path / "GT" / clip)
    with pytest.raises(InputError, match="6 frames instead of 41"):
        run(dataclasses.replace(config, data=data), tmp_path, tmp_path / "run")


def test_checkpoint_of_another_version_is_refused(config, clips, undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6" / "data")
    with pytest.raises(InputError, match=r"6: this checkpoint was written by"):
        run(config, clips, tmp_path / "run")


def test_loss_that_is_not_finite_stops_before_the_checkpoint(
    config, clips, random_params, tmp_path
):
    params = random_params(config.model, scale=1e6)
    init = str(tmp_path / "huge.safetensors")
    save_weights(init, config.model, params, origin="", license="")
    config = dataclasses.replace(config, log_every_steps=6)
    with pytest.raises(FloatingPointError, match="near step 3"):
        run(config, clips, tmp_path / "run", init=init)
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))
