r"""Second stage after EDVR-L, x4 super-resolution on REDS.

    python train.py --config configs/edvr_l_stage2_x4_reds.py --data REDS \
        --workdir runs/edvr_l_stage2_x4 --chain

The chain is that of edvr_l_x4_reds.py, then this run: a cascade whose first stage is
that network, frozen, and runs on the fly. One step encodes 9 frames of 64x64 and
restores 5 of them by stage 1, for one window of stage 2. With a trained stage 1,
``--init stage1=WEIGHTS`` and no ``--chain``. dataset="reds", see docs/data.md.

Hardware, time: none is published.
Expected: BasicSR's ModelZoo has the row without a number. Not trained here.

Sources: 20 blocks, 128 features, input of the output's size and TSA are the official
test script's, test_Vid4_REDS4_with_GT.py, whose stage 2 keeps PreDeblur on the tracks
with blur. How it was trained is not published: schedule, TSA from the first step and
the frozen first stage are ours.
"""

import dataclasses

import edvr_l_x4_reds

from edvr_jax.config import CascadeConfig, Config, InitConfig, ModelConfig, Phase


def add_stage2(stage1: tuple[Phase, ...]) -> tuple[Phase, ...]:
    """Append the training of a second stage to the chain of the first."""
    last = stage1[-1]
    network = last.config.model
    assert isinstance(network, ModelConfig)
    stage2 = dataclasses.replace(
        network, num_reconstruct_blocks=20, scale=1, hr_in=True
    )
    config = dataclasses.replace(
        last.config,
        model=CascadeConfig(stage1=network, stage2=stage2),
        # Half of the periods of stage 1, from scratch: ours.
        optim=dataclasses.replace(
            last.config.optim,
            period_steps=(150_000,) * 2,
            restart_weights=(1.0, 0.5),
            tsa_warmup_steps=0,
            frozen=("stage1",),
        ),
        init=InitConfig(),
        total_steps=300_000,
    )
    return (*stage1, Phase("stage2", config, init=(f"stage1={last.name}",)))


def get_config() -> Config:
    """Return the experiment."""
    return get_chain()[-1].config


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return add_stage2(edvr_l_x4_reds.get_chain())
