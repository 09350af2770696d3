"""Your own clips: video files and folders of frames, of any length and size.

The folder holds the sharp clips, and degraded frames are made from them. Or it holds
the folders ``gt`` and ``lq`` with clips of equal names, as ``edvr prepare`` writes
them.
"""

from pathlib import Path
from typing import get_args

from edvr_jax.config import Track
from edvr_jax.data.datasets.layout import GT, Layout, Part
from edvr_jax.media.read import clip_pairs

LQ = "lq"


def find_layout(
    root: Path, *, part: Part = "all", is_partial: bool = False
) -> Layout[Path]:
    """Find the clips.

    Args:
        root: Folder of clips, or of ``gt`` and ``lq``.
        part: Without effect.
        is_partial: Without effect: nothing says what should be there.

    Returns:
        The clips, all of them to train on.

    Raises:
        InputError: if there is none, two have one name, or one has no partner.
    """
    del part, is_partial
    if (root / GT).is_dir() and (root / LQ).is_dir():
        couples = clip_pairs.match_clips(root / GT, root / LQ, is_exact=True)
        streams = {
            GT: {clip_pairs.clip_name(gt): gt for gt, _ in couples},
            LQ: {clip_pairs.clip_name(gt): lq for gt, lq in couples},
        }
    else:
        clips = clip_pairs.select_clips(root)
        clip_pairs.note_gaps(clips)
        streams = {GT: {clip_pairs.clip_name(path): path for path in clips}}
    return Layout(streams, dict.fromkeys(get_args(Track), LQ), train=tuple(streams[GT]))
