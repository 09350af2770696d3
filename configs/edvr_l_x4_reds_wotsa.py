r"""EDVR-L without TSA, x4 super-resolution on REDS, deepened from a shallow start.

    python train.py --config configs/edvr_l_x4_reds_wotsa.py --data REDS \
        --workdir runs/edvr_l_wotsa --chain

The chain trains 128 features with 10 reconstruction blocks, then copies those blocks
in turn to fill 40 and trains on. The author's chain (EDVR issue 91) begins with 64
features, but weights of another width have other shapes and cannot be loaded (EDVR
issues 91 and 123), so ours begins at its second link. Without ``--chain`` and
``--init`` the 40 blocks start from scratch, as BasicSR's file does. dataset="reds",
see docs/data.md.

Hardware: 8 GPUs with 4 windows each (BasicSR); no time is published.
Expected on REDS4, RGB: 30.86 dB / 0.8761 (PaddleGAN), 31.00 / 0.8784 (mmagic, batch
64). Not trained here.

Sources: BasicSR, options/train/EDVR/train_EDVR_L_x4_SR_REDS_woTSA.yml, and the order
of the chain from EDVR issue 91. The length of the shallow run is ours.
"""

import dataclasses

import edvr_m_x4_reds_wotsa

from edvr_jax.config import Config, InitConfig, Phase


def get_config() -> Config:
    """Return the experiment."""
    medium = edvr_m_x4_reds_wotsa.get_config()
    return dataclasses.replace(
        medium,
        model=dataclasses.replace(
            medium.model, num_features=128, num_reconstruct_blocks=40
        ),
        # The file's ema_decay 0.999 stands under network_g, where BasicSR cannot use
        # it; meant is the 0.999 of M.
        optim=dataclasses.replace(medium.optim, restart_weights=(1.0, 0.5, 0.5, 0.5)),
        init=InitConfig(grow_depth=True),
    )


def get_shallow_config() -> Config:
    """Return the run that the experiment starts from."""
    deep = get_config()
    return dataclasses.replace(
        deep,
        model=dataclasses.replace(deep.model, num_reconstruct_blocks=10),
        # Half of the periods: ours.
        optim=dataclasses.replace(
            deep.optim, period_steps=(150_000,) * 2, restart_weights=(1.0, 0.5)
        ),
        init=InitConfig(),
        total_steps=300_000,
    )


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return (
        Phase("shallow", get_shallow_config()),
        Phase("wotsa", get_config(), init=("shallow",)),
    )
