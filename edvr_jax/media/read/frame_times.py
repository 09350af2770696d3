"""When the decoded frames of a video are shown."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from av.video.frame import VideoFrame

from edvr_jax.errors import InputError

_MAX_JUMP = 1  # seconds; times that go back by less are repaired


def repair(
    frames: Iterator[VideoFrame],
    path: Path,
    *,
    first: int,
    usual: int,
    time_base: Fraction,
    is_avi: bool,
) -> Iterator[tuple[VideoFrame, int]]:
    """Yield frames with rising times; missing and equal times are replaced.

    Args:
        frames: Decoded frames.
        path: The file's name in messages.
        first: Time of a first frame without one, in units of the time base.
        usual: Time between two frames at the mean rate.
        time_base: Seconds of one unit.
        is_avi: The file stores when frames are decoded, not when they are shown.

    Raises:
        InputError: if the times jump back by more than a second.
    """
    before: int | None = None
    shift = 0
    for frame in frames:
        time = frame.pts
        if is_avi:
            if before is None:
                shift = (frame.pts or 0) - (frame.dts or 0)
            time = None if frame.dts is None else frame.dts + shift
        if time is None:
            time = first if before is None else before + usual
        if before is not None and time <= before:
            back = float((before - time) * time_base)
            if back > _MAX_JUMP:  # sound and frames have no common order after it
                raise InputError(
                    f"{path}: at {float(before * time_base):.1f} s the times of the "
                    f"frames jump back by {back:.1f} s, as in joined files; rewrite "
                    "them first with ffmpeg -i IN -c copy OUT.mkv"
                )
            time = before + 1
        before = time
        yield frame, time
