"""Second stage after EDVR-S for deblurring: refines what the first one gives.

    python train.py --config configs/edvr_s_deblur_stage2.py --data CLIPS \
        --workdir RUN --chain

CLIPS as for ``edvr_s_x4.py``. The chain is that of ``edvr_s_deblur.py``, then the
training of the second stage: the same network, which starts from the weights of the
first one. The first stage is frozen; it runs in every step on the five frames that a
window of three of its outputs needs.

Sources: those of ``edvr_s_deblur.py``; EDVR (arXiv:1905.02716), section 3.4.
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

PERIOD_STEPS = (6_000,)


def get_config() -> Config:
    """Return the experiment."""
    config = edvr_s_deblur.get_config()
    assert isinstance(config.model, ModelConfig)
    return dataclasses.replace(
        config,
        model=CascadeConfig(stage1=config.model, stage2=config.model),
        data=dataclasses.replace(config.data, dataset="folder_of_clips"),
        optim=OptimConfig(
            peak_lr=4e-4,
            period_steps=PERIOD_STEPS,
            restart_weights=(1.0,),
            frozen=("stage1",),
        ),
        init=InitConfig(),
        total_steps=sum(PERIOD_STEPS),
    )


def get_chain() -> tuple[Phase, ...]:
    """Return the phases of the first stage, then the second one."""
    stage2 = Phase("stage2", get_config(), init=("stage1=all", "stage2=all"))
    return (*edvr_s_deblur.get_chain(), stage2)
