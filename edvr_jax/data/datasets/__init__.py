"""Datasets by name: the folders of their clips, and the training split."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from edvr_jax.config import DatasetName
from edvr_jax.data.datasets import folder_of_clips, reds, udm10, vid4, vimeo90k
from edvr_jax.data.datasets.layout import GT, Layout, Part
from edvr_jax.media.read import clip_pairs

_FIND: dict[DatasetName, Callable[..., Layout[Path]]] = {
    "folder_of_clips": folder_of_clips.find_layout,
    "reds": reds.find_layout,
    "vimeo90k": vimeo90k.find_layout,
    "vid4": vid4.find_layout,
    "udm10": udm10.find_layout,
}


def find_layout(
    name: DatasetName, root: Path, *, part: Part = "all", is_partial: bool = False
) -> Layout[Path]:
    """Find the clips of a dataset in the folders that it is published in.

    Args:
        name: The dataset.
        root: Its folder; each dataset's module documents its content.
        part: "test" takes the usual test clips alone; the others need not be there.
        is_partial: Leave out clips that miss frames instead of refusing.

    Returns:
        The clips, checked against the published lists.

    Raises:
        InputError: naming the folders, clips or frames that are missing.
    """
    layout = _FIND[name](root, part=part, is_partial=is_partial)
    if name != "folder_of_clips":  # which pairs its clips itself
        gt = layout.streams[GT]
        for stream, clips in layout.streams.items():
            if stream != GT:
                clip_pairs.check_frame_names(
                    (gt[k], clips[k]) for k in clips if k in gt
                )
    return dataclasses.replace(layout, is_partial=is_partial)
