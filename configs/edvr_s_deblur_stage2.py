"""Second stage after EDVR-S for deblurring: refines what the first one gives.

    python train.py --config configs/edvr_s_deblur_stage2.py --data CLIPS \
        --workdir RUN --chain

CLIPS as for ``edvr_s_x4.py``. The chain is that of ``edvr_s_deblur.py``, then the
training of the second stage; the first one is frozen and runs in every step. The second
stage is the part of the first one that sees single frames (PreDeblur and the
reconstruction, no alignment), and starts from its weights: neighbors bring the first
stage next to nothing, and without them five times as many windows are seen in the same
time. Scores: docs/weights.md.

Sources: those of ``edvr_s_deblur.py``; EDVR (arXiv:1905.02716), section 3.4, for the
two stages.
"""

import dataclasses

import edvr_s_deblur

from edvr_jax.config import (
    CascadeConfig,
    Config,
    InitConfig,
    ModelConfig,
    OptimConfig,
    Phase,
)

PERIOD_STEPS = (4_000,)


def get_config() -> Config:
    """Return the experiment."""
    config = edvr_s_deblur.get_config()
    assert isinstance(config.model, ModelConfig)
    stage2 = dataclasses.replace(
        config.model, num_frames=1, with_alignment=False, with_tsa=False
    )
    return dataclasses.replace(
        config,
        model=CascadeConfig(stage1=config.model, stage2=stage2),
        data=dataclasses.replace(config.data, dataset="folder_of_clips"),
        optim=OptimConfig(
            peak_lr=1e-3,
            period_steps=PERIOD_STEPS,
            restart_weights=(1.0,),
            ema_decay=0.998,
            frozen=("stage1",),
        ),
        init=InitConfig(identity=True),
        eval=dataclasses.replace(config.eval, every_steps=500),
        total_steps=sum(PERIOD_STEPS),
    )


def get_chain() -> tuple[Phase, ...]:
    """Return the phases of the first stage, then the second one."""
    parts = (*edvr_s_deblur.FEATURES, *edvr_s_deblur.RECONSTRUCTION)
    init = ("stage1=all", *(f"stage2/{part}=all" for part in parts))
    return (*edvr_s_deblur.get_chain(), Phase("stage2", get_config(), init=init))
