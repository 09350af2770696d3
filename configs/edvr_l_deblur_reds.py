r"""EDVR-L, deblurring on REDS.

    python train.py --config configs/edvr_l_deblur_reds.py --data REDS \
        --workdir runs/edvr_l_deblur --chain

The chain of edvr_l_x4_blur_reds.py on frames of full size: PreDeblur alone, 10 blocks,
40 blocks, TSA. dataset="reds", archives sharp and blur (docs/data.md).

Hardware: 4 GPUs with 8 windows each (PaddleGAN); no time is published.
Expected on REDS4, RGB: 34.80 dB / 0.9487 (BasicSR's ModelZoo, the authors' weights),
35.15 / 0.9526 (PaddleGAN, whose configuration pads by reflection_circle). Without the
pretraining of PreDeblur a user had 25.36 dB (EDVR issue 87). Not trained here.

Sources: those of edvr_l_x4_blur_reds.py.
"""

import edvr_l_x4_blur_reds

from edvr_jax.config import Config, Phase


def get_config() -> Config:
    """Return the experiment."""
    return get_chain()[-1].config


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return edvr_l_x4_blur_reds.get_track_chain("deblur")
