"""Write a video file from the restored stream and those copied from the source."""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.filter
from av import error
from av.error import FFmpegError
from av.packet import Packet
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edvr_jax import files
from edvr_jax.media.read import yuv
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
    video: SegmentedVideo,
    timeline: Timeline,
    copied: StreamCopy | None = None,
) -> None:
    """Write a video file.

    Args:
        temporary: The file to write.
        path: The name that messages give it; its suffix names the container.
        video: The restored stream, finished.
        timeline: When its frames are shown.
        copied: The source's other streams, chapters and metadata; None copies nothing.

    Raises:
        InputError: if the file cannot be written, or a copied stream not be read.
    """
    container, encoding = CONTAINERS[path.suffix.lower()], video.encoding
    if container.is_raw:
        warn_of_variable_rate(str(path), timeline)
        timeline = timeline.at_fixed_rate()
    timeline = timeline.on_clock(encoding.time_base)
    with files.report_failure(path, FFmpegError), ExitStack() as stack:
        temporary.touch()  # its error names the cause better than FFmpeg's
        any_codec = copied is not None and copied.any_codec
        output = stack.enter_context(
            open_output(temporary, container, any_codec=any_codec)
        )
        stream = encode.add_stream(output, encoding)
        others: Iterator[Packet] = iter(())
        if copied is not None:
            others = stack.enter_context(
                stream_copy.add_copies(
                    output, stream, copied, timeline.seconds, container
                )
            )
        output.start_encoding()
        if container.video_only:
            restored = _encode(video, stream, timeline)
        else:
            restored = video.packets(timeline, stream)
        for packet in heapq.merge(restored, others, key=_decoding_seconds):
            output.mux_one(packet)


def _decoding_seconds(packet: Packet) -> Fraction:
    return packet.dts * packet.time_base if packet.dts else Fraction(0)


def _encode(
    video: SegmentedVideo, stream: VideoStream, timeline: Timeline
) -> Iterator[Packet]:
    """Encode the frames of lossless segments."""
    frames = _timed_frames(video, timeline)
    if video.encoding.codec == "gif":
        frames = _add_palettes(frames, video.encoding)
    else:
        pix_fmt, colors = video.encoding.pix_fmt, video.encoding.colors
        frames = (encode.to_yuv(frame, pix_fmt, colors) for frame in frames)
    for frame in itertools.chain(frames, [None]):
        yield from stream.encode(frame)


def _timed_frames(video: SegmentedVideo, timeline: Timeline) -> Iterator[VideoFrame]:
    for index, image in enumerate(video.images()):
        frame = yuv.to_frame(image)
        frame.time_base = timeline.time_base
        frame.pts, frame.duration = timeline.span(index)
        yield frame


def _add_palettes(
    frames: Iterable[VideoFrame], encoding: Encoding
) -> Iterator[VideoFrame]:
    """Compute a separate palette of 256 colors for each frame."""
    graph = av.filter.Graph()
    height, width = encoding.size
    source = graph.add_buffer(
        width=width,
        height=height,
        format=VideoFormat(encoding.layout),
        time_base=encoding.time_base,
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
