r"""EDVR-M, x4 super-resolution on REDS.

    python train.py --config configs/edvr_m_x4_reds.py --data REDS \
        --workdir runs/edvr_m --chain

The chain is edvr_m_x4_reds_wotsa.py, then this run from its weights: TSA is new, and
in the first 50 000 steps only TSA is trained. Without ``--chain`` this run alone, with
``--init`` for the weights. dataset="reds", see docs/data.md.

Hardware, time: 8 GPUs with 4 windows each; the first run takes about 1.5 days (EDVR
issue 84), for the second no time is published.
Expected on REDS4, RGB: 30.53 dB / 0.8699 (BasicSR's ModelZoo), 30.52 / 0.8699
(PaddleGAN), 30.42 / 0.8684 (mmagic). Not trained here.

Source: BasicSR, options/train/EDVR/train_EDVR_M_x4_SR_REDS.yml.
"""

import dataclasses

import edvr_m_x4_reds_wotsa

from edvr_jax.config import Config, InitConfig, Phase


def add_tsa(config: Config) -> Config:
    """Turn a run without TSA into the run that follows it.

    The periods and the warm-up are those of BasicSR's M and L alike.
    """
    weights = config.optim.restart_weights
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, with_tsa=True),
        optim=dataclasses.replace(
            config.optim,
            period_steps=(50_000, 100_000, 150_000, 150_000, 150_000),
            restart_weights=(*weights, weights[-1]),  # M all 1; L 1, then 0.5
            tsa_warmup_steps=50_000,  # tsa_iter
        ),
        init=InitConfig(fresh=("fusion",)),  # strict_load: false
        total_steps=600_000,
    )


def get_config() -> Config:
    """Return the experiment."""
    return add_tsa(edvr_m_x4_reds_wotsa.get_config())


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return (
        Phase("wotsa", edvr_m_x4_reds_wotsa.get_config()),
        Phase("tsa", get_config(), init=("wotsa",)),
    )
