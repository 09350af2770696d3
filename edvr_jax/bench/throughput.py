"""The pipeline on clips made for measuring it, of each kind of file.

They show a textured picture, 1280x720, that the camera pans over. Its PNG files are of
the size of those of REDS, about 1.4 MB.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from edvr_jax.config import Config
from edvr_jax.data import records
from edvr_jax.data.clips import open_clips
from edvr_jax.data.datasets import find_layout
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.data.loader import TrainLoader
from edvr_jax.media.write.writer import open_writer

Kind = Literal["records", "png", "video"]

HEIGHT, WIDTH = 720, 1280
NUM_CLIPS, NUM_FRAMES = 4, 20
PAN = 4  # pixels per frame
NOISE_SIGMA = 1.5  # makes a PNG file of 1.4 MB
DATASET = "folder_of_clips"
NUM_WARM_UP = 5


def open_pipeline(
    kind: Kind,
    folder: Path,
    *,
    lq: Literal["made", "given"] = "made",
    num_workers: int = 0,
    config: Config | None = None,
) -> TrainLoader:
    """Open the pipeline on such clips.

    Args:
        kind: records: ArrayRecord; png: folders of PNG files; video: H.264 files,
            decoded into the cache here.
        folder: Folder for the clips, some 300 MB; those that are there are used again.
        lq: Read degraded frames, or make them (MATLAB bicubic).
        num_workers: Worker processes; 0 uses threads.
        config: Network, crop and batch; None is the EDVR-M recipe: windows of 5,
            ground truth 256x256, batches of 32.

    Returns:
        The batches. The first ones come from filled queues only after some have been
        taken: take ``NUM_WARM_UP`` before measuring.
    """
    config = config or Config()
    data = dataclasses.replace(
        config.data,
        dataset=DATASET,
        lq=lq,
        num_workers=num_workers,
        frame_cache_mib=0,  # these few clips would fit, a dataset does not
    )
    config = dataclasses.replace(config, data=data)
    root = _make_clips(folder, kind, config.model.output_scale)
    clips, _ = open_clips(root, config, folder / "cache")
    return TrainLoader(clips, config)


def _make_clips(folder: Path, kind: Kind, scale: int) -> Path:
    """Write the clips, both sides, unless they are there."""
    root = folder / f"{kind}-x{scale}"
    if root.exists():
        return root
    if kind == "records":
        return _make_records(folder, root, scale)
    temporary = folder / f".{root.name}"
    for index in range(NUM_CLIPS):
        frames = _pan(index)
        small = [imresize_uint8(frame, 1 / scale) for frame in frames]
        for side, images in (("gt", frames), ("lq", small)):
            suffix = ".mp4" if kind == "video" else ""
            _write(temporary / side / f"clip{index}{suffix}", images)
    return temporary.rename(root)


def _make_records(folder: Path, root: Path, scale: int) -> Path:
    source = _make_clips(folder, "png", scale)
    records.build(DATASET, find_layout(DATASET, source), root)
    return root


def _pan(seed: int) -> list[np.ndarray]:
    """Pan over a picture with detail at every size."""
    rng = np.random.default_rng(seed)
    height, width = HEIGHT, WIDTH + PAN * NUM_FRAMES
    picture = np.zeros((height, width, 3), np.float32)
    for level in range(2, 8):
        shape = (height >> level, width >> level, 3)
        detail = rng.normal(0, 6 * level, shape).astype(np.float32)
        picture += cv2.resize(detail, (width, height), interpolation=cv2.INTER_CUBIC)
    picture += rng.normal(128, NOISE_SIGMA, picture.shape)
    levels = np.clip(picture, 0, 255).astype(np.uint8)
    return [levels[:, PAN * i : PAN * i + WIDTH] for i in range(NUM_FRAMES)]


def _write(path: Path, frames: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_writer(path) as writer:
        for frame in frames:
            writer.write(frame)
