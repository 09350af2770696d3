"""A video stream that is written in segments, so that a stopped job can be resumed.

Each segment has a fixed number of frames and a separate encoder: a job that was killed
and resumed makes the same segments as an undisturbed one.
"""

import contextlib
import dataclasses
import io
import itertools
import time as clock
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from edvr_jax import files
from edvr_jax.errors import InputError
from edvr_jax.media.read import alpha
from edvr_jax.media.read.colors import Colors
from edvr_jax.media.read.timeline import Timeline
from edvr_jax.media.write import encode
from edvr_jax.media.write.containers import CONTAINERS
from edvr_jax.media.write.encode import Encoding

# Every segment begins with a key frame, which costs bytes; a kill costs the frames
# since the last segment that were not saved.
_SEGMENT_PIXELS = 2**26
_MIN_FRAMES = 8
MAX_FRAMES = 240
SAVE_INTERVAL = 5.0  # seconds between two saves of the frames of an unfinished segment
_MAX_DELAY = 3600  # seconds from decoding a frame to showing it


def segment_length(size: tuple[int, int]) -> int:
    """Return the number of frames in a segment, for their height and width."""
    return max(_MIN_FRAMES, min(MAX_FRAMES, _SEGMENT_PIXELS // (size[0] * size[1])))


class SegmentedVideo:
    """A :class:`Sink` that writes a video stream as files of some frames each.

    Attributes:
        encoding: How the frames are encoded in the output.
    """

    def __init__(
        self,
        folder: Path,
        path: Path,
        encoding: Encoding,
        *,
        is_resumable: bool = True,
        first: int | None = None,
    ):
        """Find the finished segments of an earlier job, and its saved frames.

        Args:
            folder: An existing folder for the segments.
            path: The output that messages name.
            encoding: How the frames are encoded in the output.
            is_resumable: Save the frames of an unfinished segment, too.
            first: Index of the first frame of a share, which begins a segment; another
                process joins the shares. None is the whole video.
        """
        self.encoding = encoding
        self._folder, self._path = folder.absolute(), path
        container = CONTAINERS[path.suffix.lower()]
        self._segment = _make_lossless(encoding) if container.video_only else encoding
        # These formats add up the steps between decoding times to get the duration.
        self._adds_up = container.muxer in ("mp4", "mov")
        self._length = segment_length(encoding.size)
        self._is_share = first is not None
        self._suffix = _choose_suffix(self._segment)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._num_in_segment = 0
        self._last_dts: int | None = None
        self._pending: _PendingFrames | None = None
        with files.report_failure(path):
            for name in ("unfinished", "short"):
                self._file(name).unlink(missing_ok=True)
            self._num_segments = (first or 0) // self._length
            while self._numbered(self._num_segments).exists():
                self._num_segments += 1
            if is_resumable:
                self._pending = _PendingFrames(self._folder, self._num_segments)
        for image, time in self._pending.load() if self._pending else ():
            self._encode(image, time)

    @property
    def dtype(self) -> np.dtype:
        """Type of the frames."""
        return self._segment.dtype

    @property
    def num_written(self) -> int:
        """Number of frames written so far, in an unfinished segment too."""
        return self._num_segments * self._length + self._num_in_segment

    def write(self, image: np.ndarray, *, time: int) -> None:
        """Append a frame; see :class:`Sink`."""
        self._encode(image, time)
        with files.report_failure(self._path, FFmpegError):
            if self._num_in_segment < self._length:
                if self._pending is not None:
                    self._pending.add(image, time)
                return
            self._end_segment(self._numbered(self._num_segments))
            self._num_segments += 1
            self._num_in_segment = 0
            if self._pending is not None:
                self._pending = _PendingFrames(self._folder, self._num_segments)

    def finish(self) -> None:
        """End the last segment, which may be short; nothing can be written after it.

        Of a share, its frames are saved instead, for the process that joins them.
        """
        if self._is_share and self._pending is not None:
            with files.report_failure(self._path):
                self._pending.save()
        elif self._container is not None:
            with files.report_failure(self._path, FFmpegError):
                self._end_segment(self._file("short"))

    def close(self) -> None:
        """Close an unfinished segment."""
        if self._container is not None:
            with contextlib.suppress(OSError, FFmpegError):
                self._container.close()
            self._container = None

    def packets(self, timeline: Timeline, stream: VideoStream) -> Iterator[Packet]:
        """Yield the packets of all segments in decoding order.

        Args:
            timeline: When each frame is shown.
            stream: The stream of the output that gets them.
        """
        ranks = (rank for rank, _ in self._ranked_packets())
        delay = max((index - rank for index, rank in enumerate(ranks)), default=0)
        for index, (rank, packet) in enumerate(self._ranked_packets()):
            packet.stream, packet.time_base = stream, timeline.time_base
            packet.pts, packet.duration = timeline.span(rank)
            # Decoding times must rise and not be later than the times shown.
            packet.dts = timeline.before(index, delay)
            if self._adds_up and index == len(timeline.times) - 1:
                lag = timeline.times[0] - timeline.before(0, delay)
                packet.duration = max(1, timeline.end - packet.dts - lag)
            yield packet

    def images(self) -> Iterator[np.ndarray]:
        """Decode the frames of all segments, RGB, [H, W, 3], or RGBA, [H, W, 4]."""
        for path in self._finished():
            with av.open(str(path)) as container:
                for frame in container.decode(video=0):
                    yield frame.to_ndarray(format=self._segment.layout)

    def _ranked_packets(self) -> Iterator[tuple[int, Packet]]:
        """Yield each packet with the index of its frame in display order."""
        first = 0
        for path in self._finished():
            with av.open(str(path)) as container:
                packets = [p for p in container.demux(video=0) if p.size]
                order = sorted(range(len(packets)), key=lambda i: packets[i].pts or 0)
                ranks = dict(zip(order, itertools.count(first), strict=False))
                for index, packet in enumerate(packets):
                    yield ranks[index], packet
            first += len(packets)

    def _finished(self) -> list[Path]:
        paths = [self._numbered(i) for i in range(self._num_segments)]
        return [path for path in (*paths, self._file("short")) if path.exists()]

    def _numbered(self, index: int) -> Path:
        return self._file(f"{index:06}")

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{self._suffix}"

    def _encode(self, image: np.ndarray, time: int) -> None:
        with files.report_failure(self._path, FFmpegError):
            if self._container is None or self._stream is None:
                self._container, self._stream = self._begin_segment()
            packets = encode.encode(self._stream, image, self._segment, time=time)
            self._mux(packets)
            self._num_in_segment += 1

    def _begin_segment(self) -> tuple[OutputContainer, VideoStream]:
        path = self._file("unfinished")
        path.touch()  # its error names the cause better than FFmpeg's
        container = cast(OutputContainer, av.open(str(path), "w"))
        self._last_dts = None
        return container, encode.add_stream(container, self._segment)

    def _end_segment(self, path: Path) -> None:
        assert self._container is not None
        assert self._stream is not None
        self._mux(self._stream.encode(None))
        self._container.close()
        self._container = None
        files.put_in_place(self._file("unfinished"), path)

    def _mux(self, packets: list[Packet]) -> None:
        assert self._container is not None
        for packet in packets:
            if not self._has_dts(packet):
                # x265 sets no DTS in segments of one or two frames.
                packet.dts = packet.pts
            self._last_dts = packet.dts
            self._container.mux_one(packet)

    def _has_dts(self, packet: Packet) -> bool:
        pts, dts = packet.pts, packet.dts
        if pts is None or dts is None:
            return False
        is_later = self._last_dts is None or dts > self._last_dts
        return is_later and 0 <= (pts - dts) * self._segment.time_base <= _MAX_DELAY


def _make_lossless(encoding: Encoding) -> Encoding:
    opaque = "gbrp16le" if encoding.is_high_bit_depth else "bgr0"
    return dataclasses.replace(
        encoding,
        codec="ffv1",
        pix_fmt="bgra" if encoding.with_alpha else opaque,
        options=(),
        colors=Colors(matrix=0, range=2),
    )


def _choose_suffix(encoding: Encoding) -> str:
    """Choose a format for segments that changes neither packets nor their order."""
    # NUT drops the transparency beside the packets of VP8 and VP9. Matroska rounds
    # times, but in segments they only order the frames.
    if encoding.with_alpha and alpha.is_beside(encoding.codec):
        return ".mkv"
    for suffix in (".nut", ".mov"):
        with av.open(io.BytesIO(), "w", format=suffix[1:]) as probe:
            if encoding.codec in cast(OutputContainer, probe).supported_codecs:
                return suffix
    raise InputError(
        f"{encoding.codec} cannot be written in segments; choose another --codec"
    )


class _PendingFrames:
    """Restored frames kept on disk until the segment that contains them is finished.

    They are uncompressed; those of other segments are removed.
    """

    def __init__(self, folder: Path, segment: int):
        self._folder, self._prefix = folder, f"pending-{segment:06}"
        for path in folder.glob("pending-*.npz"):
            if path not in self._paths():
                path.unlink()
        self._unsaved: list[tuple[np.ndarray, int]] = []
        self._num_saved = 0
        self._saved_at = clock.monotonic()

    def load(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield the frames that an earlier job has saved, and their times."""
        for path in self._paths():
            with np.load(path) as arrays:
                self._num_saved += len(arrays["times"])
                yield from zip(arrays["images"], arrays["times"].tolist(), strict=True)

    def add(self, image: np.ndarray, time: int) -> None:
        """Keep a frame; all are saved when the last save is some seconds old."""
        self._unsaved.append((image, time))
        if clock.monotonic() - self._saved_at >= SAVE_INTERVAL:
            self.save()

    def save(self) -> None:
        """Save the frames that are not yet on disk."""
        if not self._unsaved:
            return
        images, times = zip(*self._unsaved, strict=True)
        path = self._folder / f"{self._prefix}-{self._num_saved:06}.npz"
        temporary = self._folder / "unfinished.npz"
        np.savez(temporary, images=np.stack(images), times=np.array(times, np.int64))
        files.put_in_place(temporary, path)
        self._num_saved += len(images)
        self._unsaved = []
        self._saved_at = clock.monotonic()

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._prefix}-*.npz"))
