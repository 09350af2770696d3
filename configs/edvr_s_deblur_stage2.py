"""Second stage after EDVR-S for deblurring: refines what the first one gives.

    python -m tools.make_stage2_pairs --clips CLIPS --pairs PAIRS
    python train.py --config configs/edvr_s_deblur_stage2.py --data PAIRS --workdir RUN

CLIPS as for ``edvr_s_x4.py``. The first command blurs the clips and deblurs them by the
first stage, once instead of in every step.
``edvr restore --weights edvr_s_deblur --stage2 RUN/ema.safetensors`` applies both
stages; ``edvr_jax.weights.combine_stages`` joins them for one file.

The network is that of ``edvr_s_deblur.py`` for single frames and without PreDeblur, and
starts as the identity. After the first stage a few windows are far worse than the
others, so the loss is the root of each window's squared error; docs/weights.md compares
others.

Sources: EDVR (arXiv:1905.02716), section 3.4; everything else is ours.
"""

import dataclasses

import edvr_s_deblur

from edvr_jax.config import Config, DegradeConfig, InitConfig, ModelConfig, OptimConfig

NUM_STEPS = 9_000


def get_config() -> Config:
    """Return the experiment."""
    config = edvr_s_deblur.get_config()
    assert isinstance(config.model, ModelConfig)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            num_frames=1,
            num_extract_blocks=3,
            with_predeblur=False,
            with_tsa=False,
            with_alignment=False,
        ),
        data=dataclasses.replace(
            config.data,
            dataset="folder_of_clips",
            lq="given",
            degrade=DegradeConfig(track="deblur"),
            gt_downscale=1,
            camera_motion=0.0,
            synthetic_motion=0.0,
            batch_size=8,
        ),
        optim=OptimConfig(
            loss="rmse",
            peak_lr=1e-3,
            period_steps=(NUM_STEPS,),
            restart_weights=(1.0,),
        ),
        init=InitConfig(identity=True),
        eval=dataclasses.replace(config.eval, every_steps=1_000),
        total_steps=NUM_STEPS,
    )
