"""EDVR-S, x2 super-resolution of compressed video from the web and from phones.

    python train.py --config configs/edvr_s_x2_web.py --data CLIPS --workdir RUN --chain

CLIPS as for ``edvr_s_x4.py``. The degraded windows are blurred, resampled, noisy and
compressed at random (``data/web.py``). The network starts from the parts of
``edvr_s_x4`` that fit a scale of 2: all but the upsampling. Scores: docs/weights.md,
which also reports a trial with a deeper reconstruction.

Sources: those of ``edvr_s_x4.py``; the ranges of the degradation are ours.
"""

import dataclasses

import edvr_s_x4

from edvr_jax.config import (
    Config,
    DegradeConfig,
    FidelityConfig,
    InitConfig,
    OptimConfig,
    Phase,
)

PERIOD_STEPS = (12_000, 24_000)

# What the networks of scale 2 and 4 have in common.
SHARED = tuple(part for part in edvr_s_x4.PARTS if not part.startswith("upconv"))


def get_config() -> Config:
    """Return the experiment."""
    config = edvr_s_x4.get_whole_config()
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, scale=2),
        data=dataclasses.replace(
            config.data,
            dataset="folder_of_clips",
            gt_crop=96,
            degrade=DegradeConfig(track="web"),
        ),
        optim=OptimConfig(
            peak_lr=4e-4,
            period_steps=PERIOD_STEPS,
            restart_weights=(1.0, 0.7),
            fidelity=FidelityConfig(weight=150.0, decay_periods=1, tolerance=0.1),
        ),
        init=InitConfig(),
        total_steps=sum(PERIOD_STEPS),
    )


def get_chain() -> tuple[Phase, ...]:
    """Return the only phase, and what it starts from."""
    return (Phase("all", get_config(), init=edvr_s_x4.take("edvr_s_x4", SHARED)),)
