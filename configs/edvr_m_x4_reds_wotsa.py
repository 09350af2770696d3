r"""EDVR-M without TSA, x4 super-resolution on REDS: the first of two runs.

    python train.py --config configs/edvr_m_x4_reds_wotsa.py --data REDS \
        --workdir runs/edvr_m_wotsa

REDS is the folder of the unpacked archives, sharp and sharp_bicubic (docs/data.md).
The 266 clips without REDS4 train; REDS4 is restored in full at each validation.

Hardware, time: 8 GPUs with 4 windows each, about 1.5 days (a user's reading of the
official log, EDVR issue 84).
Expected on REDS4, RGB: 30.44 dB / 0.8684 (PaddleGAN's table), 30.34 / 0.8664
(mmagic's). Not trained here.

Source: BasicSR, options/train/EDVR/train_EDVR_M_x4_SR_REDS_woTSA.yml, for every
number here.
"""

from edvr_jax.config import (
    Config,
    DataConfig,
    DegradeConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
)


def get_config() -> Config:
    """Return the experiment; the other REDS experiments are derived from it."""
    return Config(
        model=ModelConfig(
            num_features=64,
            num_frames=5,
            deformable_groups=8,
            num_extract_blocks=5,
            num_reconstruct_blocks=10,
            with_tsa=False,
        ),
        data=DataConfig(
            dataset="reds",
            lq="given",
            degrade=DegradeConfig(track="sr"),
            gt_crop=256,
            batch_size=32,  # 4 on each of 8 GPUs
        ),
        optim=OptimConfig(
            peak_lr=4e-4,
            b1=0.9,
            b2=0.99,
            eta_min=1e-7,
            period_steps=(150_000,) * 4,
            restart_weights=(1.0,) * 4,
            offset_lr_multiplier=1.0,  # dcn_lr_mul
            ema_decay=0.999,
            charbonnier_eps=1e-12,  # default of BasicSR's CharbonnierLoss
        ),
        eval=EvalConfig(every_steps=5_000, protocol="reds4", frames_per_clip=0),
        total_steps=600_000,
        log_every_steps=100,
        checkpoint_every_steps=5_000,
    )
