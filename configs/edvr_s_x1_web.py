"""EDVR-S, the same size: removes the artifacts of compression.

    python train.py --config configs/edvr_s_x1_web.py --data CLIPS --workdir RUN --chain

CLIPS as for ``edvr_s_x4.py``. The network is that of ``edvr_s_deblur.py``, and starts
from its weights. Windows are compressed by H.264, H.265 or VP9 at random quality, some
after a little noise (``data/web.py``); nothing is blurred. A short trial:
docs/weights.md.

Sources: those of ``edvr_s_deblur.py``; the ranges of the degradation are ours.
"""

import dataclasses

import edvr_s_deblur

from edvr_jax.config import Config, DegradeConfig, InitConfig, Phase, WebConfig

STEPS = 6_000


def get_config() -> Config:
    """Return the experiment."""
    config = edvr_s_deblur.get_config()
    degraded = WebConfig(
        clean=0.05, blur_sigma=(0.0, 0.0), max_noise_sigma=3.0, crf=(18.0, 38.0)
    )
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data,
            dataset="folder_of_clips",
            degrade=DegradeConfig(track="web", web=degraded),
            more_downscales=(3,),
            camera_motion=0.6,
        ),
        optim=dataclasses.replace(
            config.optim,
            period_steps=(STEPS,),
            restart_weights=(1.0,),
            ema_decay=0.998,
            charbonnier_eps=1e-4,
        ),
        init=InitConfig(),
        eval=dataclasses.replace(config.eval, every_steps=500),
        total_steps=STEPS,
    )


def get_chain() -> tuple[Phase, ...]:
    """Return the only phase, and what it starts from."""
    return (Phase("all", get_config(), init=("edvr_s_deblur",)),)
