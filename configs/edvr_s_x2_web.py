"""EDVR-S, x2 super-resolution of compressed video from the web and from phones.

    python train.py --config configs/edvr_s_x2_web.py --data CLIPS --workdir RUN --chain

CLIPS as for ``edvr_s_x4.py``. The degraded windows are blurred, resampled, noisy and
compressed at random (``data/web.py``). The network starts from the parts of
``edvr_s_x4`` that fit a scale of 2: all but the upsampling. A second phase makes the
reconstruction deeper, as for ``edvr_s_x4``, on stronger compression. Scores:
docs/weights.md.

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
    WebConfig,
)

PERIOD_STEPS = (12_000, 24_000)
DEEP_STEPS = 6_000

# What the networks of scale 2 and 4 have in common.
SHARED = tuple(part for part in edvr_s_x4.PARTS if not part.startswith("upconv"))


def get_config() -> Config:
    """Return the experiment that makes the reconstruction deeper."""
    config = edvr_s_x4.deepen(get_whole_config(), (DEEP_STEPS,))
    degrade = DegradeConfig(track="web", web=WebConfig(crf=(18.0, 38.0)))
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, degrade=degrade)
    )


def get_whole_config() -> Config:
    """Return the experiment that trains the whole network."""
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
    """Return the phases, and what they start from."""
    init = edvr_s_x4.take("edvr_s_x4", SHARED)
    return (
        Phase("all", get_whole_config(), init=init),
        Phase("deep", get_config(), init=edvr_s_x4.take("all", (*SHARED, "upconv1"))),
    )
