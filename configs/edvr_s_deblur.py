"""EDVR-S, deblurring: PreDeblur, alignment and fusion at a quarter of the frame's size.

    python train.py --config configs/edvr_s_deblur.py --data CLIPS --workdir RUN --chain

CLIPS as for ``edvr_s_x4.py``. Motion blur is made from single frames along their
optical flow (``degrade.shutter``), since clips of 25 or 30 frames per second would
leave ghosts if they were averaged; the camera moves.

The chain is that of the recipe, on small sizes: PreDeblur alone, the alignment alone
(as for ``edvr_s_x4.py``), all without TSA, all with TSA. Scores: docs/weights.md.

Sources: those of ``edvr_s_x4.py``; EDVR issues 66 and 87 for the pretraining.
"""

import dataclasses

import edvr_s_x4

from edvr_jax.config import (
    Config,
    DegradeConfig,
    FidelityConfig,
    InitConfig,
    OptimConfig,
    Phase,
)

# What the reconstruction sees; the pyramid's lower levels serve alignment.
FEATURES = ("predeblur", "conv_1x1", *edvr_s_x4.FEATURES[1:])

ALIGN_STEPS = 1_200


def get_config() -> Config:
    """Return the experiment that trains the whole network."""
    return _whole(with_tsa=True, period_steps=(1_500, 2_500))


def _whole(*, with_tsa: bool, period_steps: tuple[int, ...]) -> Config:
    config = edvr_s_x4.get_config()
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model, scale=1, hr_in=True, with_predeblur=True, with_tsa=with_tsa
        ),
        data=dataclasses.replace(
            config.data,
            dataset="folder_of_clips",
            degrade=DegradeConfig(track="deblur", shutter=0.6),
            camera_motion=0.9,
            max_camera_speed=12.0,
        ),
        optim=OptimConfig(
            peak_lr=6e-4,
            period_steps=period_steps,
            restart_weights=(1.0, 0.7)[: len(period_steps)],
            fidelity=FidelityConfig(weight=300.0, decay_periods=1, tolerance=0.1),
        ),
        init=InitConfig(fresh=("fusion",)),
        total_steps=sum(period_steps),
    )


def _pretrain() -> Config:
    """Single frames: PreDeblur with the reconstruction behind it."""
    config = _whole(with_tsa=False, period_steps=(1_500,))
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_frames=1, with_alignment=False),
        data=dataclasses.replace(config.data, synthetic_motion=0.0),
        optim=dataclasses.replace(config.optim, fidelity=FidelityConfig()),
        init=InitConfig(zero=("conv_last",)),
    )


def _align() -> Config:
    """Sharp and blurred frames that a camera moves, offsets alone."""
    config = get_config()
    align = edvr_s_x4.get_align_config()
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, synthetic_motion=1.0, crop_candidates=3),
        optim=dataclasses.replace(
            align.optim, frozen=FEATURES, period_steps=(ALIGN_STEPS,)
        ),
        init=InitConfig(fresh=("fusion",)),
        total_steps=ALIGN_STEPS,
    )


def get_chain() -> tuple[Phase, ...]:
    """Return the phases; the alignment starts from that of ``edvr_s_x4``."""
    features = tuple(f"{name}=pretrain" for name in FEATURES)
    behind = (*(f"reconstruction_{index}" for index in range(5)), "upconv1", "upconv2")
    restored = tuple(f"{name}=pretrain" for name in (*behind, "conv_hr", "conv_last"))
    pyramid = ("conv_l2_1", "conv_l2_2", "conv_l3_1", "conv_l3_2", "pcd_align")
    aligned = tuple(f"{name}=edvr_s_x4" for name in pyramid)
    return (
        Phase("pretrain", _pretrain()),
        Phase("align", _align(), init=(*features, *restored, *aligned)),
        Phase(
            "wotsa",
            _whole(with_tsa=False, period_steps=(800,)),
            init=("align",),
        ),
        Phase("all", get_config(), init=("wotsa",)),
    )
