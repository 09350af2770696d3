r"""Second stage after EDVR-L, deblurring of compressed frames on REDS.

    python train.py --config configs/edvr_l_stage2_deblur_comp_reds.py --data REDS \
        --workdir runs/edvr_l_stage2_deblur_comp --chain

The chain is that of edvr_l_deblur_comp_reds.py, then the training of
edvr_l_stage2_x4_reds.py. dataset="reds", archives sharp and blur_comp (docs/data.md).

Hardware, time: none is published.
Expected: BasicSR's ModelZoo has the row without a number. Not trained here.

Sources: those of edvr_l_stage2_x4_reds.py and edvr_l_deblur_comp_reds.py.
"""

import edvr_l_deblur_comp_reds
import edvr_l_stage2_x4_reds

from edvr_jax.config import Config, Phase


def get_config() -> Config:
    """Return the experiment."""
    return get_chain()[-1].config


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return edvr_l_stage2_x4_reds.add_stage2(edvr_l_deblur_comp_reds.get_chain())
