r"""Second stage after EDVR-L, x4 super-resolution of blurred frames on REDS.

    python train.py --config configs/edvr_l_stage2_x4_blur_reds.py --data REDS \
        --workdir runs/edvr_l_stage2_x4_blur --chain

The chain is that of edvr_l_x4_blur_reds.py, then the training of
edvr_l_stage2_x4_reds.py. dataset="reds", archives sharp and blur_bicubic
(docs/data.md).

Hardware, time: none is published.
Expected: BasicSR's ModelZoo has the row without a number. Not trained here.

Sources: those of edvr_l_stage2_x4_reds.py and edvr_l_x4_blur_reds.py.
"""

import edvr_l_stage2_x4_reds
import edvr_l_x4_blur_reds

from edvr_jax.config import Config, Phase


def get_config() -> Config:
    """Return the experiment."""
    return get_chain()[-1].config


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return edvr_l_stage2_x4_reds.add_stage2(edvr_l_x4_blur_reds.get_chain())
