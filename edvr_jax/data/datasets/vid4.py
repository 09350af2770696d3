"""Vid4: four clips to test super-resolution on, never to train on.

Get the frames with their degraded forms from the download page that BasicSR's
``docs/DatasetPreparation.md`` links to. The folder holds ``GT/calendar/00000000.png``
and likewise ``BIx4`` (MATLAB bicubic) or ``BDx4`` (Gaussian blur); ``GT`` alone will
do, the degraded frames are then made from it.

Source: Liu and Sun, On Bayesian Adaptive Video Super Resolution, TPAMI 2014.
"""

from pathlib import Path

from edvr_jax.config import Track
from edvr_jax.data.datasets.layout import GT, Layout, Part, find_streams

NUM_FRAMES = {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}
FOLDERS = {GT: ["GT"], "bix4": ["BIx4"], "bdx4": ["BDx4"]}
LQ_STREAMS: dict[Track, str] = {"sr": "bix4", "sr_bd": "bdx4"}


def find_layout(
    root: Path, *, part: Part = "all", is_partial: bool = False
) -> Layout[Path]:
    """Find the four clips.

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
    streams = find_streams(root, FOLDERS, NUM_FRAMES, is_partial=is_partial)
    return Layout(streams, LQ_STREAMS, train=())
