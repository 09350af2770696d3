r"""EDVR-M, x2 super-resolution on REDS.

    python train.py --config configs/edvr_m_x2_reds.py --data REDS \
        --workdir runs/edvr_m_x2 --chain

The chain is that of edvr_m_x4_reds.py: without TSA, then with it. There is no
published input at this scale, so it is made from the sharp frames while training
(MATLAB bicubic); of REDS only the sharp archives are needed. dataset="reds", see
docs/data.md. Validation takes crops of REDS4.

Hardware, time: as for edvr_m_x4_reds.py, to whose windows of 64x64 the crop
corresponds.
Expected: nothing is published. Not trained here.

Sources: those of edvr_m_x4_reds.py; scale, crop and validation are ours.
"""

import dataclasses

import edvr_m_x4_reds

from edvr_jax.config import REDS4, Config, EvalConfig, Phase


def at_scale(config: Config, scale: int) -> Config:
    """Train an x4 REDS experiment for another scale."""
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, scale=scale),
        data=dataclasses.replace(
            config.data,
            lq="made",
            val_clips=REDS4,
            gt_crop=64 * scale,  # 64 is x4's degraded crop, so a step costs the same
        ),
        eval=EvalConfig(every_steps=5_000, protocol=None, frames_per_clip=10),
    )


def get_config() -> Config:
    """Return the experiment."""
    return at_scale(edvr_m_x4_reds.get_config(), scale=2)


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return tuple(
        dataclasses.replace(phase, config=at_scale(phase.config, scale=2))
        for phase in edvr_m_x4_reds.get_chain()
    )
