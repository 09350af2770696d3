"""Packets of copied streams, with their times in the output."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.rational import AVRational
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from edvr_jax.errors import InputError
from edvr_jax.media.read.decode import seek_before

_PREROLL = Fraction(1, 10)  # seconds of hidden sound that decoders need to start
# Seconds that one stream may lag behind another in a file; FFmpeg's muxers buffer as
# long.
MAX_SKEW = 10
# Seconds on the source's clock where the output begins and ends; None copies all.
Span = tuple[Fraction, Fraction | None]


class StreamCopier:
    """Gives the packets of a stream of the source their times in the output."""

    def __init__(self, path: Path, source: Stream, stream: Stream, span: Span):
        (first, last), unit = span, source.time_base
        assert unit is not None
        self._name = f"{path}: {source.type} stream {source.index}"
        self._stream = stream
        self._first = round(first / unit)
        self._last = None if last is None else round(last / unit)
        self._next = self._first  # the time of a packet that has none
        may_repeat = stream.container.format.flags & Flags.ts_nonstrict.value
        self._min_step = 0 if may_repeat else 1
        self._min_dts: int | None = None  # of the next packet, in the output

    def copy(self, packet: Packet) -> Iterator[Packet]:
        """Yield the packet with its times in the output, if it is within the span."""
        if packet.pts is None:
            packet.pts = self._next if packet.dts is None else packet.dts
        self._next = packet.pts + (packet.duration or 0)
        if packet.is_discard:  # hidden by an edit list
            lead = (self._first - self._next) * packet.time_base
            if not 0 <= lead <= _PREROLL:
                return
        if self._last is not None:
            if not self._first <= packet.pts < self._last:
                return
            if self._stream.type == "subtitle":
                packet.duration = min(self._next, self._last) - packet.pts
        self._place(packet)
        yield packet

    def _place(self, packet: Packet) -> None:
        """Shift and convert the times of a packet; its DTS must rise."""
        time = packet.pts or 0
        # Matroska stores no DTS, so that of the first reordered frames is unknown.
        is_guessed = packet.dts is None and self._stream.type == "video"
        packet.dts = (time if packet.dts is None else packet.dts) - self._first
        packet.pts = time - self._first
        packet.stream = self._stream
        packet.rescale_ts(AVRational(self._stream.time_base or packet.time_base))
        min_dts = self._min_dts
        if min_dts is not None and (is_guessed or packet.dts < min_dts):
            back = float((min_dts - packet.dts) * packet.time_base)
            if back > MAX_SKEW:
                raise InputError(
                    f"{self._name} jumps back by {back:.1f} s, as in files joined of "
                    "several; give --streams video, or repair the file"
                )
            packet.dts = min_dts
        packet.pts = max(packet.pts, packet.dts)
        self._min_dts = packet.dts + self._min_step


def copy_packets(
    path: Path,
    opened: tuple[InputContainer, VideoStream],
    copiers: dict[int, StreamCopier],
    span: Span,
) -> Iterator[Packet]:
    """Yield the packets of copied streams with their times in the output.

    Args:
        path: The source's name in messages.
        opened: The source, and its stream that was restored.
        copiers: One for each copied stream, by its number in the source.
        span: What is copied.

    Raises:
        InputError: if the source cannot be read, or its times jump back.
    """
    (container, video_stream), (first, last) = opened, span
    streams = [s for s in container.streams if s.index in copiers]
    if not streams:
        return
    start = None
    if last is not None:
        start = video_stream, first - MAX_SKEW
        streams.append(video_stream)  # shows when the end is reached, without sound too
    for packet, time in read_packets(path, container, streams, start):
        is_steady = packet.stream.type in ("audio", "video")
        if last is not None and is_steady and time >= last + MAX_SKEW:
            break
        if packet.stream.index in copiers:
            yield from copiers[packet.stream.index].copy(packet)


def read_packets(
    path: Path,
    container: InputContainer,
    streams: list[Stream],
    start: tuple[VideoStream, Fraction] | None = None,
) -> Iterator[tuple[Packet, Fraction]]:
    """Yield the packets of some streams with their times in seconds.

    Args:
        path: The file's name in messages.
        container: The file.
        streams: The streams to read.
        start: Begin at this stream's key frame before this time, if possible.

    Raises:
        InputError: if the file cannot be read.
    """
    time = Fraction(0)
    for stream in container.streams:
        if stream not in streams:
            stream.discard = Discard.all  # MP4 then skips their data
    try:
        if start is not None:
            seek_before(container, *start)
        for packet in container.demux(streams):
            if packet.size:  # else the end of a stream
                known = packet.pts if packet.dts is None else packet.dts
                time = time if known is None else known * packet.time_base
                yield packet, time
    except (FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: its sound and subtitles cannot be read at {float(time):.1f} s "
            f"({error.strerror}); give --streams video, or repair the file"
        ) from None
