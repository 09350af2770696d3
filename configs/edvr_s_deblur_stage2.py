"""Second stage after EDVR-S for deblurring: refines what the first one gives.

    python train.py --config configs/edvr_s_deblur_stage2.py --data CLIPS \
        --workdir RUN --chain

CLIPS as for ``edvr_s_x4.py``. The chain is that of ``edvr_s_deblur.py``, then two
phases for the second stage, which is the same network without PreDeblur, since its
input is sharp already. ``stage2_align`` trains its alignment alone, on sharp frames;
everything else starts as the identity. ``stage2`` trains all of it. The first stage is
frozen; it runs in every step on the five frames that a window of three of its outputs
needs.

Sources: those of ``edvr_s_deblur.py``; EDVR (arXiv:1905.02716), section 3.4.
"""

import dataclasses

import edvr_s_deblur

from edvr_jax.config import (
    CascadeConfig,
    Config,
    DegradeConfig,
    InitConfig,
    ModelConfig,
    OptimConfig,
    Phase,
    WebConfig,
)

ALIGN_STEPS = 12_000
PERIOD_STEPS = (4_000,)


def get_config() -> Config:
    """Return the experiment that trains the second stage."""
    config = edvr_s_deblur.get_config()
    assert isinstance(config.model, ModelConfig)
    stage2 = dataclasses.replace(config.model, with_predeblur=False)
    return dataclasses.replace(
        config,
        model=CascadeConfig(stage1=config.model, stage2=stage2),
        data=dataclasses.replace(config.data, dataset="folder_of_clips"),
        optim=OptimConfig(
            peak_lr=1e-4,
            period_steps=PERIOD_STEPS,
            restart_weights=(1.0,),
            ema_decay=0.99,
            charbonnier_eps=1e-3,
            frozen=("stage1",),
            offset_lr_multiplier=0.1,
        ),
        init=InitConfig(),
        total_steps=sum(PERIOD_STEPS),
    )


def _align() -> Config:
    """Sharp frames that a camera moves, offsets alone."""
    config = edvr_s_deblur.get_align_config()
    sharp = DegradeConfig(track="web", web=WebConfig(clean=1.0))
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, with_predeblur=False),
        data=dataclasses.replace(config.data, degrade=sharp),
        optim=dataclasses.replace(config.optim, frozen=(), period_steps=(ALIGN_STEPS,)),
        init=InitConfig(identity=True),
        total_steps=ALIGN_STEPS,
    )


def get_chain() -> tuple[Phase, ...]:
    """Return the phases of the first stage, then those of the second one."""
    init = ("stage1=all", "stage2=stage2_align")
    return (
        *edvr_s_deblur.get_chain(),
        Phase("stage2_align", _align()),
        Phase("stage2", get_config(), init=init),
    )
