"""Offsets that explode: training is lost without the guard, and not with it."""

import dataclasses

import pytest

from edvr_jax import load_weights
from edvr_jax.config import Config, DataConfig, EvalConfig, GuardConfig, OptimConfig
from tests.training import read_log, run


@pytest.fixture(scope="module")
def scores(clips, tmp_path_factory):
    """Function from a guard to the log of the shipped network, trained on."""
    model, _ = load_weights("edvr_s_x4")
    config = Config(
        model=model,
        data=DataConfig(
            val_clips=("val",), gt_crop=64, batch_size=2, camera_motion=0.5
        ),
        optim=OptimConfig(
            peak_lr=1e-4,
            period_steps=(400,),
            restart_weights=(1.0,),
            ema_decay=0.9,
            offset_lr_multiplier=3e3,  # 3000 times too high
        ),
        eval=EvalConfig(every_steps=30, frames_per_clip=2),
        total_steps=60,
        log_every_steps=10,
        checkpoint_every_steps=30,
    )

    def train(guard):
        workdir = tmp_path_factory.mktemp("runs") / "run"
        config_with = dataclasses.replace(config, guard=guard)
        run(config_with, clips, workdir, init=("edvr_s_x4",))
        return read_log(workdir)

    return train


def largest_mean(record):
    return max(v for key, v in record.items() if key.startswith("offset_mean"))


@pytest.mark.slow
def test_guard_saves_a_run_whose_offsets_explode(scores):
    lost = scores(GuardConfig(enabled=False))
    # Measured 32 pixels of a 16 x 16 grid, and 24.47 dB where bicubic has 24.98.
    assert largest_mean(lost[-2]) > 16
    assert lost[-1]["psnr_y"] < lost[-1]["psnr_y_bicubic"]
    saved = scores(GuardConfig(max_offset_mean=10, patience=5, lr_factor=0.03))
    # Measured 0.56 pixels and 26.47 dB, after one return.
    assert largest_mean(saved[-2]) < 2
    assert saved[-1]["psnr_y"] > saved[-1]["psnr_y_bicubic"] + 1
    assert [r for r in saved if "event" in r]
