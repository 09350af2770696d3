r"""EDVR-L, x4 super-resolution of blurred frames on REDS.

    python train.py --config configs/edvr_l_x4_blur_reds.py --data REDS \
        --workdir runs/edvr_l_x4_blur --chain

The chain trains PreDeblur on its own, starts EDVR-L's PreDeblur from it, and goes on
as edvr_l_x4_reds.py: 10 blocks, 40 blocks, TSA. dataset="reds", archives sharp and
blur_bicubic (docs/data.md).

Hardware: 8 GPUs with 4 windows each (an early BasicSR, see below); no time is
published.
Expected on REDS4, RGB: 28.88 dB / 0.8361 (BasicSR's ModelZoo, the authors' weights).
Not trained here.

Sources: the authors trained the blur tracks nearly as super-resolution, with PreDeblur
pretrained (EDVR issue 87); periods and weights are those of BasicSR's L files. The
learning rate without TSA is that of PaddleGAN's edvr_l_blur_wo_tsa.yaml, also of the
single run of train_EDVRL_SRblur.yml in an early BasicSR (1e4dd7e5); with TSA that of
PaddleGAN's edvr_l_blur_w_tsa.yaml. PaddleGAN's are for deblurring. The lengths of the
first two phases are ours.
"""

import dataclasses

import edvr_l_x4_reds
import predeblur_x4_blur_reds

from edvr_jax.config import Config, Phase, Track


def get_track_chain(track: Track) -> tuple[Phase, ...]:
    """Return the runs from nothing to EDVR-L on a track with motion blur."""
    shallow, wotsa, tsa = (
        dataclasses.replace(
            phase, config=predeblur_x4_blur_reds.on_track(phase.config, track)
        )
        for phase in edvr_l_x4_reds.get_chain()
    )
    return (
        Phase("pretrain", predeblur_x4_blur_reds.get_track_config(track)),
        dataclasses.replace(
            shallow, config=_slower(shallow.config), init=("predeblur=pretrain",)
        ),
        dataclasses.replace(wotsa, config=_slower(wotsa.config)),
        tsa,
    )


def _slower(config: Config) -> Config:
    optim = dataclasses.replace(config.optim, peak_lr=2e-4)  # PaddleGAN
    return dataclasses.replace(config, optim=optim)


def get_config() -> Config:
    """Return the experiment."""
    return get_chain()[-1].config


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return get_track_chain("sr_blur")
