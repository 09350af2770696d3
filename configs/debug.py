"""Tiny network for trying things out: less than a minute on a CPU.

python train.py --config configs/debug.py --data CLIPS --workdir runs/debug
"""

from edvr_jax.config import Config, DataConfig, EvalConfig, ModelConfig, OptimConfig


def get_config() -> Config:
    """Return the experiment."""
    return Config(
        model=ModelConfig(
            num_features=8,
            num_frames=3,
            deformable_groups=2,
            num_extract_blocks=1,
            num_reconstruct_blocks=1,
        ),
        data=DataConfig(
            dataset="folder_of_clips", gt_crop=64, batch_size=4, max_frames_per_clip=20
        ),
        optim=OptimConfig(
            peak_lr=2e-3, period_steps=(60,), restart_weights=(1.0,), ema_decay=0.9
        ),
        eval=EvalConfig(every_steps=30, frames_per_clip=2),
        total_steps=60,
        log_every_steps=10,
        checkpoint_every_steps=30,
    )
