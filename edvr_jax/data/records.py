"""Build datasets as ArrayRecord files, with random access to their frames."""

import contextlib
import dataclasses
import functools
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edvr_jax import files
from edvr_jax import progress as progress_lib
from edvr_jax.config import DatasetName
from edvr_jax.data.datasets.layout import Layout
from edvr_jax.errors import InputError, first_line, needs_extra
from edvr_jax.media.read import clip_reader, images, pixels

_INFO = "dataset_info.json"


@dataclasses.dataclass(frozen=True)
class RecordFrames:
    """Frames of one clip in a split of records.

    Attributes:
        split: Split that holds the records.
        clip: Name of the clip.
        first: Its first record.
        num_frames: Its number of frames.
        size: Height and width.

    Raises:
        InputError: by reading a frame whose record or image is damaged.
    """

    split: "RecordSplit"
    clip: str
    first: int
    num_frames: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> np.ndarray:
        data = self.split.read(self.first + index)
        name = f"{self.split.folder}: {self.split.stream} {self.clip}, frame {index}"
        frame = images.decode_image(data, name)
        pixels.check_size(frame.shape, self.size, name)
        return frame


@dataclasses.dataclass(frozen=True)
class RecordSplit:
    """A split of a dataset on disk; opened when it is first read.

    Attributes:
        folder: Folder of the dataset's files.
        stream: Name of the split.
    """

    folder: Path
    stream: str

    def read(self, index: int) -> bytes:
        """Read the encoded image of a record.

        Raises:
            InputError: naming the file, if it cannot be read.
        """
        try:
            return self._source[index]["image"]
        except RuntimeError as error:
            raise InputError(
                f"{self._file_of(index)}: record cannot be read ({error}); build the "
                "dataset again"
            ) from None

    @functools.cached_property
    def _source(self) -> Any:
        tfds = _import_tfds()
        return _open(self.folder).as_data_source(
            self.stream, decoders={"image": tfds.decode.SkipDecoding()}
        )

    def _file_of(self, index: int) -> Path:
        info = _open(self.folder).info.splits[self.stream]
        shard = np.searchsorted(np.cumsum(info.shard_lengths), index, side="right")
        return Path(info.filepaths[shard])

    def version(self) -> int:
        """Return when the records were written, in nanoseconds."""
        return (self.folder / _INFO).stat().st_mtime_ns

    def __reduce__(self):
        return RecordSplit, (self.folder, self.stream)


def find_records(root: Path, name: DatasetName) -> Path | None:
    """Find the records of a dataset below a folder; None if there are none.

    Raises:
        InputError: if the folder holds records of another dataset.
    """
    for folder in (root, *sorted((root / name).glob("[0-9]*"))):
        info = folder / _INFO
        if info.is_file():
            found = _read_name(info)
            if found != name:
                raise InputError(f"{folder}: records of {found}, not of {name}")
            return folder
    return None


def _read_name(info: Path) -> str:
    try:
        return json.loads(info.read_text())["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{info}: not written by tensorflow-datasets, or damaged ({error}); build "
            "the dataset again elsewhere"
        ) from None


def read_layout(folder: Path) -> Layout[RecordFrames]:
    """Open every split of a dataset.

    Args:
        folder: Folder of the dataset's files, from :func:`find_records`.

    Returns:
        The frames of every clip.

    Raises:
        InputError: if it was not written by this package.
    """
    info = _open(folder).info
    try:
        metadata = info.metadata or {}
        if "clips" not in metadata:
            raise InputError(
                f"{folder}: these records were not written by edvr records"
            )
        return _make_layout(folder, metadata)
    except InputError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder, error) from None


def _make_layout(folder: Path, metadata: Mapping[str, Any]) -> Layout[RecordFrames]:
    streams = {}
    for stream, clips in metadata["clips"].items():
        split, first = RecordSplit(folder, stream), 0
        streams[stream] = {}
        for clip, num_frames, *size in clips:
            frames = RecordFrames(split, clip, first, num_frames, tuple(size))
            streams[stream][clip] = frames
            first += num_frames
    return Layout(
        streams,
        metadata["lq_streams"],
        tuple(metadata["train"]),
        is_partial=metadata["is_partial"],
    )


def build(name: DatasetName, layout: Layout[Path], target: Path) -> Path:
    """Write a dataset as records; a run that was stopped is continued.

    Args:
        name: The dataset.
        layout: Its clips.
        target: Folder for datasets; the files go to ``target/name/version``.

    Returns:
        Folder of the files.

    Raises:
        InputError: if a clip cannot be read, or the folder holds records of others.
    """
    tfds = _import_tfds()
    from edvr_jax.data import builders

    there = find_records(target, name)
    if there is not None:
        _check_same(there, layout)
        return there
    for clips in layout.streams.values():
        for path in progress_lib.track(clips.values(), unit="clip", name="checking"):
            clip_reader.open_clip(path)
    num_frames = _count_frames(layout)
    with progress_lib.open_bar(num_frames) as bar:

        def progress(stream: str, count: int) -> None:
            bar.update(count, name=stream)

        with contextlib.redirect_stdout(io.StringIO()):  # it reports downloads
            builder = tfds.builder(
                name, layout=layout, progress=progress, data_dir=str(target)
            )
            assert isinstance(builder, builders.FrameRecords)
            with files.report_failure(target):
                builder.download_and_prepare(download_dir=str(builder.staging))
    shutil.rmtree(builder.staging, ignore_errors=True)
    return Path(builder.data_dir)


def _check_same(folder: Path, layout: Layout[Path]) -> None:
    there, wanted = (
        {stream: set(clips) for stream, clips in streams.items()}
        for streams in (read_layout(folder).streams, layout.streams)
    )
    if there != wanted:
        raise InputError(
            f"{folder}: holds records of other clips; remove them or choose another "
            "folder"
        )


def _count_frames(layout: Layout[Path]) -> int | None:
    """Count the frames of all streams, if all clips are folders."""
    counts: list[int] = []
    for clips in layout.streams.values():
        for path in clips.values():
            if not path.is_dir():
                return None
            counts.append(len(images.list_images(path)))
    return sum(counts)


def _open(folder: Path) -> Any:
    tfds = _import_tfds()
    try:
        return tfds.builder_from_directory(str(folder))
    except Exception as error:  # a dozen kinds, of several libraries
        raise _damaged(folder, error) from None


def _damaged(folder: Path, error: Exception) -> InputError:
    reason = ascii(first_line(error))[1:-1]
    return InputError(
        f"{folder}: these records are damaged ({type(error).__name__}: {reason}); "
        "build the dataset again"
    )


def _import_tfds() -> Any:
    with needs_extra("data", "records need tensorflow-datasets"):
        import tensorflow_datasets as tfds
    return tfds
