"""Vimeo-90K septuplets: 64 612 training and 7 824 test clips of 7 frames, 448x256.

Get ``vimeo_septuplet.zip`` from http://toflow.csail.mit.edu and unpack it: the folder
holds ``sequences/00001/0001/im1.png`` and the lists ``sep_trainlist.txt`` and
``sep_testlist.txt``. Degraded frames, if you have them, are beside it in
``vimeo_septuplet_matlabLRx4/sequences`` or in the same folder in ``BIx4`` (MATLAB
bicubic) or ``BDx4`` (Gaussian blur).

Clips are named as in the lists, ``00001/0001``.

Source: Xue et al., Video Enhancement with Task-Oriented Flow, IJCV 2019.
"""

from pathlib import Path

from edvr_jax.config import Track
from edvr_jax.data.datasets.layout import GT, Layout, Part, find_streams, first_folder
from edvr_jax.errors import InputError

NUM_FRAMES = 7
TRAIN_LIST, TEST_LIST = "sep_trainlist.txt", "sep_testlist.txt"
FOLDERS = {
    GT: ["sequences", "GT"],
    "bix4": ["BIx4", "../vimeo_septuplet_matlabLRx4/sequences"],
    "bdx4": ["BDx4"],
}
LQ_STREAMS: dict[Track, str] = {"sr": "bix4", "sr_bd": "bdx4"}


def find_layout(
    root: Path, *, part: Part = "all", is_partial: bool = False
) -> Layout[Path]:
    """Find the clips of both lists.

    Args:
        root: The unpacked archive, or the folder that it was unpacked in.
        part: "test" takes the test list alone.
        is_partial: Leave out incomplete clips, with a warning that counts them.

    Returns:
        The clips; those of the training list are to train on.

    Raises:
        InputError: naming what is missing.
    """
    root = first_folder(root, ["vimeo_septuplet"]) or root
    test = _read_list(root / TEST_LIST)
    train = _read_list(root / TRAIN_LIST) if part == "all" else []
    streams = find_streams(
        root,
        FOLDERS,
        dict.fromkeys(train + test, NUM_FRAMES),
        is_partial=is_partial,
    )
    return Layout(
        streams,
        LQ_STREAMS,
        train=tuple(name for name in train if name in streams[GT]),
    )


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").split()
    except OSError as error:
        raise InputError(
            f"{path}: the list of clips cannot be read: {error.strerror}; it comes "
            "with vimeo_septuplet.zip"
        ) from None
    return lines
