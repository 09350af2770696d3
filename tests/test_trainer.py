"""The whole loop on tiny clips: learns, resumes to the bit, refuses, exports."""

import dataclasses
import json
import shutil
import signal

import cv2
import jax
import numpy as np
import pytest

from edvr_jax import load_weights, trainer
from edvr_jax.config import Config, DataConfig, EvalConfig, ModelConfig, OptimConfig
from edvr_jax.errors import InputError

CONFIG = Config(
    model=ModelConfig(
        num_features=8,
        num_frames=3,
        deformable_groups=2,
        num_extract_blocks=1,
        num_reconstruct_blocks=1,
    ),
    data=DataConfig(val_clips=("val",), gt_crop=32, batch_size=4, camera_motion=0.5),
    optim=OptimConfig(
        peak_lr=2e-3, period_steps=(6,), restart_weights=(1.0,), ema_decay=0.5
    ),
    eval=EvalConfig(every_steps=3, frames_per_clip=1),
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


def run(clips, workdir, config=CONFIG, *, stop_at=None, **options):
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
def undisturbed(clips, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, *run(clips, workdir)


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


def test_exported_weights_are_the_average(undisturbed):
    workdir, state, _ = undisturbed
    config, params = load_weights(workdir / "ema.safetensors")
    assert config == CONFIG.model
    jax.tree.map(np.testing.assert_array_equal, params, dict(state.ema_params))
    leaves = zip(*map(jax.tree.leaves, (state.params, state.ema_params)), strict=True)
    assert any((a != b).any() for a, b in leaves)


def test_six_steps_equal_three_interrupted_and_three_resumed(
    clips, undisturbed, tmp_path
):
    with pytest.raises(KeyboardInterrupt):
        run(clips, tmp_path / "run", stop_at=3)
    state, lines = run(clips, tmp_path / "run")
    assert "resumed at step 3" in lines
    jax.tree.map(np.testing.assert_array_equal, state, undisturbed[1])


def test_killed_run_goes_on_from_the_last_periodic_checkpoint(
    clips, undisturbed, tmp_path
):
    workdir, expected, _ = undisturbed
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    state, lines = run(clips, tmp_path / "run")
    assert "resumed at step 4" in lines
    jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_finished_run_is_left_as_it_is(clips, undisturbed):
    workdir, state, _ = undisturbed
    again, lines = run(clips, workdir)
    assert "resumed at step 6" in lines
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_other_settings_need_consent(clips, undisturbed, tmp_path):
    workdir = undisturbed[0]
    changed = dataclasses.replace(CONFIG, seed=1)
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        run(clips, workdir, changed)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(InputError, match="not empty and holds no run"):
        run(clips, tmp_path)


def test_run_starts_from_given_weights(clips, undisturbed, tmp_path):
    workdir, expected, _ = undisturbed
    still = dataclasses.replace(CONFIG.optim, peak_lr=0.0, eta_min=0.0)
    config = dataclasses.replace(CONFIG, optim=still, total_steps=1)
    init = str(workdir / "ema.safetensors")
    state, _ = run(clips, tmp_path / "run", config, init=init)
    for tree in (state.params, state.ema_params):
        jax.tree.map(np.testing.assert_array_equal, tree, expected.ema_params)
    with pytest.raises(InputError, match="another network"):
        run(clips, tmp_path / "other", CONFIG, init="edvr_s_x4")


def test_another_network_is_refused_even_with_consent(clips, undisturbed):
    model = dataclasses.replace(CONFIG.model, with_tsa=False)
    changed = dataclasses.replace(CONFIG, model=model)
    with pytest.raises(InputError, match=r"another network \(model.with_tsa"):
        run(clips, undisturbed[0], changed, accept_changes=True)


def test_a_start_that_failed_can_be_corrected(clips, tmp_path):
    data = dataclasses.replace(CONFIG.data, gt_crop=96)
    with pytest.raises(InputError, match="smaller than data"):
        run(clips, tmp_path / "run", dataclasses.replace(CONFIG, data=data))
    data = dataclasses.replace(CONFIG.data, val_clips=("nobody",))
    with pytest.raises(InputError, match="no clip named nobody"):
        run(clips, tmp_path / "run", dataclasses.replace(CONFIG, data=data))


def test_short_validation_clip_is_named(clips, tmp_path):
    shutil.copytree(clips, tmp_path / "clips")
    for i in range(2, 6):
        (tmp_path / "clips" / "val" / f"{i}.png").unlink()
    with pytest.raises(InputError, match="val: 2 frames, but a window needs 3"):
        run(tmp_path / "clips", tmp_path / "run")


def test_what_cannot_be_trained_is_refused(clips, tmp_path):
    model = dataclasses.replace(CONFIG.model, in_channels=4)
    with pytest.raises(InputError, match="RGB"):
        run(clips, tmp_path / "run", dataclasses.replace(CONFIG, model=model))
    assert not (tmp_path / "run").exists()
    data = dataclasses.replace(CONFIG.data, dataset="vid4")
    for clip in ("calendar", "city", "foliage", "walk"):
        shutil.copytree(clips / "val", tmp_path / "GT" / clip)
    with pytest.raises(InputError, match="6 frames instead of 41"):
        run(tmp_path, tmp_path / "run", dataclasses.replace(CONFIG, data=data))


def test_checkpoint_of_another_version_is_refused(clips, undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6" / "data")
    with pytest.raises(InputError, match=r"6: this checkpoint was written by"):
        run(clips, tmp_path / "run")


def test_loss_that_is_not_finite_stops_before_the_checkpoint(clips, tmp_path):
    optim = dataclasses.replace(CONFIG.optim, peak_lr=1e30)
    config = dataclasses.replace(CONFIG, optim=optim, log_every_steps=6)
    with pytest.raises(FloatingPointError, match="near step 3"):
        run(clips, tmp_path / "run", config)
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))


def test_loss_falls(clips, tmp_path):
    config = dataclasses.replace(
        CONFIG,
        total_steps=150,
        optim=OptimConfig(
            peak_lr=4e-3, period_steps=(150,), restart_weights=(1.0,), ema_decay=0.9
        ),
        eval=EvalConfig(every_steps=150, frames_per_clip=2),
        log_every_steps=25,
        checkpoint_every_steps=150,
    )
    run(clips, tmp_path / "run", config)
    records = read_log(tmp_path / "run")
    losses = [r["loss"] for r in records if "loss" in r]
    # Means of 25 steps. Measured 0.906, CPU; one seed, so it does not vary.
    assert losses[-1] < 0.95 * losses[0]
    assert records[-1]["psnr_y"] > records[-1]["psnr_y_bicubic"] - 1
