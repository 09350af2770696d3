"""UDM10: ten clips of 32 frames to test super-resolution on, never to train on.

Get the frames from the download page that the PFNL repository
(https://github.com/psychopa4/PFNL) links to. The folder holds ``GT/archpeople/*.png``
and, if you have them, ``BDx4`` (Gaussian blur) or ``BIx4`` (MATLAB bicubic) likewise;
degraded frames are else made from ``GT``.

Source: Yi et al., Progressive Fusion Video Super-Resolution Network, ICCV 2019.
"""

from pathlib import Path

from edvr_jax.config import Track
from edvr_jax.data.datasets.layout import GT, Layout, Part, find_streams

CLIPS = (
    *("archpeople", "archwall", "auditorium", "band", "caffe"),
    *("camera", "clap", "lake", "photography", "polyflow"),
)
NUM_FRAMES = 32
FOLDERS = {GT: ["GT"], "bix4": ["BIx4"], "bdx4": ["BDx4"]}
LQ_STREAMS: dict[Track, str] = {"sr": "bix4", "sr_bd": "bdx4"}


def find_layout(
    root: Path, *, part: Part = "all", is_partial: bool = False
) -> Layout[Path]:
    """Find the ten clips.

    Args:
        root: The folder that holds ``GT``.
        part: Without effect: all are test clips.
        is_partial: Leave out incomplete clips, with a warning that counts them.

    Returns:
        The clips; none to train on.

    Raises:
        InputError: naming what is missing.
    """
    del part
    streams = find_streams(
        root, FOLDERS, dict.fromkeys(CLIPS, NUM_FRAMES), is_partial=is_partial
    )
    return Layout(streams, LQ_STREAMS, train=())
