"""Offsets that explode: training is lost without the guard, and not with it."""

import dataclasses

import pytest

from edvr_jax import load_weights
from edvr_jax.config import Config, DataConfig, EvalConfig, GuardConfig, OptimConfig
from edvr_jax.errors import Stopped
from tests.messages import refused
from tests.training import assert_same_bits, read_log, replace, run


@pytest.fixture(scope="module")
def exploding(experiment):
    """Offsets that explode at a rate of the offset convolutions 3000 times too high."""
    return replace(
        experiment,
        optim__offset_lr_multiplier=3e3,
        optim__tsa_warmup_steps=0,
        model__with_tsa=False,
        guard=GuardConfig(max_offset_mean=2.0, patience=2, lr_factor=1e-4),
        eval__every_steps=8,
        total_steps=8,
    )


@pytest.mark.usefixtures("shared_steps")
def test_guard_skips_goes_back_and_lowers_the_rate(exploding, clips, tmp_path):
    state, lines = run(exploding, clips, tmp_path / "run")
    assert int(state.step) == 8
    assert int(state.rollbacks) == 1
    assert sum("updates skipped" in line for line in lines) >= 2
    (event,) = [r for r in read_log(tmp_path / "run") if "event" in r]
    assert "2 bad steps in a row: back to step" in event["event"]
    means = [
        value
        for key, value in read_log(tmp_path / "run")[-2].items()
        if key.startswith("offset_mean")
    ]
    assert 0 < max(means) < 2.0
    # Stopped before and after it went back: the same bits.
    for step in (2, 6):
        with pytest.raises(Stopped):
            run(exploding, clips, tmp_path / "stopped", stop_at=step)
    again, _ = run(exploding, clips, tmp_path / "stopped")
    assert_same_bits(again, state)


@pytest.mark.usefixtures("shared_steps")
def test_guard_gives_up(exploding, clips, tmp_path):
    config = replace(exploding, guard__max_rollbacks=0)
    with refused("max_rollbacks", "0", error=FloatingPointError):
        run(config, clips, tmp_path / "run")


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
@pytest.mark.usefixtures("optimized")
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
