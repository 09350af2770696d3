"""EDVR-S, deblurring: PreDeblur, alignment and fusion; three frames, 16 features.

    python train.py --config configs/edvr_s_deblur.py --data CLIPS --workdir RUN --chain

CLIPS as for ``edvr_s_x4.py``. Motion blur is made from single frames along their
optical flow (``degrade.shutter``), since clips of 25 or 30 frames per second would
leave ghosts if they were averaged; the camera moves by up to 8 pixels per frame and
exposes for half of the time.

Features have the frame's size; docs/weights.md reports a trial with ``hr_in``.

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
FEATURES = ("predeblur", "conv_1x1", "feature_extraction_0", "feature_extraction_1")

PRETRAIN_STEPS = 5_000
ALIGN_STEPS = 3_600


def get_config() -> Config:
    """Return the experiment that trains the whole network."""
    return _whole(with_tsa=True, period_steps=(300, 600))


def _whole(*, with_tsa: bool, period_steps: tuple[int, ...]) -> Config:
    config = edvr_s_x4.get_whole_config()
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            num_features=16,
            num_frames=3,
            num_extract_blocks=2,
            scale=1,
            with_predeblur=True,
            with_tsa=with_tsa,
        ),
        data=dataclasses.replace(
            config.data,
            dataset="folder_of_clips",
            degrade=DegradeConfig(track="deblur", shutter=0.5),
            gt_crop=96,
            camera_motion=0.95,
            max_camera_speed=8.0,
        ),
        optim=OptimConfig(
            peak_lr=5e-4,
            period_steps=period_steps,
            restart_weights=(1.0, 0.7)[: len(period_steps)],
            ema_decay=0.99,
            fidelity=FidelityConfig(weight=60.0, decay_periods=1, tolerance=0.1),
        ),
        init=InitConfig(fresh=("fusion",), identity=True),
        eval=dataclasses.replace(config.eval, every_steps=400),
        total_steps=sum(period_steps),
    )


def _pretrain() -> Config:
    """Single frames: PreDeblur with the reconstruction behind it."""
    config = _whole(with_tsa=False, period_steps=(PRETRAIN_STEPS,))
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_frames=1, with_alignment=False),
        data=dataclasses.replace(config.data, synthetic_motion=0.0),
        optim=dataclasses.replace(
            config.optim,
            peak_lr=1.5e-3,
            ema_decay=0.999,
            fidelity=FidelityConfig(),
        ),
        init=InitConfig(identity=True),
        eval=dataclasses.replace(config.eval, every_steps=1_000),
    )


def _align() -> Config:
    """Sharp and blurred frames that a camera moves, offsets alone."""
    config = get_config()
    align = edvr_s_x4.get_align_config()
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data, synthetic_motion=1.0, crop_candidates=3, gt_crop=64
        ),
        optim=dataclasses.replace(
            align.optim, frozen=FEATURES, period_steps=(ALIGN_STEPS,)
        ),
        total_steps=ALIGN_STEPS,
    )


def get_chain() -> tuple[Phase, ...]:
    """Return the phases."""
    trained = edvr_s_x4.take("pretrain", (*FEATURES, *edvr_s_x4.RECONSTRUCTION))
    return (
        Phase("pretrain", _pretrain()),
        Phase("align", _align(), init=trained),
        Phase(
            "wotsa",
            _whole(with_tsa=False, period_steps=(150,)),
            init=("align",),
        ),
        Phase("all", get_config(), init=("wotsa",)),
    )
