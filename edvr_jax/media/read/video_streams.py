"""Choose the video stream of a file that has several."""

from pathlib import Path

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from edvr_jax.errors import InputError


def list_all(container: InputContainer) -> list[VideoStream]:
    """List the video streams of a file, without attached pictures and thumbnails."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return [s for s in container.streams.video if not s.disposition & pictures]


def choose(path: Path, container: InputContainer, index: int | None) -> VideoStream:
    """Choose a video stream as FFmpeg does: the default one, then the largest.

    A stream that cannot be decoded or has no frames comes last.

    Args:
        path: The file's name in messages.
        container: The open file.
        index: Take the stream of this number instead.

    Raises:
        InputError: if there is no such stream.
    """
    streams = list_all(container)
    # FFmpeg renders text files as ANSI art.
    if not streams or container.format.name == "tty":
        raise InputError(f"{path}: no video stream in this file; give a video")
    if index is None:
        return max(streams, key=_rank)
    for stream in streams:
        if stream.index == index:
            return stream
    raise InputError(
        f"{path}: stream {index} is no video stream; give --video-stream "
        f"{' or '.join(describe(stream) for stream in streams)}"
    )


def describe(stream: VideoStream) -> str:
    """Return a stream's number in the file and its size."""
    if stream.codec_context is None:
        return f"{stream.index} (of unknown codec)"
    return f"{stream.index} ({stream.width}x{stream.height})"


def _rank(stream: VideoStream) -> tuple[bool, bool, bool, int]:
    is_decodable = stream.codec_context is not None
    is_counted = "mp4" in stream.container.format.name
    is_default = bool(stream.disposition & Disposition.default)
    num_pixels = stream.width * stream.height if is_decodable else 0
    return is_decodable, not (is_counted and not stream.frames), is_default, num_pixels
