"""tensorflow-datasets builders: one frame a record, original bytes, no TensorFlow.

Each dataset of ``edvr_jax/data/datasets`` has a builder of its name. Each of its
streams (ground truth, and every degraded form on disk) becomes a split, written as
ArrayRecord in the order of clips and frames. Image files are stored unchanged, frames
of videos as PNG. Use ``edvr_jax.data.records`` or the command ``edvr records``; only
this module imports tensorflow-datasets at its top.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter

from edvr_jax.data.datasets.layout import Layout
from edvr_jax.media.read import clip_reader

VERSION = "1.0.0"
SHARD_BYTES = 256 * 2**20  # a shard holds whole clips, about this much
_IMAGE = "image"

Progress = Callable[[str, int], None]  # stream, frames written since the last call
Clips = Sequence[tuple[str, Path]]


class FrameRecords(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Base class of the builders.

    Args:
        layout: The clips found on disk; needed to build, not to read.
        progress: Called after each frame.
        **options: Options of every builder, for example ``data_dir``.
    """

    VERSION = tfds.core.Version(VERSION)
    URL = "https://arxiv.org/abs/1905.02716"
    # No metadata is stored beside this file; searching needs one more package.
    code_path = None

    def __init__(
        self,
        *,
        layout: Layout[Path] | None = None,
        progress: Progress = lambda stream, count: None,
        **options: Any,
    ):
        self._layout, self._progress = layout, progress
        super().__init__(file_format="array_record", **options)

    @property
    def staging(self) -> Path:
        """Folder of finished shards while the dataset is being built."""
        return Path(self.data_dir).parent / f".building-{self._fingerprint()}"

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "clip": tfds.features.Text(),
                "frame": np.int64,
                _IMAGE: tfds.features.Image(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=features,
            homepage=self.URL,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self._metadata()),
        )

    def _metadata(self) -> dict[str, Any]:
        """Return a layout without its paths; the clips are added while building."""
        if self._layout is None:
            return {}
        lq_streams, train = dict(self._layout.lq_streams), list(self._layout.train)
        return {
            "clips": {},
            "lq_streams": lq_streams,
            "train": train,
            "is_partial": self._layout.is_partial,
        }

    def _shard_iterators_per_split(self, dl_manager) -> Mapping[str, Any]:
        del dl_manager
        assert self._layout is not None
        splits = {}
        for stream, clips in self._layout.streams.items():
            assert self.info.metadata is not None
            index = self.info.metadata["clips"].setdefault(stream, [])
            splits[stream] = [
                self._shard_iterator(stream, shard, index) for shard in _shards(clips)
            ]
        return splits

    def _shard_iterator(self, stream: str, clips: Clips, index: list) -> Callable:
        def generate() -> Iterator[tuple[str, Mapping[str, Any]]]:
            for name, path in clips:
                clip = clip_reader.open_clip(path)
                count = 0
                frames = _encoded_frames(clip, self.staging)
                for count, image in enumerate(frames, start=1):
                    example = {"clip": name, "frame": count - 1, _IMAGE: image}
                    yield f"{name}/{count - 1}", example
                    self._progress(stream, 1)
                index.append([name, count, *clip.size])

        return generate

    def _example_writer(self) -> ExampleWriter:
        return _ResumableWriter(self.staging)

    def _fingerprint(self) -> str:
        """Return a digest of the clips."""
        assert self._layout is not None
        facts = [
            (stream, name, path.stat().st_mtime_ns)
            for stream, clips in self._layout.streams.items()
            for name, path in clips.items()
        ]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


class Reds(FrameRecords):
    """REDS, all tracks: see edvr_jax/data/datasets/reds.py."""

    URL = "https://seungjunnah.github.io/Datasets/reds.html"


class Vimeo90k(FrameRecords):
    """Vimeo-90K septuplets: see edvr_jax/data/datasets/vimeo90k.py."""

    URL = "http://toflow.csail.mit.edu"


class Vid4(FrameRecords):
    """Vid4: see edvr_jax/data/datasets/vid4.py."""


class Udm10(FrameRecords):
    """UDM10: see edvr_jax/data/datasets/udm10.py."""

    URL = "https://github.com/psychopa4/PFNL"


class FolderOfClips(FrameRecords):
    """Any clips: see edvr_jax/data/datasets/folder_of_clips.py."""


class _ResumableWriter(ExampleWriter):
    """Writes each shard once; a shard finished by an earlier run is used again."""

    def __init__(self, staging: Path):
        super().__init__(tfds.core.FileFormat.ARRAY_RECORD)
        self._staging = staging

    def write(self, path: Any, examples: Iterable) -> None:
        """Write the examples to the staging folder, and link them to ``path``."""
        self._staging.mkdir(parents=True, exist_ok=True)
        staged = self._staging / Path(path).name
        if not staged.exists():
            temporary = staged.with_suffix(f".{os.getpid()}")
            super().write(temporary, examples)
            temporary.replace(staged)
        try:
            os.link(staged, path)
        except OSError:  # a file system without hard links
            shutil.copyfile(staged, path)


def _shards(clips: Mapping[str, Path]) -> Iterator[Clips]:
    """Group clips, in order, until a group has ``SHARD_BYTES``."""
    group, size = [], 0
    for name, path in clips.items():
        group.append((name, path))
        files = path.iterdir() if path.is_dir() else [path]
        size += sum(file.stat().st_size for file in files)
        if size >= SHARD_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _encoded_frames(clip: clip_reader.ClipReader, staging: Path) -> Iterator[str]:
    """Yield the names of a folder's files, or of a PNG file of a video's next frame.

    Names and not bytes, since tensorflow-datasets keeps all examples of a shard.
    """
    if clip.frame_paths:
        yield from map(str, clip.frame_paths)
        return
    staging.mkdir(parents=True, exist_ok=True)
    path = staging / f"frame.{os.getpid()}.png"
    for frame in clip:
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        path.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
        yield str(path)
    path.unlink(missing_ok=True)
