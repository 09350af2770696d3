"""EDVR-S, x4 super-resolution: the small network that ships with the package.

    python train.py --config configs/edvr_s_x4.py --data CLIPS --workdir runs/edvr_s

CLIPS is a folder of 29 training and 6 validation clips of 480 to 1080 lines (web
video, most of it compressed: the ground truth is the clip shrunk by 2). Any folder
works if ``data.val_clips`` names clips that are in it.

The shipped weights come from this run and a second one of the same length that starts
from the first's (``--init``). Hardware, time and scores: docs/weights.md.

Sources: loss, Adam's betas and the form of the schedule are BasicSR's
train_EDVR_M_x4_SR_REDS_woTSA.yml; width, depth, crop, batch, learning rate and the
decay of the average are ours, chosen for an hour on two CPU cores.
"""

from edvr_jax.config import Config, DataConfig, EvalConfig, ModelConfig, OptimConfig

PERIOD_STEPS = 3_000


def get_config() -> Config:
    """Return the experiment."""
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
            camera_motion=0.5,
        ),
        optim=OptimConfig(
            peak_lr=6e-4,
            period_steps=(PERIOD_STEPS,),
            restart_weights=(1.0,),
            ema_decay=0.99,  # 0.999 would average a third of so short a run
        ),
        eval=EvalConfig(every_steps=250, frames_per_clip=4),
        total_steps=2_500,
        log_every_steps=50,
        checkpoint_every_steps=250,
    )
