r"""Second stage of EDVR-L, from a folder of the first stage's outputs.

    python train.py --config configs/edvr_l_stage2_folder.py --data PAIRS \
        --workdir runs/edvr_l_stage2

PAIRS holds ``gt`` and ``lq``: sharp clips, and under the same names what ``edvr
restore`` made of their degraded forms with stage 1 (docs/recipes.md), of the same
size. Stage 1 then runs once per frame and not in every step. For a track with blur
add ``--model.with-predeblur`` to have the authors' stage 2.

REDS4 is kept for validation, by crops; for other clips name yours,
``--data.val-clips NAME ...``.

Hardware, time: none is published.
Expected: as for the stage-2 file of the track. Not trained here.

Sources: those of edvr_l_stage2_x4_reds.py. The official scripts likewise feed stage 2
from images of 8 bit.
"""

import dataclasses

import edvr_l_stage2_x4_reds

from edvr_jax.config import (
    REDS4,
    CascadeConfig,
    Config,
    DataConfig,
    DegradeConfig,
    EvalConfig,
)


def get_config() -> Config:
    """Return the experiment."""
    cascade = edvr_l_stage2_x4_reds.get_config()
    assert isinstance(cascade.model, CascadeConfig)
    return dataclasses.replace(
        cascade,
        model=cascade.model.stage2,
        data=DataConfig(
            dataset="folder_of_clips",
            lq="given",
            degrade=DegradeConfig(track="deblur"),  # any track that keeps the size
            val_clips=REDS4,
            gt_crop=cascade.data.gt_crop,
            batch_size=cascade.data.batch_size,
        ),
        optim=dataclasses.replace(cascade.optim, frozen=()),
        eval=EvalConfig(every_steps=5_000, protocol=None, frames_per_clip=10),
    )
