"""Clips without random access, decoded once into a cache on disk.

Video can only be read in order, and downscaling takes time. So such a clip is written
to a .npy file, which is mapped: memory holds only the pages in use. The list of its
cuts is stored beside it.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edvr_jax import files, progress
from edvr_jax.config import DataConfig
from edvr_jax.data.frames import DecodedFrames, FrameFiles, Frames
from edvr_jax.data.imresize import imresize_uint8
from edvr_jax.data.records import RecordFrames
from edvr_jax.errors import InputError, OutputError
from edvr_jax.media.read import clip_reader, images, scenes

Source = Path | RecordFrames  # a video, a folder of frames, or records


@dataclasses.dataclass
class FrameStore:
    """Opens clips for random access.

    Attributes:
        folder: The cache, about 3 bytes per pixel and frame; made when needed, and
            safe to delete when no run uses it.
        config: Downscaling, limit of frames, scenes, and the cache's largest size.
        used_bytes: Size of the files of the clips opened so far.
    """

    folder: Path
    config: DataConfig
    used_bytes: int = 0

    def open(self, name: str, source: Source) -> tuple[Frames, list[int]]:
        """Open a clip, decoding it first if it has no random access.

        Args:
            name: The clip's name.
            source: Its frames.

        Returns:
            The frames, and with ``config.split_scenes`` the index of the first frame
            of every scene but the first.

        Raises:
            InputError: if it cannot be read, or the cache would become too large.
        """
        limit = self.config.max_frames_per_clip
        must_decode = self.config.gt_downscale > 1 or self.config.split_scenes
        if not must_decode and isinstance(source, RecordFrames):
            num_frames = min(len(source), limit)
            return dataclasses.replace(source, num_frames=num_frames), []
        if not must_decode and isinstance(source, Path) and source.is_dir():
            names = tuple(path.name for path in images.list_images(source)[:limit])
            if not names:
                raise InputError(f"{source}: no images in this folder")
            return FrameFiles(source, names), []
        return self._open_decoded(name, source)

    def _open_decoded(self, name: str, source: Source) -> tuple[Frames, list[int]]:
        stem = f"{name.replace('/', '_')}-{self._fingerprint(source)}"
        target, cuts = (self.folder / f"{stem}{end}" for end in (".npy", ".cuts.json"))
        if not (target.exists() and cuts.exists()):
            self._decode(name, source, target, cuts)
        self.used_bytes += target.stat().st_size
        found = json.loads(cuts.read_text()) if self.config.split_scenes else []
        return DecodedFrames(target), found

    def _decode(self, name: str, source: Source, target: Path, cuts: Path) -> None:
        """Write the frames one at a time, and the list of cuts."""
        with files.report_failure(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        differences = scenes.Differences()
        if isinstance(source, RecordFrames):
            frames = (source[index] for index in range(len(source)))
        else:
            frames = iter(clip_reader.open_clip(source))
        frames = itertools.islice(frames, self.config.max_frames_per_clip)
        frames = progress.track(frames, name=f"decoding {name}")
        with files.replacing(target) as temporary, files.report_failure(target):
            self._write_array(temporary, differences.watch(frames))
            found = scenes.find_cuts(differences.values)
            files.write(cuts, json.dumps(found).encode())

    def _write_array(self, path: Path, frames: Iterable[np.ndarray]) -> None:
        num_frames, shape = 0, ()
        with path.open("wb") as file:
            for num_frames, frame in enumerate(frames, start=1):
                frame = imresize_uint8(frame, 1 / self.config.gt_downscale)
                if num_frames == 1:
                    shape = frame.shape
                    _write_header(file, (0, *shape))
                self._check_budget(file.tell() + frame.nbytes)
                file.write(np.ascontiguousarray(frame).tobytes())
            file.seek(0)
            _write_header(file, (num_frames, *shape))

    def _check_budget(self, num_bytes: int) -> None:
        budget = self.config.max_disk_cache_gib
        if self.used_bytes + num_bytes > budget * 2**30:
            raise OutputError(
                f"{self.folder}: the decoded clips take more than "
                f"data.max_disk_cache_gib, {budget:g}; raise it, shrink or shorten the "
                "clips (data.gt_downscale, data.max_frames_per_clip), or write "
                "records of them (edvr records)"
            )

    def _fingerprint(self, source: Source) -> str:
        """Return a digest of everything that the decoded frames depend on."""
        if isinstance(source, RecordFrames):
            facts = [repr(source), source.split.version()]
        else:
            parts = [source] if source.is_file() else sorted(source.iterdir())
            facts = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in parts]
        limit = self.config.max_frames_per_clip
        text = repr((facts, self.config.gt_downscale, limit))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write_header(file, shape: tuple[int, ...]) -> None:
    """Write the header of a .npy file; its length does not depend on shape[0]."""
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
