"""EDVR-S, x4 super-resolution: a small network that ships with the package.

    python train.py --config configs/edvr_s_x4.py --data CLIPS --workdir RUN --chain

CLIPS is a folder of 29 training and 6 validation clips of 480 to 1080 lines (web
video, most of it compressed: the ground truth is the clip shrunk by 2). Any folder
works if ``data.val_clips`` names clips that are in it.

Three phases. ``align`` trains the offsets alone, by the offset-fidelity loss, on single
frames that a camera moves: ten times the windows per second of whole-network training.
The features for the reconstruction stay as they are. ``all`` trains everything, with a
fresh fusion, since one that was trained on frames that are not aligned has learned to
ignore the neighbors. ``deep`` adds ten residual blocks to the reconstruction, which see
one frame and cost little; clips are also shrunk by 3, which makes them sharper, and the
loss is close to the squared error. Hardware, time and scores, and the options for the
last 6000 steps of the weights that ship, on clips of text: docs/weights.md.

Sources: Charbonnier loss, Adam's betas and the form of the schedule are BasicSR's
train_EDVR_M_x4_SR_REDS_woTSA.yml; the offset-fidelity loss is that of arXiv:2009.07265
with another error (``FidelityConfig``); everything else is ours, for two CPU cores.
"""

import dataclasses

from edvr_jax.config import (
    Config,
    DataConfig,
    EvalConfig,
    FidelityConfig,
    InitConfig,
    ModelConfig,
    OptimConfig,
    Phase,
)

# The features that reconstruction sees; the pyramid's lower levels serve alignment.
FEATURES = ("conv_first", *(f"feature_extraction_{index}" for index in range(3)))

# Layers after the fusion but the upsampling, before the last phase.
RECONSTRUCTION = (
    *(f"reconstruction_{index}" for index in range(5)),
    *("conv_hr", "conv_last"),
)
# The whole network before its last phase.
PARTS = (
    *FEATURES,
    *("conv_l2_1", "conv_l2_2", "conv_l3_1", "conv_l3_2", "pcd_align", "fusion"),
    *RECONSTRUCTION,
    *("upconv1", "upconv2"),
)

PERIOD_STEPS = (8_000, 16_000, 32_000)
ALIGN_STEPS = 6_000
DEEP_STEPS = (6_000, 5_000, 2_500)


def get_config() -> Config:
    """Return the experiment that makes the reconstruction deeper."""
    config = get_whole_config()
    assert isinstance(config.model, ModelConfig)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_reconstruct_blocks=15),
        data=dataclasses.replace(config.data, more_downscales=(3,), camera_motion=0.8),
        optim=dataclasses.replace(
            config.optim,
            peak_lr=4e-4,
            period_steps=DEEP_STEPS,
            restart_weights=(1.0, 0.6, 0.4),
            charbonnier_eps=1e-3,
        ),
        init=InitConfig(),
        total_steps=sum(DEEP_STEPS),
    )


def get_whole_config() -> Config:
    """Return the experiment that trains the whole network."""
    return Config(
        model=ModelConfig(
            num_features=32,
            deformable_groups=2,
            num_extract_blocks=3,
            num_reconstruct_blocks=5,
        ),
        data=DataConfig(
            dataset="folder_of_clips",
            val_clips=(
                "cars_close_768p",
                "hawk_rain_540p",
                "bees_dandelion_720p",
                "laptop_desk_1080p",
                "woman_thumbs_up_720p",
                "dashcam_highway_540p",
            ),
            gt_downscale=2,
            gt_crop=128,
            batch_size=4,
            camera_motion=0.6,
            synthetic_motion=0.2,
            crop_candidates=2,
        ),
        optim=OptimConfig(
            peak_lr=6e-4,
            period_steps=PERIOD_STEPS,
            restart_weights=(1.0, 0.8, 0.6),
            fidelity=FidelityConfig(weight=300.0, decay_periods=1, tolerance=0.1),
        ),
        init=InitConfig(fresh=("fusion",)),
        eval=EvalConfig(every_steps=1_000, frames_per_clip=4),
        total_steps=sum(PERIOD_STEPS),
        log_every_steps=100,
        checkpoint_every_steps=500,
    )


def get_align_config() -> Config:
    """Return the experiment that trains the alignment alone."""
    config = get_whole_config()
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data,
            synthetic_motion=1.0,
            max_camera_speed=8.0,
            crop_candidates=3,
        ),
        optim=OptimConfig(
            peak_lr=1e-3,
            period_steps=(ALIGN_STEPS,),
            restart_weights=(1.0,),
            frozen=FEATURES,
            max_grad_norm=10.0,
            fidelity=FidelityConfig(weight=1.0, alone=True),
        ),
        init=InitConfig(),
        total_steps=ALIGN_STEPS,
    )


def get_chain() -> tuple[Phase, ...]:
    """Return the phases; the first one starts from parts of the weights that ship."""
    return (
        Phase("align", get_align_config(), init=take("edvr_s_x4")),
        Phase("all", get_whole_config(), init=("align",)),
        Phase("deep", get_config(), init=take("all")),
    )


def take(weights: str, parts: tuple[str, ...] = PARTS) -> tuple[str, ...]:
    """Return the options of ``--init`` that take parts of a network."""
    return tuple(f"{part}={weights}" for part in parts)
