r"""PreDeblur on its own, for EDVR-L on REDS with blurred input of full size.

    python train.py --config configs/predeblur_deblur_reds.py --data REDS \
        --workdir runs/predeblur_deblur

As predeblur_x4_blur_reds.py on track deblur; edvr_l_deblur_reds.py starts from it.
dataset="reds", archives sharp and blur (docs/data.md).

Hardware, time: as for predeblur_x4_blur_reds.py.
Expected: nothing is published. Not trained here.

Sources: EDVR issues 66 and 87 for the idea; the hyper-parameters are ours, see
predeblur_x4_blur_reds.py.
"""

import predeblur_x4_blur_reds

from edvr_jax.config import Config


def get_config() -> Config:
    """Return the experiment."""
    return predeblur_x4_blur_reds.get_track_config("deblur")
