"""When the frames of a clip are shown."""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

from edvr_jax.errors import InputError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When the frames of a clip are shown.

    Attributes:
        times: Of each frame, in units of the time base, rising.
        end: End of the last frame.
        time_base: Seconds of one unit.
        fps: Mean frames per second.
    """

    times: Sequence[int]
    end: int
    time_base: Fraction
    fps: Fraction

    @property
    def seconds(self) -> Fraction:
        """End of the last frame in seconds."""
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

    def at_fixed_rate(self) -> "Timeline":
        """Return the same frames, each shown for ``1 / fps``, the first one at 0."""
        count = len(self.times)
        return Timeline(range(count), count, 1 / self.fps, self.fps)

    def find_irregular(self) -> int | None:
        """Return the first frame that a fixed rate shows half a frame off; or None."""
        step = 1 / (self.fps * self.time_base)
        for index, time in enumerate(self.times):
            if abs(time - self.times[0] - index * step) > max(1, step / 2):
                return index
        return None

    def before(self, index: int, delay: int) -> int:
        """Return the time of the frame ``delay`` before one, also before the first."""
        if index >= delay:
            return self.times[index - delay]
        return self.times[0] - (delay - index) * self.span(0)[1]


@dataclasses.dataclass(frozen=True)
class Trim:
    """The part of a clip to read.

    Attributes:
        start: Seconds from the clip's beginning.
        end: Seconds from the clip's beginning; None is its end.
        max_frames: Largest number of frames; None is no limit.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None
    max_frames: int | None = None

    def __post_init__(self):
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise InputError("the end must be after the start, and both after 0")
        if self.max_frames is not None and self.max_frames < 1:
            raise InputError(f"at least one frame is needed, not {self.max_frames}")

    def select(self, frames: Sequence[T], fps: Fraction) -> Sequence[T]:
        """Return the frames of this part of a clip with a constant rate."""
        first = math.ceil(self.start * fps)
        last = None if self.end is None else math.ceil(self.end * fps)
        return frames[first:last][: self.max_frames]
