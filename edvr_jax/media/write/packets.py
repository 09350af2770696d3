"""The packets of a file's other streams, with the times that they get in the output."""

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
from edvr_jax.media.read.source import seek_before

_LEAD = 30  # seconds before the beginning where subtitles still shown are looked for
_PREROLL = Fraction(1, 10)  # seconds of hidden sound that decoders need to begin
_SKEW = 10  # seconds that a stream may lag in a file; FFmpeg's writers wait as long
# Seconds of the original where the output begins and ends; None copies all.
Span = tuple[Fraction, Fraction | None]


class StreamCopier:
    """A stream of the output that gets the packets of one of the original."""

    def __init__(self, path: Path, original: Stream, stream: Stream, span: Span):
        (first, last), unit = span, original.time_base
        assert unit is not None
        self._name = f"{path}: {original.type} stream {original.index}"
        self._stream = stream
        self._first = round(first / unit)
        self._last = None if last is None else round(last / unit)
        self._next = self._first  # where a packet without a time goes
        may_repeat = stream.container.format.flags & Flags.ts_nonstrict.value
        self._least_step = 0 if may_repeat else 1
        self._earliest: int | None = None  # when the next is decoded, in the output
        self._held: list[Packet] = []

    def take(self, packet: Packet) -> Iterator[tuple[Fraction, Packet]]:
        """Yield a packet, or what is left of it, with its time in the output.

        A subtitle that is shown when the output begins waits for :meth:`release`.
        """
        if packet.pts is None:
            packet.pts = self._next if packet.dts is None else packet.dts
        start = packet.pts
        is_unknown = not packet.duration
        self._next = start + (packet.duration or 0)
        is_early = start < self._first
        if packet.is_discard:  # hidden by an edit list
            lead = (self._first - self._next) * packet.time_base
            if not 0 <= lead <= _PREROLL:
                return
        if self._last is None:
            yield self._place(packet)
            return
        if self._stream.type == "subtitle":
            begin, end = max(start, self._first), min(self._next, self._last)
            packet.duration = max(0, end - begin)
            if is_early:
                # Of unknown duration, they are shown until the next one.
                self._held = [p for p in self._held if p.duration]
                if is_unknown or packet.duration:
                    packet.pts = packet.dts = begin
                    self._held.append(packet)
        if not is_early and start < self._last:
            yield self._place(packet)

    def release(self) -> Iterator[tuple[Fraction, Packet]]:
        """Yield the subtitles that are shown when the output begins."""
        held, self._held = self._held, []
        yield from map(self._place, held)

    def _place(self, packet: Packet) -> tuple[Fraction, Packet]:
        """Give a packet the times of the output; when it is decoded always rises."""
        time = packet.pts or 0
        # Matroska does not tell when the first of reordered frames are decoded.
        is_guessed = packet.dts is None and self._stream.type == "video"
        packet.dts = (time if packet.dts is None else packet.dts) - self._first
        packet.pts = time - self._first
        packet.stream = self._stream
        packet.rescale_ts(AVRational(self._stream.time_base or packet.time_base))
        earliest = self._earliest
        if earliest is not None and (is_guessed or packet.dts < earliest):
            back = float((earliest - packet.dts) * packet.time_base)
            if back > _SKEW:
                raise InputError(
                    f"{self._name} jumps back by {back:.1f} s, as in files joined of "
                    "several; give --streams video, or repair the file"
                )
            packet.dts = earliest
        packet.pts = max(packet.pts, packet.dts)
        self._earliest = packet.dts + self._least_step
        return packet.dts * packet.time_base, packet


def copy_packets(
    path: Path,
    opened: tuple[InputContainer, VideoStream],
    copies: dict[int, StreamCopier],
    span: Span,
) -> Iterator[tuple[Fraction, Packet]]:
    """Yield the packets of copied streams with the times of the output."""
    (container, picture), (first, last) = opened, span
    streams = [s for s in container.streams if s.index in copies]
    if not streams:
        return
    start = None
    if last is not None:
        start = picture, first - _LEAD
        streams.append(picture)  # tells how far the file is read, also without sound
    for packet, time in read_packets(path, container, streams, start):
        if last is not None:
            is_steady = packet.stream.type in ("audio", "video")
            if is_steady and time >= last + _SKEW:
                break
            if time >= first:
                for copy in copies.values():
                    yield from copy.release()
        if packet.stream.index in copies:
            yield from copies[packet.stream.index].take(packet)
    for copy in copies.values():
        yield from copy.release()


def read_packets(
    path: Path,
    container: InputContainer,
    streams: list[Stream],
    start: tuple[VideoStream, Fraction] | None = None,
) -> Iterator[tuple[Packet, Fraction]]:
    """Yield packets with their times, if possible from a key frame before a time on."""
    time = Fraction(0)
    for stream in container.streams:
        if stream not in streams:
            stream.discard = Discard.all  # saves MP4 the reading
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
