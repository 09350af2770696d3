r"""EDVR-M of 7 frames, x4 super-resolution on Vimeo-90K, for Vid4 and Vimeo-90K-T.

    python train.py --config configs/edvr_m_x4_vimeo90k.py --data vimeo_septuplet \
        --eval-data Vid4 --workdir runs/edvr_m_vimeo --chain

The chain is that of edvr_m_x4_reds.py on other data: without TSA, then with it.
Degraded frames are made while training; where vimeo_septuplet_matlabLRx4 lies beside
the dataset, ``--data.lq given`` reads them. dataset="vimeo90k", see docs/data.md.

Hardware, time: as for edvr_m_x4_reds.py, with 7 frames for 5; none is published.
Expected on Vid4, Y: 27.10 dB / 0.8186 (SeeClear's table 1). Not trained here.

Sources: 7 frames are those of the official test script for Vid4. No complete recipe
for Vimeo-90K was found: BasicSR has none (BasicSR issue 589), and the file attached to
EDVR issue 78 could not be read. The other numbers are those of REDS; that they serve
here too is ours.
"""

import dataclasses

import edvr_m_x4_reds

from edvr_jax.config import Config, Phase


def on_vimeo90k(config: Config) -> Config:
    """Train a REDS experiment on the septuplets of Vimeo-90K instead."""
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_frames=7),
        # The crop of 256 is as high as the frames.
        data=dataclasses.replace(config.data, dataset="vimeo90k", lq="made"),
        eval=dataclasses.replace(config.eval, protocol="vid4"),
    )


def get_config() -> Config:
    """Return the experiment."""
    return on_vimeo90k(edvr_m_x4_reds.get_config())


def get_chain() -> tuple[Phase, ...]:
    """Return the runs from nothing to this experiment."""
    return tuple(
        dataclasses.replace(phase, config=on_vimeo90k(phase.config))
        for phase in edvr_m_x4_reds.get_chain()
    )
