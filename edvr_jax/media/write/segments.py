"""What a job has restored so far, in parts that survive it.

A video stream is encoded in parts of a fixed number of frames, each with an encoder of
its own, and put together at the end: a job that was killed and resumed makes the parts
that an undisturbed one makes. Frames of a folder are parts of one image each.
"""

import collections
import contextlib
import dataclasses
import io
import itertools
import operator
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
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
from edvr_jax.media.write.spool import Spool

# A part holds about so many pixels: what a kill may cost, against the key frame that
# each part begins with.
_PART_PIXELS = 2**26
_MIN_FRAMES, _MAX_FRAMES = 8, 240
_LONGEST_DELAY = 3600  # seconds from decoding a frame to showing it
# NUT keeps every time and packet as it is; the few encoders that it does not know
# write packets that MOV does not change either.
# NUT drops the transparency of VP8 and VP9; Matroska rounds the times, which here only
# order the frames.
_MUXERS = {"nut": ".nut", "mov": ".mov", "matroska": ".mkv"}

_IMAGE_OPTIONS = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],  # lossless
}
_DEEP_FORMATS = (".png", ".tif", ".tiff")


def segment_encoding(path: Path, encoding: Encoding) -> Encoding:
    """Return how the parts of a file are encoded: losslessly if it is encoded last."""
    if not CONTAINERS[path.suffix.lower()].is_encoded_last:
        return encoding
    opaque = "gbrp16le" if encoding.is_high_bit_depth else "bgr0"
    return dataclasses.replace(
        encoding,
        codec="ffv1",
        pix_fmt="bgra" if encoding.with_alpha else opaque,
        options=(),
        colors=Colors(matrix=0, range=2),
    )


class SegmentedVideo:
    """A video stream that grows on disk.

    Attributes:
        folder: Where the parts are.
        encoding: How frames are encoded.
        num_frames: Frames that need not be restored again after a kill, as of when the
            parts were opened.
        num_written: Frames written so far.
    """

    def __init__(
        self,
        folder: Path,
        path: Path,
        encoding: Encoding,
        size: tuple[int, int],
        *,
        fps: Fraction,
        time_base: Fraction,
        is_resumable: bool = True,
    ):
        """Find the finished parts in a folder, and remove an unfinished one.

        Args:
            folder: Exists.
            path: The output, as the user knows it.
            encoding: How frames are encoded.
            size: Height and width of the frames.
            fps: Mean frames per second.
            time_base: Seconds of one unit of the frames' times.
            is_resumable: Keep the frames of an unfinished part, too.
        """
        self.folder, self.encoding = folder.absolute(), encoding
        self.size, self.fps, self.time_base = size, fps, time_base
        self._path = path
        self._length = max(
            _MIN_FRAMES, min(_MAX_FRAMES, _PART_PIXELS // (size[0] * size[1]))
        )
        self._muxer = _choose_muxer(encoding)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._num_in_part = 0
        self._latest: int | None = None  # when the last packet is decoded
        self._is_short = False
        with files.report_failure(path):
            for part in (self._unfinished, self._short):
                part.unlink(missing_ok=True)
            self._num_parts = 0
            while self._part(self._num_parts).exists():
                self._num_parts += 1
            self._spool = Spool(folder, self._num_parts) if is_resumable else None
        for image, time in self._spool.load() if self._spool else ():
            self._encode(image, time)
        self.num_frames = self.num_written

    @property
    def dtype(self) -> np.dtype:
        """Type of the frames that are written."""
        return self.encoding.dtype

    @property
    def num_written(self) -> int:
        """Frames written so far, in an unfinished part too."""
        return self._num_parts * self._length + self._num_in_part

    def write(self, image: np.ndarray, *, time: int) -> None:
        """Append a frame, RGB or RGBA, of the encoding's type, shown at a time.

        Raises:
            InputError: if the disk is full.
        """
        self._encode(image, time)
        with files.report_failure(self._path):
            if self._num_in_part < self._length:
                if self._spool is not None:
                    self._spool.add(image, time)
                return
            self._finish(self._part(self._num_parts))
            self._num_parts += 1
            self._num_in_part = 0
            if self._spool is not None:
                self._spool = Spool(self.folder, self._num_parts)

    def _encode(self, image: np.ndarray, time: int) -> None:
        with files.report_failure(self._path, FFmpegError):
            if self._container is None:
                self._open()
            assert self._container is not None
            assert self._stream is not None
            packets = encode.encode(
                self._stream,
                image,
                colors=self.encoding.colors,
                time=time,
                time_base=self.time_base,
            )
            self._mux(packets)
            self._num_in_part += 1

    def _mux(self, packets: list[Packet]) -> None:
        """Write packets; of one or two frames x265 tells no time of decoding."""
        assert self._container is not None
        for packet in packets:
            if not self._has_times(packet):
                packet.dts = packet.pts
            self._latest = packet.dts
            self._container.mux_one(packet)

    def _has_times(self, packet: Packet) -> bool:
        pts, dts = packet.pts, packet.dts
        if pts is None or dts is None:
            return False
        is_later = self._latest is None or dts > self._latest
        return is_later and 0 <= (pts - dts) * self.time_base <= _LONGEST_DELAY

    def finish(self) -> None:
        """End the last part, which may be short; nothing can be written after it."""
        if self._num_in_part:
            self._finish(self._short)
            self._is_short = True

    def close(self) -> None:
        """Let go of an unfinished part."""
        if self._container is not None:
            with contextlib.suppress(OSError, FFmpegError):
                self._container.close()
            self._container = None

    def paths(self) -> list[Path]:
        """Return the files of the parts, in order."""
        paths = [self._part(i) for i in range(self._num_parts)]
        return [*paths, self._short] if self._is_short else paths

    def packets(self, timeline: Timeline) -> Iterator[Packet]:
        """Yield the packets of all parts in the order in which they are decoded.

        Args:
            timeline: When each frame is shown.
        """
        # These formats add up the steps of decoding to a stream's duration.
        adds_up = CONTAINERS[self._path.suffix.lower()].muxer in ("mp4", "mov")
        ranks = (rank for rank, _ in self._ranked_packets())
        delay = max((index - rank for index, rank in enumerate(ranks)), default=0)
        for index, (rank, packet) in enumerate(self._ranked_packets()):
            packet.pts, packet.duration = timeline.span(rank)
            # Decoding times rise and are not after the times shown.
            packet.dts = timeline.before(index, delay)
            if adds_up and index == len(timeline.times) - 1:
                lag = timeline.times[0] - timeline.before(0, delay)
                packet.duration = max(1, timeline.end - packet.dts - lag)
            yield packet

    def images(self) -> Iterator[np.ndarray]:
        """Decode the frames of all parts, RGB, [H, W, 3], or RGBA."""
        for path in self.paths():
            with av.open(str(path)) as container:
                for frame in container.decode(video=0):
                    yield frame.to_ndarray(format=self.encoding.layout)

    def _ranked_packets(self) -> Iterator[tuple[int, Packet]]:
        """Yield packets with the index of the frame that each holds."""
        first = 0
        for path in self.paths():
            with av.open(str(path)) as container:
                packets = [p for p in container.demux(video=0) if p.size]
                order = sorted(range(len(packets)), key=lambda i: packets[i].pts or 0)
                ranks = dict(zip(order, itertools.count(first), strict=False))
                for index, packet in enumerate(packets):
                    yield ranks[index], packet
            first += len(packets)

    def _part(self, index: int) -> Path:
        return self.folder / f"{index:06}{_MUXERS[self._muxer]}"

    @property
    def _unfinished(self) -> Path:
        return self.folder / f"unfinished{_MUXERS[self._muxer]}"

    @property
    def _short(self) -> Path:
        return self.folder / f"short{_MUXERS[self._muxer]}"

    def _open(self) -> None:
        self._latest = None
        self._unfinished.touch()  # tells what is wrong with a path better than FFmpeg
        self._container = cast(
            OutputContainer, av.open(str(self._unfinished), "w", format=self._muxer)
        )
        self._stream = encode.add_stream(
            self._container,
            self.encoding,
            self.size,
            fps=self.fps,
            time_base=self.time_base,
        )

    def _finish(self, path: Path) -> None:
        assert self._container is not None
        assert self._stream is not None
        with files.report_failure(self._path, FFmpegError):
            self._mux(self._stream.encode(None))
            self._container.close()
            self._container = None
            files.put_in_place(self._unfinished, path)


def _choose_muxer(encoding: Encoding) -> str:
    codec = encoding.codec
    if encoding.with_alpha and alpha.is_beside(codec):
        return "matroska"
    for muxer in ("nut", "mov"):
        with av.open(io.BytesIO(), "w", format=muxer) as probe:
            if codec in cast(OutputContainer, probe).supported_codecs:
                return muxer
    raise InputError(f"{codec} cannot be written in parts; choose another --codec")


class ImageFolder:
    """Images in a folder.

    Attributes:
        folder: Where the images are.
        dtype: Type of the frames that are written.
    """

    def __init__(
        self,
        folder: Path,
        path: Path,
        names: Sequence[str],
        suffix: str,
        *,
        is_high_bit_depth: bool = False,
    ):
        """Find the images that are there.

        Args:
            folder: Exists.
            path: The output, as the user knows it.
            names: Names of the frames, their suffix does not matter; after the last of
                them frames are numbered.
            suffix: Format of the images: .png, .tif, .tiff, .webp or .jpg.
            is_high_bit_depth: Write 16 bits if the format has them.

        Raises:
            InputError: if two frames would have one name.
        """
        self.folder = folder
        is_high_bit_depth = is_high_bit_depth and suffix in _DEEP_FORMATS
        self.dtype = np.dtype(np.uint16 if is_high_bit_depth else np.uint8)
        self._path, self._suffix = path, suffix
        self._names = [f"{Path(name).stem}{suffix}" for name in names]
        name, count = max(
            collections.Counter(self._names).items(),
            key=operator.itemgetter(1),
            default=("", 0),
        )
        if count > 1:
            raise InputError(
                f"{path}: two input frames would both become {name}; rename one"
            )
        for name in self._names:
            files.check_name(path / name, folder / name)
        self.num_frames = 0
        while (folder / self._name(self.num_frames)).exists():
            self.num_frames += 1

    @property
    def num_written(self) -> int:
        """Frames written so far."""
        return self.num_frames

    def write(self, image: np.ndarray, *, time: int) -> None:
        """Add a frame, RGB, [H, W, 3], or RGBA, [H, W, 4], uint8 or uint16.

        Raises:
            InputError: if the disk is full.
        """
        del time
        has_alpha = image.shape[2] == 4
        order = cv2.COLOR_RGBA2BGRA if has_alpha else cv2.COLOR_RGB2BGR
        bgr = cv2.cvtColor(image, order)
        options = _IMAGE_OPTIONS.get(self._suffix, [])
        is_encoded, data = cv2.imencode(self._suffix, bgr, options)
        if not is_encoded:
            height, width = image.shape[:2]
            raise InputError(
                f"{self._path}: {self._suffix} cannot store frames of {width}x{height};"
                " give another --image-format"
            )
        target = self.folder / self._name(self.num_frames)
        with files.report_failure(self._path):
            temporary = target.with_name(f".unfinished{target.suffix}")
            temporary.write_bytes(data.tobytes())
            files.put_in_place(temporary, target)
        self.num_frames += 1

    def finish(self) -> None:
        """Do nothing: every frame is on disk already."""

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _name(self, index: int) -> str:
        if index < len(self._names):
            return self._names[index]
        return f"{index:08d}{self._suffix}"
