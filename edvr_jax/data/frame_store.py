"""Ground-truth frames of clips, decoded once and mapped from disk.

Training reads crops of random frames; video can only be read in order. So every
clip is decoded once into a .npy file in a cache folder, downscaled if asked, and
opened as a memory map afterwards: memory holds only the pages in use.
"""

import hashlib
import itertools
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from edvr_jax.config import DataConfig
from edvr_jax.data import pairs, video
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.errors import InputError

Frames = np.ndarray  # [T, H, W, 3] uint8, usually a memory map


def split_clips(folder: Path, config: DataConfig) -> tuple[list[Path], list[Path]]:
    """Divide the clips of a folder into training and validation clips.

    Args:
        folder: Folder of clips: video files and folders of frames.
        config: Names the validation clips.

    Returns:
        Training clips and validation clips; disjoint.

    Raises:
        InputError: if a validation clip is missing, a name is there twice, or no
            clip is left for training.
    """
    paths = pairs.select_clips(folder)
    val = pairs.select_clips(folder, config.val_clips) if config.val_clips else []
    train = [path for path in paths if path not in val]
    if not train:
        raise InputError(f"{folder}: every clip is a validation clip; add others")
    return train, val


def open_frames(paths: list[Path], config: DataConfig, cache: Path) -> list[Frames]:
    """Open the ground-truth frames of clips, decoding those not in the cache.

    Args:
        paths: Clips.
        config: Downscaling and the limit of frames.
        cache: Folder for the decoded frames, about 3 bytes per pixel and frame;
            made if needed, and safe to delete when no run uses it.

    Returns:
        Frames of each clip, [T, H, W, 3] uint8, read-only memory maps.

    Raises:
        InputError: if a clip cannot be read.
    """
    cache.mkdir(parents=True, exist_ok=True)
    targets = [
        cache / f"{pairs.clip_name(path)}-{_fingerprint(path, config)}.npy"
        for path in paths
    ]
    todo = [(p, t) for p, t in zip(paths, targets, strict=True) if not t.exists()]
    for path, target in tqdm(
        todo, desc="decoding clips", unit="clip", disable=not todo
    ):
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                _decode(path, config, file)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return [np.load(target, mmap_mode="r") for target in targets]


def _decode(path: Path, config: DataConfig, file: BinaryIO) -> None:
    """Write the frames of a clip as a .npy file, one at a time."""
    clip = itertools.islice(video.open_clip(path), config.max_frames_per_clip)
    num_frames, shape = 0, ()
    for num_frames, frame in enumerate(clip, start=1):
        frame = imresize_uint8(frame, 1 / config.gt_downscale)
        if num_frames == 1:
            shape = frame.shape
            _write_header(file, (0, *shape))
        file.write(np.ascontiguousarray(frame).tobytes())
    file.seek(0)
    _write_header(file, (num_frames, *shape))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Write the header of a .npy file; its length does not depend on shape[0]."""
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )


def _fingerprint(path: Path, config: DataConfig) -> str:
    """Name the decoded form by everything that it depends on."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    facts = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    text = repr((facts, config.gt_downscale, config.max_frames_per_clip))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
