"""The frames of a clip with all that the output keeps of it: times, colours, depth."""

import contextlib
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edvr_jax.errors import InputError
from edvr_jax.media.read import (
    alpha,
    clip_reader,
    decode,
    frame_rgb,
    images,
    pixels,
    traits,
    video_streams,
)
from edvr_jax.media.read.colors import Colors
from edvr_jax.media.read.timeline import Timeline, Trim
from edvr_jax.media.read.truncation import DecodeMonitor, announced_frames

# Formats in which a seek finds the key frame before a time.
_SEEKABLE = ("mp4", "matroska")
_SEEK_MARGIN = 2  # seconds
_MAX_JUMP = 1  # seconds back that a frame's time may lie; less is repaired


class Source:
    """A clip that is read once, from its first frame; close it when done.

    Attributes:
        path: The video file or the folder of frames; for a pipe, what messages call it.
        size: Height and width of the frames.
        dtype: uint8, or uint16 for a clip of more than 8 bits.
        has_alpha: The frames have a fourth channel, transparency.
        fps: Mean frames per second.
        time_base: Seconds of one unit of ``times``.
        times: When each frame read so far is shown, in units of the time base, the
            beginning of the clip, or of the part of it, being 0.
        last_duration: How long the last frame read is shown, in the same units.
        origin: Seconds on the file's own clock at that beginning.
        end: Seconds on the file's own clock where the part ends; None is its end.
        num_frames: About how many frames there are; None if it is not known.
        is_estimate: That number follows from the seconds, not from a count.
        colors: How the file stores colours.
        pixel_aspect: Width over height of a pixel.
        traits: What frames seen so far carry beside colors, see traits.find.
        names: File names of a folder's frames.
        is_pipe: The clip cannot be read a second time.
        changes: Where the video changed its size or depth so far, and to what.
        video_stream: Number of the stream in the video file.
        video_streams: Number and size of all its video streams.
        monitor: What was decoded so far, and what the container announces; None for a
            folder of frames.
    """

    def __init__(
        self,
        path: Path,
        trim: Trim | None = None,
        *,
        fps: Fraction = Fraction(25),
        pipe: BinaryIO | None = None,
        video_stream: int | None = None,
    ):
        """Open a clip and read its first frame.

        Args:
            path: A video file, or a folder of frames in natural order.
            trim: What part of it is wanted; None is all.
            fps: Frames per second of a folder.
            pipe: What to read YUV4MPEG2 from, instead of the path.
            video_stream: Number of a video's stream; None chooses it.

        Raises:
            InputError: if there is nothing that can be read as a clip.
        """
        self.path = path
        self.times: list[int] = []
        self.last_duration = 1
        self.origin = Fraction(0)
        self.end: Fraction | None = None
        self.num_frames: int | None = None
        self.is_estimate = False
        self.colors = Colors()
        self.pixel_aspect = Fraction(1)
        self.traits: set[str] = set()
        self.has_alpha = False
        self.names: tuple[str, ...] = ()
        self.is_pipe = pipe is not None
        self.changes: list[str] = []
        self.video_stream = video_stream
        self.video_streams: list[str] = []
        self.monitor: DecodeMonitor | None = None
        self._trim = trim or Trim()
        self._exit = contextlib.ExitStack()
        if path.is_fifo():
            raise InputError(f"{path}: this is a pipe; give - and lead it to stdin")
        is_folder = pipe is None and path.is_dir()
        frames = self._open_folder(fps) if is_folder else self._open_video(pipe)
        try:
            first = next(frames, None)
            if first is None and self.monitor and not self.monitor.num_frames:
                raise InputError(f"{path}: the video has no frames; is it complete?")
            if first is None:
                raise InputError(f"{path}: no frame is between this start and end")
        except InputError:
            self.close()
            raise
        self.size = first.shape[:2]
        self.dtype = first.dtype
        self._frames = itertools.chain([first], frames)

    def close(self) -> None:
        """Close the file."""
        self._exit.close()

    def check(self) -> None:
        """Look for what would end the work later, as far as that is cheap.

        Raises:
            InputError: if an image of a folder cannot be read or differs in size or
                depth.
        """
        if self.names:
            images.check_all([self.path / name for name in self.names])

    def look_ahead(self) -> None:
        """Find traits of later frames, at some places, if the video can be searched."""
        if self.names or self.is_pipe or self._trim.max_frames is not None:
            return
        opened = decode.open_container(self.path, index=self.video_stream)
        for frame in traits.sample(opened, self.origin, self.end):
            self.traits |= traits.find(frame)
            if sorted((frame.height, frame.width)) != sorted(self.size):
                self.traits.add(traits.RESIZED)

    def timeline(self, num_frames: int) -> Timeline:
        """Return when the first frames are shown; they have been read."""
        times = self.times[:num_frames]
        end = times[-1] + self.last_duration
        if num_frames < len(self.times):
            end = self.times[num_frames]
        return Timeline(times, end, self.time_base, self.fps)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames, RGB or RGBA, [H, W, 3 or 4], sized as the first one.

        Frames of a video that differ in size or depth are converted, as players and
        FFmpeg do.

        Raises:
            InputError: if an image is of another size or depth, or if the video cannot
                be read past damage; the frames before it were yielded.
        """
        before = self.size, self.dtype
        for index, frame in enumerate(self._frames):
            found = frame.shape[:2], frame.dtype
            if self.names:
                name = self.path / self.names[index]
                pixels.check_size(frame.shape, self.size, name)
                pixels.check_depth(frame.dtype, self.dtype, name)
            elif found != before:
                seconds, kind = (
                    self.times[index] * self.time_base,
                    pixels.describe(*found),
                )
                self.changes.append(f"frame {index} ({float(seconds):.2f} s) to {kind}")
            before = found
            yield pixels.resize(pixels.to_levels(frame, self.dtype), self.size)

    def _open_folder(self, fps: Fraction) -> Iterator[np.ndarray]:
        self.fps, self.time_base = fps, 1 / fps
        trim = self._trim
        last = None if trim.end is None else _ceil(trim.end * fps)
        paths = clip_reader.open_clip(self.path).frame_paths[
            _ceil(trim.start * fps) : last
        ]
        paths = paths[: trim.max_frames]
        self.names = tuple(path.name for path in paths)
        self.num_frames = len(paths)
        self.has_alpha = any(images.has_alpha(path) for path in paths)
        for index, path in enumerate(paths):
            self.times.append(index)
            yield images.read_image(
                path, keep_bit_depth=True, with_alpha=self.has_alpha
            )

    def _open_video(self, pipe: BinaryIO | None) -> Iterator[np.ndarray]:
        container, stream = self._exit.enter_context(
            decode.open_container(self.path, pipe, index=self.video_stream)
        )
        self.video_stream = stream.index
        listed = video_streams.list_all(container)
        self.video_streams = [video_streams.describe(other) for other in listed]
        trim = self._trim
        assert stream.time_base is not None
        self.fps = decode.frame_rate(stream)
        self.time_base = stream.time_base
        beginning = Fraction(container.start_time or 0, av.time_base)
        self.origin = beginning + trim.start
        self.end = None if trim.end is None else beginning + trim.end
        self.num_frames = self._estimate(container, stream)
        if stream.sample_aspect_ratio:
            self.pixel_aspect = stream.sample_aspect_ratio
        self.monitor = DecodeMonitor(container, stream, is_from_start=not trim.start)
        if trim.start:
            seek_before(container, stream, self.origin - _SEEK_MARGIN)
        shown = self._timed(container, stream)
        is_first = True
        for frame, time, self.last_duration in shown:
            if is_first:
                self._read_tags(frame)
                is_first = False
            self.traits |= traits.find(frame)
            self.times.append(time)
            yield frame_rgb.to_rgb(
                frame, keep_bit_depth=True, with_alpha=self.has_alpha
            )
            if len(self.times) == trim.max_frames:
                return

    def _timed(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[VideoFrame, int, int]]:
        """Yield the wanted frames, when each is shown and how long as far as known.

        In units of the stream; missing and equal times are repaired.
        """
        unit = stream.time_base
        assert unit is not None
        offset = round(self.origin / unit)
        usual = max(1, round(1 / (self.fps * unit)))
        before = None
        is_avi = container.format.name == "avi"
        shift = 0
        assert self.monitor is not None
        decoder = alpha.create_decoder(self.path, stream)
        frames = decode.decode_stream(
            self.path, container, stream, self.monitor, decoder
        )
        for frame in frames:
            time = frame.pts
            if is_avi:  # stores when frames are decoded, and some come in another order
                if before is None:
                    shift = (frame.pts or 0) - (frame.dts or 0)
                time = None if frame.dts is None else frame.dts + shift
            if time is None:
                begin = round((self.origin - self._trim.start) / unit)
                time = begin if before is None else before + usual
            if before is not None and time <= before:
                self._check_jump((before - time) * unit, before * unit)
                time = before + 1
            before = time
            if time * unit < self.origin and self._trim.start:
                continue
            if self.end is not None and time * unit >= self.end:
                return
            yield frame, time - offset, int(frame.duration or 0) or usual
        if before is not None:
            end = round(self.monitor.end / unit)
            self.last_duration = max(self.last_duration, end - before)

    def _check_jump(self, seconds: Fraction, time: Fraction) -> None:
        """Refuse times that jump back, after which sound and picture have no order."""
        if seconds > _MAX_JUMP:
            raise InputError(
                f"{self.path}: at {float(time):.1f} s the times of the frames jump "
                f"back by {float(seconds):.1f} s, as in files joined of several; write "
                "it anew first, with ffmpeg -i IN -c copy OUT.mkv"
            )

    def _estimate(self, container: InputContainer, stream: VideoStream) -> int | None:
        num_frames, trim = decode.count_frames(container, stream), self._trim
        if num_frames is not None:
            first = _ceil(trim.start * self.fps)
            if trim.end is not None:
                num_frames = min(num_frames, _ceil(trim.end * self.fps))
            num_frames = max(1, num_frames - first)
            num_frames = min(num_frames, trim.max_frames or num_frames)
            is_counted = announced_frames(container, stream) is not None
            self.is_estimate = not is_counted and num_frames != trim.max_frames
            return num_frames
        return trim.max_frames

    def _read_tags(self, frame: VideoFrame) -> None:
        self.has_alpha = alpha.is_in(frame)
        quarter_turns, _ = frame_rgb.orientation(frame)
        if quarter_turns % 2:
            self.pixel_aspect = 1 / self.pixel_aspect
        matrix = frame_rgb.matrix_of(frame)
        if matrix is None:
            return
        self.colors = Colors(
            matrix=matrix,
            range=int(frame_rgb.range_of(frame)),
            primaries=int(frame.color_primaries),
            transfer=int(frame.color_trc),
            hdr=traits.mastering(frame),
        )


def seek_before(container: InputContainer, stream: VideoStream, time: Fraction) -> None:
    """Go to the key frame before a time on the file's clock, if its format has that."""
    beginning = Fraction(container.start_time or 0, av.time_base)
    is_possible = any(name in container.format.name for name in _SEEKABLE)
    if is_possible and time > beginning and stream.time_base:
        container.seek(int(time / stream.time_base), stream=stream)


def _ceil(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)
