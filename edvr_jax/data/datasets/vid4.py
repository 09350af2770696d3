"""Vid4: four clips to test super-resolution on, never to train on.

Get the frames with their degraded forms from the download page that BasicSR's
``docs/DatasetPreparation.md`` links to. The folder holds ``GT/calendar/00000000.png``
and likewise ``BIx4`` (MATLAB bicubic) or ``BDx4`` (Gaussian blur); ``GT`` alone will
do, the degraded frames are then made from it.

Source: Liu and Sun, On Bayesian Adaptive Video Super Resolution, TPAMI 2014.
"""

from pathlib import Path

from edvr_jax.data.datasets.layout import Layout, Part, find_test_set

NUM_FRAMES = {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}


def find_layout(
    root: Path, *, part: Part = "all", is_partial: bool = False
) -> Layout[Path]:
    """Find the four clips; arguments as for ``datasets.find_layout``."""
    del part  # all are test clips
    return find_test_set(root, NUM_FRAMES, is_partial=is_partial)
