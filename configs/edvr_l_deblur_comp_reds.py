r"""EDVR-L, deblurring of compressed frames on REDS.

    python train.py --config configs/edvr_l_deblur_comp_reds.py --data REDS \
        --workdir runs/edvr_l_deblur_comp --chain

The chain of edvr_l_deblur_reds.py on compressed input. dataset="reds", archives sharp
and blur_comp (docs/data.md).

Hardware, time: as for edvr_l_deblur_reds.py.
Expected on REDS4, RGB: 30.24 dB / 0.8567 (BasicSR's ModelZoo, the authors' weights).
Not trained here.

Sources: those of edvr_l_x4_blur_reds.py.
"""

import edvr_l_x4_blur_reds

from edvr_jax.config import Config, Phase


def get_config() -> Config:
    """Return the experiment."""
    return get_chain()[-1].config


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return edvr_l_x4_blur_reds.get_track_chain("deblur_comp")
