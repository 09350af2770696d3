"""The formats of video files that can be written."""

import dataclasses
import re
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import av
from av.container import OutputContainer


@dataclasses.dataclass(frozen=True)
class Container:
    """A format of video files.

    Attributes:
        muxer: FFmpeg's name of the format.
        codec: Encoder for 8 bits per channel, unless the user names another.
        high_bit_depth_codec: Encoder for more bits.
        options: Options of the muxer.
        is_raw: It stores a frame rate, but no times of frames, and no matrix and
            range of the colors; players guess those from the size.
        clock: Unit of all times in seconds, if the format prescribes one.
        video_only: It holds nothing but one video stream, which cannot be joined from
            segments: those are lossless, and all is encoded at the end.
    """

    muxer: str
    codec: str = "libx264"
    high_bit_depth_codec: str = "libx265"
    options: tuple[tuple[str, str], ...] = ()
    is_raw: bool = False
    clock: Fraction | None = None
    video_only: bool = False


_MP4_OPTIONS = (("movflags", "faststart+use_metadata_tags"),)
CONTAINERS = {
    ".mp4": Container("mp4", options=_MP4_OPTIONS),
    ".m4v": Container("mp4", options=_MP4_OPTIONS),
    ".mov": Container("mov", options=_MP4_OPTIONS),
    ".mkv": Container("matroska"),
    ".webm": Container("webm", "libvpx-vp9", "libsvtav1"),
    ".gif": Container("gif", "gif", "gif", clock=Fraction(1, 100), video_only=True),
    ".y4m": Container(
        "yuv4mpegpipe",
        "wrapped_avframe",
        "wrapped_avframe",
        options=(("strict", "-1"),),  # for more than 8 bits
        is_raw=True,
        video_only=True,
    ),
}


def open_output(
    target: Path | IO[bytes], container: Container, *, any_codec: bool = False
) -> OutputContainer:
    """Open a file for writing.

    Args:
        target: A path, or a file object for writing.
        container: Its format.
        any_codec: Let the muxer decide which streams it stores, as ``ffmpeg -c copy``
            does; PyAV's own check refuses some, such as WMA in Matroska. The target
            must be a path, and chapters are lost.
    """
    # FFmpeg would read a relative name such as "a-12:30.mp4" as a protocol's.
    name = str(target.absolute()) if isinstance(target, Path) else target
    muxer, options = container.muxer, dict(container.options)
    if any_codec:  # PyAV does not check the streams of FFmpeg's muxer "tee"
        assert isinstance(name, str)
        settings = ":".join(f"{key}={options[key]}" for key in options)
        escaped = re.sub(r"([\\'|\[\] ])", r"\\\1", name)
        name = f"[f={muxer}{settings and f':{settings}'}]{escaped}"
        muxer, options = "tee", {}
    output = av.open(name, "w", format=muxer, container_options=options)
    return cast(OutputContainer, output)
