"""Put a restored video stream together with the sound and all else of its source.

Sound, subtitles, chapters and metadata are copied as they are, packet by packet.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.filter
import numpy as np
from av import error
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edvr_jax import files
from edvr_jax.media.read import decode, yuv
from edvr_jax.media.read.timeline import Timeline
from edvr_jax.media.write import encode, stream_copy
from edvr_jax.media.write.containers import CONTAINERS, open_output
from edvr_jax.media.write.encode import Encoding
from edvr_jax.media.write.pipe import warn_of_variable_rate
from edvr_jax.media.write.segments import SegmentedVideo
from edvr_jax.media.write.stream_copy import StreamCopy


def write_video(
    temporary: Path,
    path: Path,
    parts: SegmentedVideo,
    encoding: Encoding,
    timeline: Timeline,
    original: StreamCopy | None = None,
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
        InputError: if it cannot be written.
    """
    container = CONTAINERS[path.suffix.lower()]
    if container.clock is not None:
        timeline = timeline.on_clock(container.clock)
    if container.is_raw:
        warn_of_variable_rate(str(path), timeline)
        timeline = timeline.at_fixed_rate()
    with files.report_failure(path, FFmpegError), ExitStack() as stack:
        temporary.touch()  # tells what is wrong with a path better than FFmpeg
        any_codec = original is not None and original.any_codec
        output = stack.enter_context(
            open_output(temporary, container, any_codec=any_codec)
        )
        stream = encode.add_stream(
            output,
            encoding,
            parts.size,
            fps=timeline.fps,
            time_base=timeline.time_base,
        )
        others: Iterator[tuple[Fraction, Packet]] = iter(())
        if original is not None:
            opened = stack.enter_context(
                decode.open_container(original.path, index=original.restored)
            )
            others = stream_copy.add_copies(
                output, stream, opened, original, timeline.seconds, container.muxer
            )
        output.start_encoding()
        if container.is_encoded_last:
            packets = _encode(parts, stream, encoding, timeline)
        else:
            packets = parts.packets(timeline)
        restored = (_timed(packet, stream, timeline) for packet in packets)
        for _, packet in heapq.merge(restored, others, key=lambda item: item[0]):
            output.mux_one(packet)


def _timed(
    packet: Packet, stream: Stream, timeline: Timeline
) -> tuple[Fraction, Packet]:
    packet.stream = stream
    packet.time_base = timeline.time_base
    return (packet.dts or 0) * timeline.time_base, packet


def _encode(
    parts: SegmentedVideo, stream: VideoStream, encoding: Encoding, timeline: Timeline
) -> Iterator[Packet]:
    """Encode the frames of lossless parts."""
    frames = (
        _to_frame(image, *timeline.span(index), timeline.time_base)
        for index, image in enumerate(parts.images())
    )
    if encoding.codec == "gif":
        frames = _with_palettes(frames, parts.size, encoding.layout, timeline.time_base)
    else:
        frames = (
            encode.to_yuv(frame, encoding.pix_fmt, encoding.colors) for frame in frames
        )
    for frame in itertools.chain(frames, [None]):
        yield from stream.encode(frame)


def _to_frame(
    image: np.ndarray, time: int, duration: int, time_base: Fraction
) -> VideoFrame:
    frame = yuv.to_frame(image)
    frame.pts, frame.duration, frame.time_base = time, duration, time_base
    return frame


def _with_palettes(
    frames: Iterable[VideoFrame],
    size: tuple[int, int],
    layout: str,
    time_base: Fraction,
) -> Iterator[VideoFrame]:
    """Give each frame its palette of 256 colors."""
    graph = av.filter.Graph()
    height, width = size
    source = graph.add_buffer(
        width=width,
        height=height,
        format=VideoFormat(layout),
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
