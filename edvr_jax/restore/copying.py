"""Copy the streams of a video file that are not its picture, as they are.

Sound, subtitles, attachments, chapters and metadata: packet by packet, nothing is
decoded.
"""

import dataclasses
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from edvr_jax.data import video
from edvr_jax.errors import InputError
from edvr_jax.restore.encoder import CONTAINERS, open_output

# What describes the old file, not the film.
_STALE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "rotate"),
    *("duration", "handler_name", "vendor_id", "timecode"),
)
_STALE_PREFIXES = ("_statistics", "bps", "number_of_", "duration")
_NEEDED = ("audio", "subtitle")


# Formats that hold nothing but a picture.
_SILENT = (".gif", ".y4m")


@dataclasses.dataclass(frozen=True)
class Original:
    """A file whose other streams are copied.

    Attributes:
        path: A video file.
        streams: Indices of the streams to copy.
        origin: Seconds on its clock at which the output begins.
        is_cut: Only what is shown with the restored frames is copied, not all.
    """

    path: Path
    streams: tuple[int, ...] = ()
    origin: Fraction = Fraction(0)
    is_cut: bool = False


def choose_streams(path: Path, source_path: Path) -> tuple[tuple[int, ...], list[str]]:
    """Find out what the output can hold, before hours of work.

    Args:
        path: The output.
        source_path: The video file.

    Returns:
        Indices of the streams that can be copied, and a note for each other one.

    Raises:
        InputError: if sound or subtitles do not fit into a format that has some.
    """
    suffix, chosen, notes = path.suffix.lower(), [], []
    with video.open_container(source_path) as (original, picture):
        for stream in original.streams:
            if stream is picture or _is_chapter_text(original, stream):
                continue
            if suffix not in _SILENT and _fits(stream, suffix):
                chosen.append(stream.index)
                continue
            name = f"{stream.type} stream {stream.index} ({_codec_name(stream)})"
            if stream.type in _NEEDED and suffix not in _SILENT:
                raise InputError(
                    f"{path}: {name} of {source_path} cannot be stored in {suffix}; "
                    f"write {source_path.suffix or '.mkv'} or .mkv, or leave all but "
                    "the picture out with --streams video"
                )
            notes.append(f"{name} cannot be stored in {suffix} and is left out")
    return tuple(chosen), notes


def _is_chapter_text(container: InputContainer, stream: Stream) -> bool:
    """MP4 stores the names of chapters in a stream, which is written anew."""
    return stream.type == "data" and bool(container.chapters())


def _fits(stream: Stream, suffix: str) -> bool:
    """Try to write the header of a file with a picture and this stream."""
    try:
        container = dataclasses.replace(CONTAINERS[suffix], options=())
        with open_output(io.BytesIO(), container) as output:
            picture = output.add_stream(container.codec, 25)
            assert isinstance(picture, VideoStream)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
            output.add_stream_from_template(stream, opaque=True)
            output.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


def _codec_name(stream: Stream) -> str:
    context = stream.codec_context
    return context.name if context is not None else stream.name or "unknown"


def add_copies(
    output: OutputContainer,
    restored: VideoStream,
    opened: tuple[InputContainer, VideoStream],
    original: Original,
    seconds: Fraction,
) -> Iterator[tuple[Fraction, Packet]]:
    """Add the other streams, chapters and metadata to a file.

    Args:
        output: The file; its header is not written yet.
        restored: Its picture, which gets the metadata of the original's.
        opened: The original, and the stream that was restored.
        original: What is copied.
        seconds: How long the restored frames are shown.

    Returns:
        The packets to write, each with its time in seconds.
    """
    container, picture = opened
    output.metadata.update(_lasting(container.metadata))
    restored.metadata.update(_lasting(picture.metadata))
    first = original.origin
    last = first + seconds if original.is_cut else None
    _copy_chapters(output, container, first, last)
    copies = {}
    for stream in container.streams:
        if stream.index in original.streams:
            copy = output.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(_lasting(stream.metadata))
            copy.disposition = stream.disposition  # pyright: ignore
            copies[stream.index] = copy
    return _shifted(container, copies, first, last)


def _lasting(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STALE and not key.lower().startswith(_STALE_PREFIXES)
    }


def _copy_chapters(
    output: OutputContainer,
    container: InputContainer,
    first: Fraction,
    last: Fraction | None,
) -> None:
    if output.format.name not in ("mp4", "mov", "matroska", "webm"):
        return
    chapters = []
    for chapter in container.chapters():
        unit = chapter["time_base"] or Fraction(1, 1000)
        start, end = chapter["start"] * unit, chapter["end"] * unit
        if end <= first or (last is not None and start >= last):
            continue
        start, end = max(start, first), end if last is None else min(end, last)
        chapters.append(
            {
                **chapter,
                "start": round((start - first) / unit),
                "end": round((end - first) / unit),
                "time_base": unit,
            }
        )
    if chapters:
        output.set_chapters(chapters)


def _shifted(
    container: InputContainer,
    copies: dict[int, Stream],
    first: Fraction,
    last: Fraction | None,
) -> Iterator[tuple[Fraction, Packet]]:
    """Yield the packets of copied streams with the times of the output."""
    if not copies:
        return
    streams = [s for s in container.streams if s.index in copies]
    for packet in container.demux(streams):
        if packet.dts is None and packet.pts is None:
            continue  # the end of a stream
        unit = packet.time_base
        shift = round(first / unit)
        shown = packet.pts if packet.pts is not None else packet.dts
        assert shown is not None
        if last is not None and not first <= shown * unit < last:
            continue
        dts = packet.dts if packet.dts is not None else shown
        packet.dts = dts - shift
        if packet.pts is not None:
            packet.pts -= shift
        packet.stream = copies[packet.stream.index]
        yield (dts - shift) * unit, packet
