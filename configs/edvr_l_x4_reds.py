r"""EDVR-L, x4 super-resolution on REDS.

    python train.py --config configs/edvr_l_x4_reds.py --data REDS \
        --workdir runs/edvr_l --chain

The chain is that of edvr_l_x4_reds_wotsa.py, then this run from its weights: TSA is
new, and in the first 50 000 steps only TSA is trained. dataset="reds", see
docs/data.md.

Hardware: 8 GPUs with 4 windows each (BasicSR); no time is published.
Expected on REDS4, RGB: 31.09 dB / 0.8800 (BasicSR's ModelZoo, the authors' weights),
30.93 / 0.8773 (PaddleGAN), 31.05 / 0.8793 (mmagic, batch 64). Not trained here.

Sources: BasicSR, options/train/EDVR/train_EDVR_L_x4_SR_REDS.yml; EDVR issue 91.
"""

import edvr_l_x4_reds_wotsa
import edvr_m_x4_reds

from edvr_jax.config import Config, Phase


def get_config() -> Config:
    """Return the experiment."""
    return edvr_m_x4_reds.add_tsa(edvr_l_x4_reds_wotsa.get_config())


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return (
        *edvr_l_x4_reds_wotsa.get_chain(),
        Phase("tsa", get_config(), init=("wotsa",)),
    )
