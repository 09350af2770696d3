"""UDM10: ten clips of 32 frames to test super-resolution on, never to train on.

Get the frames from the download page that the PFNL repository
(https://github.com/psychopa4/PFNL) links to. The folder holds ``GT/archpeople/*.png``
and, if you have them, ``BDx4`` (Gaussian blur) or ``BIx4`` (MATLAB bicubic) likewise;
degraded frames are else made from ``GT``.

Source: Yi et al., Progressive Fusion Video Super-Resolution Network, ICCV 2019.
"""

from pathlib import Path

from edvr_jax.data.datasets.layout import Layout, Part, find_test_set

CLIPS = (
    *("archpeople", "archwall", "auditorium", "band", "caffe"),
    *("camera", "clap", "lake", "photography", "polyflow"),
)
NUM_FRAMES = 32


def find_layout(
    root: Path, *, part: Part = "all", is_partial: bool = False
) -> Layout[Path]:
    """Find the ten clips; arguments as for ``datasets.find_layout``."""
    del part  # all are test clips
    return find_test_set(root, dict.fromkeys(CLIPS, NUM_FRAMES), is_partial=is_partial)
