"""The frames of a clip with all that the output keeps of it: times, colours, depth."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from edvr_jax.data import images, video
from edvr_jax.data.completeness import Damage
from edvr_jax.errors import InputError

# Formats in which a seek finds the key frame before a time.
_SEEKABLE = ("mp4", "matroska")
_SEEK_MARGIN = 2  # seconds
_MAX_JUMP = 1  # seconds back that a frame's time may lie; less is repaired
# Encoders such as MPEG-4 store a frame's duration in 16 bits.
_MAX_RATE = 65535


@dataclasses.dataclass(frozen=True)
class Colors:
    """How RGB is meant and stored as YUV, by FFmpeg's numbers.

    Attributes:
        matrix: RGB to YUV.
        range: Levels 16 to 235 (1, MPEG) or all (2, JPEG).
        primaries: What red, green and blue are.
        transfer: From light to levels.
    """

    matrix: int = int(Colorspace.ITU709)
    range: int = int(ColorRange.MPEG)
    primaries: int = int(ColorPrimaries.BT709)
    transfer: int = int(ColorTrc.BT709)


@dataclasses.dataclass(frozen=True)
class Trim:
    """The part of a clip that is wanted.

    Attributes:
        start: Seconds from the clip's beginning; frames from there on count.
        end: Seconds from the clip's beginning; None is its end.
        max_frames: At most so many frames; None is all.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    max_frames: int | None = None

    def __post_init__(self):
        """Check that something may be left."""
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise InputError("the end must lie after the start, and both after 0")
        if self.max_frames is not None and self.max_frames < 1:
            raise InputError(f"at least one frame is needed, not {self.max_frames}")


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When the frames of a clip are shown.

    Attributes:
        times: Of each frame, in units of the time base, rising.
        end: When the last one is no longer shown.
        time_base: Seconds of one unit.
        fps: Mean frames per second.
    """

    times: Sequence[int]
    end: int
    time_base: Fraction
    fps: Fraction

    @property
    def seconds(self) -> Fraction:
        """When the last frame is no longer shown."""
        return self.end * self.time_base

    def span(self, index: int) -> tuple[int, int]:
        """Return when a frame is shown and for how long."""
        is_last = index == len(self.times) - 1
        end = self.end if is_last else self.times[index + 1]
        return self.times[index], end - self.times[index]

    def on_clock(self, time_base: Fraction) -> "Timeline":
        """Return the same times on a coarser clock, no two of them equal."""

        def convert(time: int) -> int:
            return round(time * self.time_base / time_base)

        times: list[int] = []
        for time in self.times:
            earliest = times[-1] + 1 if times else 0
            times.append(max(convert(time), earliest))
        end = max(convert(self.end), times[-1] + 1)
        return Timeline(times, end, time_base, self.fps)

    def before(self, index: int, delay: int) -> int:
        """Return the time of the frame ``delay`` before one, also before the first."""
        if index >= delay:
            return self.times[index - delay]
        return self.times[0] - (delay - index) * self.span(0)[1]


class Source:
    """A clip that is read once, from its first frame; close it when done.

    Attributes:
        path: The video file or the folder of frames; "-" for a pipe.
        size: Height and width of the frames.
        dtype: uint8, or uint16 for a clip of more than 8 bits.
        fps: Mean frames per second.
        time_base: Seconds of one unit of ``times``.
        times: When each frame read so far is shown, in units of the time base, the
            beginning of the clip, or of the part of it, being 0.
        last_duration: How long the last frame read is shown, in the same units.
        origin: Seconds on the file's own clock at that beginning.
        end: Seconds on the file's own clock where the part ends; None is its end.
        num_frames: About how many frames there are; None if it is not known.
        colors: How the file stores colours.
        pixel_aspect: Width over height of a pixel.
        is_interlaced: Every frame holds two half pictures of different times.
        names: File names of a folder's frames.
        is_pipe: The clip cannot be read a second time.
        damage: Frames that the decoder left out or guessed, once all was read.
    """

    def __init__(
        self,
        path: Path,
        trim: Trim | None = None,
        *,
        fps: Fraction = Fraction(25),
        pipe: BinaryIO | None = None,
        output_without_times: Path | None = None,
    ):
        """Open a clip and read its first frame.

        Args:
            path: A video file, or a folder of frames in natural order.
            trim: What part of it is wanted; None is all.
            fps: Frames per second of a folder.
            pipe: What to read YUV4MPEG2 from, instead of the path.
            output_without_times: An output whose format has only a frame rate; frames
                are counted, and must be shown for equal times.

        Raises:
            InputError: if there is nothing that can be read as a clip.
        """
        self.path = path
        self.times: list[int] = []
        self.last_duration = 1
        self.origin = Fraction(0)
        self.end: Fraction | None = None
        self.num_frames: int | None = None
        self.colors = Colors()
        self.pixel_aspect = Fraction(1)
        self.is_interlaced = False
        self.names: tuple[str, ...] = ()
        self.is_pipe = pipe is not None
        self.damage = Damage()
        self._trim = trim or Trim()
        self._without_times = output_without_times
        self._exit = contextlib.ExitStack()
        if path.is_fifo():
            raise InputError(f"{path}: this is a pipe; give - and lead it to stdin")
        if pipe is None and video.open_clip(path).frame_paths:
            frames = self._open_folder(fps)
        else:
            frames = self._open_video(pipe)
        first = next(frames, None)
        if first is None:
            self.close()
            raise InputError(f"{path}: no frame lies between this start and end")
        self.size = first.shape[:2]
        self.dtype = first.dtype
        self._frames = itertools.chain([first], frames)

    def close(self) -> None:
        """Close the file."""
        self._exit.close()

    def timeline(self, num_frames: int) -> Timeline:
        """Return when the first frames are shown; they have been read."""
        times = self.times[:num_frames]
        end = times[-1] + self.last_duration
        if num_frames < len(self.times):
            end = self.times[num_frames]
        return Timeline(times, end, self.time_base, self.fps)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames, RGB, [H, W, 3].

        Raises:
            InputError: if a frame is damaged or of another size or depth, or if the
                video ends early; the frames before it were yielded.
        """
        for index, frame in enumerate(self._frames):
            name = self.names[index] if self.names else f"frame {index}"
            images.check_size(frame.shape, self.size, f"{self.path}: {name}")
            images.check_depth(frame.dtype, self.dtype, f"{self.path}: {name}")
            yield frame

    def _open_folder(self, fps: Fraction) -> Iterator[np.ndarray]:
        self.fps, self.time_base = fps, 1 / fps
        trim = self._trim
        last = None if trim.end is None else _ceil(trim.end * fps)
        paths = video.open_clip(self.path).frame_paths[_ceil(trim.start * fps) : last]
        paths = paths[: trim.max_frames]
        self.names = tuple(path.name for path in paths)
        self.num_frames = len(paths)
        # A damaged frame should not end a job after hours.
        images.check_all(paths)
        for index, path in enumerate(paths):
            self.times.append(index)
            yield images.read_image(path, any_depth=True)

    def _open_video(self, pipe: BinaryIO | None) -> Iterator[np.ndarray]:
        container, stream = self._exit.enter_context(
            video.open_container(self.path, pipe)
        )
        trim = self._trim
        assert stream.time_base is not None
        self.fps = video.frame_rate(stream)
        self.time_base = stream.time_base
        beginning = Fraction(container.start_time or 0, av.time_base)
        self.origin = beginning + trim.start
        self.end = None if trim.end is None else beginning + trim.end
        self.num_frames = self._estimate(stream)
        if stream.sample_aspect_ratio:
            self.pixel_aspect = stream.sample_aspect_ratio
        if trim.start:
            seek_before(container, stream, self.origin - _SEEK_MARGIN)
        shown = self._timed(container, stream)
        if self._without_times is not None:
            if pipe is None:
                self._check_rate(stream.time_base)
            shown = self._counted(shown, stream.time_base)
        is_first = True
        for frame, time, self.last_duration in shown:
            if is_first:
                self._read_tags(frame)
                is_first = False
            self.times.append(time)
            yield video.to_rgb(frame, any_depth=True)
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
        frames = video.decode_stream(self.path, container, stream, self._keep_damage)
        for frame in frames:
            time = frame.pts
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

    def _keep_damage(self, damage: Damage) -> None:
        self.damage = damage

    def _check_jump(self, seconds: Fraction, time: Fraction) -> None:
        """Refuse times that jump back, after which sound and picture have no order."""
        if seconds > _MAX_JUMP:
            raise InputError(
                f"{self.path}: at {float(time):.1f} s the times of the frames jump "
                f"back by {float(seconds):.1f} s, as in files joined of several; write "
                "it anew first, with ffmpeg -i IN -c copy OUT.mkv"
            )

    def _counted(
        self, shown: Iterator[tuple[VideoFrame, int, int]], unit: Fraction
    ) -> Iterator[tuple[VideoFrame, int, int]]:
        """Count frames instead of timing them.

        Raises:
            InputError: if one is off by more than half of a frame.
        """
        step = self._step(unit)
        self.time_base = (1 / self.fps).limit_denominator(_MAX_RATE)
        self.fps = 1 / self.time_base
        first = None
        for index, (frame, time, _) in enumerate(shown):
            if first is None:
                first = time
                self.origin += first * unit
            self._check_turn(index, time - first, step)
            yield frame, index, 1

    def _check_rate(self, unit: Fraction) -> None:
        """Check all frames before the first is restored, if the file tells their times.

        Raises:
            InputError: as :meth:`_counted`.
        """
        with video.open_container(self.path) as (container, stream):
            packets = [(p.pts, p.size, p.is_discard) for p in container.demux(stream)]
        times = [time for time, size, is_cut in packets if size and not is_cut]
        known = sorted(time for time in times if time is not None)
        if len(known) < len(times):
            return
        start, end = self._trim.start, self.end
        known = [time for time in known if not start or time * unit >= self.origin]
        known = [time for time in known if end is None or time * unit < end]
        for index, time in enumerate(known[: self._trim.max_frames]):
            self._check_turn(index, time - known[0], self._step(unit))

    def _step(self, unit: Fraction) -> Fraction:
        return 1 / (self.fps * unit)

    def _check_turn(self, index: int, time: int, step: Fraction) -> None:
        if abs(time - index * step) > max(1, step / 2):
            raise InputError(
                f"{self._without_times}: this format has one frame rate, but frame "
                f"{index} of {self.path} is not shown when its turn is; write .mp4 "
                "or .mkv"
            )

    def _estimate(self, stream: VideoStream) -> int | None:
        num_frames, trim = video.count_frames(stream), self._trim
        if num_frames is not None:
            first = _ceil(trim.start * self.fps)
            if trim.end is not None:
                num_frames = min(num_frames, _ceil(trim.end * self.fps))
            num_frames = max(1, num_frames - first)
            return min(num_frames, trim.max_frames or num_frames)
        return trim.max_frames

    def _read_tags(self, frame: VideoFrame) -> None:
        self.is_interlaced = frame.interlaced_frame
        quarter_turns, _ = video.orientation(frame)
        if quarter_turns % 2:
            self.pixel_aspect = 1 / self.pixel_aspect
        matrix = video.matrix_of(frame)
        if matrix is None:
            return
        is_full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith(
            "yuvj"
        )
        self.colors = Colors(
            matrix=matrix,
            range=int(ColorRange.JPEG if is_full else ColorRange.MPEG),
            primaries=int(frame.color_primaries),
            transfer=int(frame.color_trc),
        )


def seek_before(container: InputContainer, stream: VideoStream, time: Fraction) -> None:
    """Go to the key frame before a time on the file's clock, if its format has that."""
    beginning = Fraction(container.start_time or 0, av.time_base)
    is_possible = any(name in container.format.name for name in _SEEKABLE)
    if is_possible and time > beginning and stream.time_base:
        container.seek(int(time / stream.time_base), stream=stream)


def _ceil(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)
