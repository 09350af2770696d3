"""Put a restored video stream together with the sound and all else of its source.

Sound, subtitles, chapters and metadata are copied as they are, packet by packet.
"""

import dataclasses
import heapq
import io
import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.filter
import numpy as np
from av import error
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edvr_jax import files
from edvr_jax.data import video
from edvr_jax.errors import InputError
from edvr_jax.restore import encoder
from edvr_jax.restore.encoder import CONTAINERS, Container, Encoding
from edvr_jax.restore.parts import VideoParts
from edvr_jax.restore.source import Timeline

# What describes the old file, not the film.
_STALE = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "rotate"),
    *("duration", "handler_name", "vendor_id", "timecode"),
)
_STALE_PREFIXES = ("_statistics", "bps", "number_of_", "duration")
_NEEDED = ("audio", "subtitle")


@dataclasses.dataclass(frozen=True)
class Original:
    """The file whose other streams are copied.

    Attributes:
        path: A video file.
        origin: Seconds on its clock at which the output begins.
        is_cut: Only what is shown with the restored frames is copied, not all.
    """

    path: Path
    origin: Fraction = Fraction(0)
    is_cut: bool = False


def write_video(
    temporary: Path,
    path: Path,
    parts: VideoParts,
    encoding: Encoding,
    timeline: Timeline,
    original: Original | None = None,
) -> None:
    """Write a video file from restored parts and the other streams of the source.

    Args:
        temporary: The file to write.
        path: Its name, as the user knows it.
        parts: The restored frames.
        encoding: How the file's frames are encoded.
        timeline: When they are shown.
        original: Where sound, subtitles, chapters and metadata are copied from.

    Raises:
        InputError: if it cannot be written, or not with such times.
    """
    container = CONTAINERS[path.suffix.lower()]
    if not container.keeps_times:
        timeline = timeline.with_constant_rate(path)
    with files.report_failure(path, FFmpegError), ExitStack() as stack:
        temporary.touch()  # tells what is wrong with a path better than FFmpeg
        output = stack.enter_context(_open(str(temporary), container))
        stream = encoder.add_stream(
            output,
            encoding,
            parts.size,
            fps=timeline.fps,
            time_base=timeline.time_base,
        )
        others: Iterator[tuple[Fraction, Packet]] = iter(())
        if original is not None:
            opened = stack.enter_context(video.open_container(original.path))
            others = _copy(output, stream, opened, original, timeline.seconds)
        output.start_encoding()
        if container.is_encoded_last:
            packets = _encode(parts, stream, encoding, timeline)
        else:
            packets = parts.packets(timeline)
        restored = (_timed(packet, stream, timeline) for packet in packets)
        for _, packet in heapq.merge(restored, others, key=lambda item: item[0]):
            output.mux_one(packet)


def _open(target: Any, container: Container) -> OutputContainer:
    return cast(
        OutputContainer,
        av.open(
            target,
            "w",
            format=container.muxer,
            container_options=dict(container.options),
        ),
    )


def _timed(
    packet: Packet, stream: Stream, timeline: Timeline
) -> tuple[Fraction, Packet]:
    packet.stream = stream
    packet.time_base = timeline.time_base
    return (packet.dts or 0) * timeline.time_base, packet


def check_streams(path: Path, source_path: Path) -> list[str]:
    """Check that the output can hold what shall be copied, before hours of work.

    Args:
        path: The output.
        source_path: The video file.

    Returns:
        A note for each stream that is no sound and no subtitle and has to stay behind.

    Raises:
        InputError: if sound or subtitles do not fit.
    """
    container, notes = CONTAINERS[path.suffix.lower()], []
    with (
        video.open_container(source_path) as (original, restored),
        _open(io.BytesIO(), container) as output,
    ):
        for stream in original.streams:
            if stream is restored or _add_copy(output, stream) is not None:
                continue
            name = f"{stream.type} stream {stream.index} ({_codec_name(stream)})"
            if stream.type in _NEEDED:
                suffix = source_path.suffix or ".mkv"
                raise InputError(
                    f"{path}: {name} of {source_path} cannot be stored in "
                    f"{path.suffix}; write {suffix} or .mkv, or leave all but the "
                    "picture out with --streams video"
                )
            notes.append(f"{name} cannot be stored in {path.suffix} and is left out")
    return notes


def _codec_name(stream: Stream) -> str:
    context = stream.codec_context
    return context.name if context is not None else stream.name or "unknown"


def _add_copy(output: OutputContainer, stream: Stream) -> Stream | None:
    """Add a stream like another; None if the format cannot hold it."""
    if output.format.name in ("gif", "yuv4mpegpipe"):
        return None
    try:
        copy = output.add_stream_from_template(stream, opaque=True)
    except (ValueError, FFmpegError):
        return None
    copy.metadata.update(_lasting(stream.metadata))
    copy.disposition = stream.disposition  # pyright: ignore[reportAttributeAccessIssue]
    return copy


def _lasting(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STALE and not key.lower().startswith(_STALE_PREFIXES)
    }


def _copy(
    output: OutputContainer,
    restored: VideoStream,
    opened: tuple[InputContainer, VideoStream],
    original: Original,
    seconds: Fraction,
) -> Iterator[tuple[Fraction, Packet]]:
    """Add the other streams, chapters and metadata; return the packets to come."""
    container, picture = opened
    output.metadata.update(_lasting(container.metadata))
    restored.metadata.update(_lasting(picture.metadata))
    first = original.origin
    last = first + seconds if original.is_cut else None
    _copy_chapters(output, container, first, last)
    copies = {}
    for stream in container.streams:
        copy = None if stream is picture else _add_copy(output, stream)
        if copy is not None:
            copies[stream.index] = copy
    return _shifted(container, copies, first, last)


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


def _encode(
    parts: VideoParts, stream: VideoStream, encoding: Encoding, timeline: Timeline
) -> Iterator[Packet]:
    """Encode the frames of lossless parts."""
    frames = (
        _to_frame(image, *timeline.span(index), timeline.time_base)
        for index, image in enumerate(parts.images())
    )
    if encoding.codec == "gif":
        frames = _with_palettes(frames, parts.size, timeline.time_base)
    else:
        frames = (
            encoder.to_yuv(frame, encoding.pix_fmt, encoding.colors) for frame in frames
        )
    for frame in itertools.chain(frames, [None]):
        yield from stream.encode(frame)


def _to_frame(
    image: np.ndarray, time: int, duration: int, time_base: Fraction
) -> VideoFrame:
    layout = "rgb48le" if image.dtype == np.uint16 else "rgb24"
    frame = VideoFrame.from_ndarray(image, format=layout)
    frame.pts, frame.duration, frame.time_base = time, duration, time_base
    return frame


def _with_palettes(
    frames: Iterable[VideoFrame], size: tuple[int, int], time_base: Fraction
) -> Iterator[VideoFrame]:
    """Give each frame a palette of its own 256 colours."""
    graph = av.filter.Graph()
    height, width = size
    source = graph.add_buffer(
        width=width,
        height=height,
        format=VideoFormat("rgb24"),
        time_base=time_base,
    )
    split = graph.add("split")
    generate = graph.add("palettegen", "stats_mode=single")
    use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(generate, 1, 0)
    generate.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for frame in itertools.chain(frames, [None]):
        graph.push(frame)
        while True:
            try:
                yield cast(VideoFrame, graph.pull())
            except (error.BlockingIOError, error.EOFError):
                break
