r"""EDVR-M, x3 super-resolution on REDS.

    python train.py --config configs/edvr_m_x3_reds.py --data REDS \
        --workdir runs/edvr_m_x3 --chain

As edvr_m_x2_reds.py: the input is made from the sharp frames while training, without
TSA and then with it. dataset="reds", see docs/data.md.

Hardware, time: as for edvr_m_x4_reds.py.
Expected: nothing is published. Not trained here.

Sources: those of edvr_m_x4_reds.py; scale, crop and validation are ours.
"""

import dataclasses

import edvr_m_x2_reds
import edvr_m_x4_reds

from edvr_jax.config import Config, Phase


def get_config() -> Config:
    """Return the experiment."""
    return edvr_m_x2_reds.at_scale(edvr_m_x4_reds.get_config(), scale=3)


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return tuple(
        dataclasses.replace(
            phase, config=edvr_m_x2_reds.at_scale(phase.config, scale=3)
        )
        for phase in edvr_m_x4_reds.get_chain()
    )
