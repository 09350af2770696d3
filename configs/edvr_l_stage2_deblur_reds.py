r"""Second stage after EDVR-L, deblurring on REDS.

    python train.py --config configs/edvr_l_stage2_deblur_reds.py --data REDS \
        --workdir runs/edvr_l_stage2_deblur --chain

The chain is that of edvr_l_deblur_reds.py, then the training of
edvr_l_stage2_x4_reds.py. dataset="reds", archives sharp and blur (docs/data.md).

Hardware, time: none is published.
Expected on REDS4, RGB: users quote 36.49 dB (EDVR issue 104) and 36.37 dB (EDVR issue
129) as published, and had 35.71 dB, stage 1 without flip ensemble, and 35.72 dB with
the authors' weights. Not trained here.

Sources: those of edvr_l_stage2_x4_reds.py and edvr_l_deblur_reds.py.
"""

import edvr_l_deblur_reds
import edvr_l_stage2_x4_reds

from edvr_jax.config import Config, Phase


def get_config() -> Config:
    """Return the experiment."""
    return get_chain()[-1].config


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return edvr_l_stage2_x4_reds.add_stage2(edvr_l_deblur_reds.get_chain())
