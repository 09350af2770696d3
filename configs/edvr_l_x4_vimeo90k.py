r"""EDVR-L of 7 frames, x4 super-resolution on Vimeo-90K, for Vid4 and Vimeo-90K-T.

    python train.py --config configs/edvr_l_x4_vimeo90k.py --data vimeo_septuplet \
        --eval-data Vid4 --workdir runs/edvr_l_vimeo --chain

The chain is that of edvr_l_x4_reds.py on other data: 10 blocks, 40 blocks, TSA.
dataset="vimeo90k", see docs/data.md and edvr_m_x4_vimeo90k.py.

Hardware, time: as for edvr_l_x4_reds.py, with 7 frames for 5; none is published. One
user's training of the L network on Vimeo-90K did not converge (BasicSR issue 357); the
guard (``guard``) is on.
Expected: Vid4 Y 27.35 dB / 0.8264, RGB 25.83 / 0.8077 (BasicSR's ModelZoo);
Vimeo-90K-T RGB 35.79 / 0.9374 (EDVR issue 112), Y 37.61 / 0.9489 (EvTexture's table).
Not trained here.

Sources: as in edvr_m_x4_vimeo90k.py and edvr_l_x4_reds.py.
"""

import dataclasses

import edvr_l_x4_reds
import edvr_m_x4_vimeo90k

from edvr_jax.config import Config, Phase


def get_config() -> Config:
    """Return the experiment."""
    return edvr_m_x4_vimeo90k.on_vimeo90k(edvr_l_x4_reds.get_config())


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return tuple(
        dataclasses.replace(phase, config=edvr_m_x4_vimeo90k.on_vimeo90k(phase.config))
        for phase in edvr_l_x4_reds.get_chain()
    )
