r"""PreDeblur on its own, for EDVR-L on REDS with blurred x4 input.

    python train.py --config configs/predeblur_x4_blur_reds.py --data REDS \
        --workdir runs/predeblur_x4_blur

A network for single images: the PreDeblur module, then the upsampling and the output
convolutions of EDVR. Its PreDeblur starts the one of edvr_l_x4_blur_reds.py, whose
chain runs this first. dataset="reds", archives sharp and blur_bicubic (docs/data.md).

Hardware: 8 GPUs with 4 windows each serve the runs that follow; one frame per window
is far less work.
Expected: nothing is published. Not trained here.

Sources: that PreDeblur is trained first, in an image network with an output layer,
is the authors' (EDVR issues 66 and 87). They never published its hyper-parameters:
all of those below are ours, and so is letting it enlarge by 4. What it shares with
edvr_m_x4_reds_wotsa.py is BasicSR's for another network.
"""

import dataclasses

import edvr_m_x4_reds_wotsa

from edvr_jax.config import Config, DegradeConfig, ProtocolName, Track

PROTOCOLS: dict[Track, ProtocolName] = {
    "sr_blur": "reds4_blur",
    "deblur": "reds4_deblur",
    "deblur_comp": "reds4_deblur_comp",
}


def on_track(config: Config, track: Track) -> Config:
    """Train a REDS experiment on a track with motion blur, with PreDeblur.

    Deblurring takes frames of the output's size, GT and degraded crops of 256 (EDVR
    issue 123).
    """
    hr_in = track != "sr_blur"
    return dataclasses.replace(
        config,
        # As in the official test script.
        model=dataclasses.replace(
            config.model, with_predeblur=True, hr_in=hr_in, scale=1 if hr_in else 4
        ),
        data=dataclasses.replace(config.data, degrade=DegradeConfig(track=track)),
        eval=dataclasses.replace(config.eval, protocol=PROTOCOLS[track]),
    )


def get_track_config(track: Track) -> Config:
    """Return the PreDeblur experiment of a track."""
    config = edvr_m_x4_reds_wotsa.get_config()
    image_network = dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            num_features=128,  # EDVR-L's: weights of another width do not fit
            num_frames=1,
            num_extract_blocks=0,
            num_reconstruct_blocks=0,
            with_predeblur=True,
            with_alignment=False,
        ),
        # One period, half as long as EDVR's training: ours.
        optim=dataclasses.replace(
            config.optim, period_steps=(300_000,), restart_weights=(1.0,)
        ),
        total_steps=300_000,
    )
    return on_track(image_network, track)


def get_config() -> Config:
    """Return the experiment."""
    return get_track_config("sr_blur")
