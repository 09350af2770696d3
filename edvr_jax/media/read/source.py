"""The frames of a clip and what the output keeps of them: times, colors, bit depth."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edvr_jax.errors import InputError
from edvr_jax.media.read import (
    alpha,
    colors,
    decode,
    frame_rgb,
    frame_times,
    images,
    pixels,
    traits,
    video_streams,
)
from edvr_jax.media.read.colors import Colors
from edvr_jax.media.read.timeline import Timeline, Trim
from edvr_jax.media.read.truncation import DecodeMonitor, announced_frames

_SEEK_MARGIN = 2  # seconds
_NUM_PACKETS = 250  # whose mean size stands for the video's


def open_source(
    path: Path,
    trim: Trim | None = None,
    *,
    fps: Fraction = Fraction(25),
    pipe: BinaryIO | None = None,
    video_stream: int | None = None,
) -> "Source":
    """Open a clip and read its first frame.

    Args:
        path: A video file, or a folder of frames in natural order.
        trim: The part to read; None is the whole clip.
        fps: Frames per second of a folder.
        pipe: Read YUV4MPEG2 from this file instead; ``path`` only names it.
        video_stream: Number of the stream in a video file; None chooses it.

    Raises:
        InputError: if there is no clip that can be read, or it has no such frames.
    """
    trim = trim or Trim()
    if path.is_fifo():
        raise InputError(f"{path}: this is a pipe; give - and connect it to stdin")
    if pipe is None and path.is_dir():
        return ImageFolderSource(path, trim, fps)
    return VideoSource(path, trim, pipe, video_stream)


class Source:
    """A clip whose frames are read one by one; close it when done.

    Attributes:
        path: The video file or the folder of frames; for a pipe, its name in messages.
        size: Height and width of the frames.
        dtype: uint8, or uint16 for a clip of more than 8 bits.
        fps: Mean frames per second.
        time_base: Seconds of one unit of ``times``.
        times: When each frame is shown, for a video those read so far, in units of the
            time base, counted from the start of the clip or of the part to read.
        num_frames: Number of frames; None if it is unknown.
        is_estimate: ``num_frames`` follows from a duration, not from a count.
        has_alpha: The frames have a fourth channel, transparency.
        colors: How the file stores colors.
        pixel_aspect: Width over height of a pixel.
        traits: What the frames seen so far carry beside colors, see traits.find.
        changes: Where the video changed its size or bit depth so far, and to what.
        names: File names of a folder's frames; empty for a video.
        origin: Seconds on the video file's clock where ``times`` start.
        is_pipe: The clip cannot be read a second time.
        video_stream: Number of the stream in the video file.
        video_streams: Number and size of all its video streams.
        skip: Frames before this one are yielded black, without converting them.
        monitor: What was decoded so far, and what the container announces; None for a
            folder of frames.
    """

    size: tuple[int, int]
    dtype: np.dtype
    num_frames: int | None = None
    is_estimate = False
    has_alpha = False
    colors = Colors()
    pixel_aspect = Fraction(1)
    names: Sequence[str] = ()
    origin = Fraction(0)
    is_pipe = False
    video_stream: int | None = None
    video_streams: Sequence[str] = ()
    skip = 0
    monitor: DecodeMonitor | None = None

    def __init__(self, path: Path, fps: Fraction, time_base: Fraction):
        self.path, self.fps, self.time_base = path, fps, time_base
        self.times: list[int] = []
        self.traits: set[str] = set()
        self.changes: list[str] = []
        self._last_duration = 1  # how long the last frame read is shown

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames, RGB or RGBA, [H, W, 3 or 4], all of the same size.

        Raises:
            InputError: if a frame cannot be read; the frames before it were yielded.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""

    def check(self) -> None:
        """Look for what would stop the job later, as far as that is cheap.

        Raises:
            InputError: if an image of a folder cannot be read, or differs in size or
                bit depth.
        """

    def look_ahead(self) -> None:
        """Add the traits of some later frames, if the video can be searched."""

    def bits_per_pixel(self) -> float | None:
        """Return the bits of the file per pixel, over the first frames of the part.

        None for images and pipes.
        """

    def timeline(self, num_frames: int) -> Timeline:
        """Return when the first frames are shown; they must have been read."""
        times = self.times[:num_frames]
        end = times[-1] + self._last_duration
        if num_frames < len(self.times):
            end = self.times[num_frames]
        return Timeline(times, end, self.time_base, self.fps)


class ImageFolderSource(Source):
    """The images of a folder, in natural order, at a given rate."""

    def __init__(self, path: Path, trim: Trim, fps: Fraction):
        super().__init__(path, fps, 1 / fps)
        self._paths = trim.select(images.list_frames(path), fps)
        if not self._paths:
            raise _no_frame_between(path)
        self.names = [path.name for path in self._paths]
        self.num_frames = len(self._paths)
        self.times = list(range(self.num_frames))
        self.has_alpha = any(map(images.has_alpha, self._paths))
        first = self._read(self._paths[0])
        self.size, self.dtype = first.shape[:2], first.dtype

    def __iter__(self) -> Iterator[np.ndarray]:
        for index, path in enumerate(self._paths):
            if index < self.skip:
                yield np.zeros((*self.size, 4 if self.has_alpha else 3), self.dtype)
                continue
            image = self._read(path)
            pixels.check_size(image.shape, self.size, path)
            pixels.check_depth(image.dtype, self.dtype, path)
            yield image

    def check(self) -> None:
        """Check that all images can be read and have one size and bit depth."""
        images.check_all(self._paths)

    def _read(self, path: Path) -> np.ndarray:
        return images.read_image(path, keep_bit_depth=True, with_alpha=self.has_alpha)


class VideoSource(Source):
    """The frames of a video file, or of YUV4MPEG2 from a pipe; they are read once.

    If the size or bit depth changes in mid stream, frames are converted to those of the
    first one, as players and FFmpeg do.
    """

    def __init__(
        self, path: Path, trim: Trim, pipe: BinaryIO | None, video_stream: int | None
    ):
        with contextlib.ExitStack() as stack:
            opened = decode.open_container(path, pipe, index=video_stream)
            container, stream = stack.enter_context(opened)
            assert stream.time_base is not None
            super().__init__(path, decode.frame_rate(stream), stream.time_base)
            self.is_pipe = pipe is not None
            self.video_stream = stream.index
            listed = video_streams.list_all(container)
            self.video_streams = [video_streams.describe(other) for other in listed]
            self._trim = trim
            beginning = Fraction(container.start_time or 0, av.time_base)
            self.origin = beginning + trim.start
            self._end = None if trim.end is None else beginning + trim.end
            self._count_frames(container, stream)
            from_start = not trim.start
            self.monitor = DecodeMonitor(container, stream, is_from_start=from_start)
            frames = self._decode(container, stream, self.monitor)
            first = next(frames, None)
            if first is None:
                if not self.monitor.num_frames:
                    raise InputError(
                        f"{path}: the video has no frames; is it complete?"
                    )
                raise _no_frame_between(path)
            self.size, self.dtype = first.shape[:2], first.dtype
            self._frames = itertools.chain([first], frames)
            self._exit = stack.pop_all()

    def __iter__(self) -> Iterator[np.ndarray]:
        before = self.size, self.dtype
        for index, frame in enumerate(self._frames):
            found = frame.shape[:2], frame.dtype
            if found != before:
                seconds = float(self.times[index] * self.time_base)
                kind = pixels.describe(*found)
                self.changes.append(f"frame {index} ({seconds:.2f} s) to {kind}")
            before = found
            yield pixels.resize(pixels.to_levels(frame, self.dtype), self.size)

    def close(self) -> None:
        """Close the file."""
        self._exit.close()

    def look_ahead(self) -> None:
        """Add the traits of some key frames from all over the file."""
        if self.is_pipe or self._trim.max_frames is not None:
            return
        opened = decode.open_container(self.path, index=self.video_stream)
        for frame in traits.sample(opened, self.origin, self._end):
            self.traits |= traits.find(frame)
            if sorted((frame.height, frame.width)) != sorted(self.size):
                self.traits.add(traits.RESIZED)

    def bits_per_pixel(self) -> float | None:
        """Return the mean size of the first packets over the pixels of a frame."""
        if self.is_pipe:
            return None
        opened = decode.open_container(self.path, index=self.video_stream)
        with opened as (container, stream):
            decode.seek_before(container, stream, self.origin)
            sizes = []
            with contextlib.suppress(FFmpegError):  # damage is reported later
                packets = itertools.islice(container.demux(stream), _NUM_PACKETS)
                sizes = [packet.size for packet in packets if packet.size]
        height, width = self.size
        return 8 * sum(sizes) / (len(sizes) * height * width) if sizes else None

    def _count_frames(self, container: InputContainer, stream: VideoStream) -> None:
        count, most = decode.count_frames(container, stream), self._trim.max_frames
        if count is None:
            self.num_frames = most
            return
        self.num_frames = max(1, len(self._trim.select(range(count), self.fps)))
        is_counted = announced_frames(container, stream) is not None
        self.is_estimate = not is_counted and self.num_frames != most

    def _decode(
        self, container: InputContainer, stream: VideoStream, monitor: DecodeMonitor
    ) -> Iterator[np.ndarray]:
        """Decode the frames of the part; note their times and traits."""
        if self._trim.start:
            decode.seek_before(container, stream, self.origin - _SEEK_MARGIN)
        decoder = alpha.create_decoder(self.path, stream)
        frames = decode.decode_stream(self.path, container, stream, monitor, decoder)
        offset = round(self.origin / self.time_base)
        usual = max(1, round(1 / (self.fps * self.time_base)))
        for frame, time in frame_times.repair(
            frames,
            self.path,
            first=round((self.origin - self._trim.start) / self.time_base),
            usual=usual,
            time_base=self.time_base,
            is_avi=container.format.name == "avi",
        ):
            if time * self.time_base < self.origin and self._trim.start:
                continue
            if self._end is not None and time * self.time_base >= self._end:
                return
            if not self.times:
                self._read_tags(frame, stream)
            self.traits |= traits.find(frame)
            self.times.append(time - offset)
            self._last_duration = int(frame.duration or 0) or usual
            is_skipped = len(self.times) <= self.skip
            convert = frame_rgb.blank if is_skipped else frame_rgb.to_rgb
            yield convert(frame, keep_bit_depth=True, with_alpha=self.has_alpha)
            if len(self.times) == self._trim.max_frames:
                return
        if self.times:
            end = round(monitor.end / self.time_base) - offset
            self._last_duration = max(self._last_duration, end - self.times[-1])

    def _read_tags(self, frame: VideoFrame, stream: VideoStream) -> None:
        self.has_alpha = alpha.is_in(frame)
        self.colors = colors.of_frame(frame)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        is_turned = frame_rgb.orientation(frame)[0] % 2
        self.pixel_aspect = 1 / aspect if is_turned else aspect


def _no_frame_between(path: Path) -> InputError:
    return InputError(f"{path}: no frame is between this start and end")
