"""Find out whether a video file gave all of its frames, and gave them whole."""

import dataclasses
import math
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# Every packet of these is a frame. VP8 has hidden frames, MPEG-4 omitted ones.
COUNTABLE = ("h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "mjpeg")
_FRAME_MARK = b"FRAME"  # what each frame of YUV4MPEG2 begins with
# Elements of Matroska (RFC 9559, section 5) in the order in which a file has them.
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# Seconds of sound that a header may count and the packets do not tell.
_LARGEST_LAG = 1
# Bytes between two packets of Matroska: headers of blocks and clusters are smaller.
_LARGEST_HEADERS = 200


@dataclasses.dataclass
class Damage:
    """Frames that were not decoded, or not as they were, so far.

    Attributes:
        num_lost: Left out, as far as file and decoder tell. What the decoder leaves out
            is known at the video's end, and not in interlaced videos, nor in every
            codec.
        num_concealed: Given, with what is missing in them guessed.
        first_concealed: Seconds from the video's beginning to the first of these.
    """

    num_lost: int = 0
    num_concealed: int = 0
    first_concealed: float = 0.0


class FrameCount:
    """Counts the frames of a video, and those of its packets that give none.

    From a key frame on that begins the file or comes after frames that were read: after
    a seek, or in a recording, the first frames may need others that are not there.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, damage: Damage):
        self._container, self._stream = container, stream
        self._is_matroska = "matroska" in container.format.name
        self._num_read = 0
        self._num_missing = 0
        self._start = math.inf
        self._last: VideoFrame | None = None
        self._is_interlaced = False
        self._damage = damage
        self._end_in_file = 0
        self._has_hole = False
        self._end_of_packets = Fraction(0)  # of any stream, in seconds

    def streams(self) -> list[Stream]:
        """Return the streams whose packets are wanted.

        Of Matroska all: only together they tell how far it was read, and what of it
        was left out.
        """
        return list(self._container.streams) if self._is_matroska else [self._stream]

    def add_packet(self, packet: Packet) -> None:
        """Count a packet of one of the streams."""
        if packet.pos is not None:
            skipped = packet.pos - self._end_in_file
            self._has_hole |= self._end_in_file > 0 and skipped > _LARGEST_HEADERS
            self._end_in_file = max(self._end_in_file, packet.pos + packet.size)
        if packet.pts is not None:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self._end_of_packets = max(self._end_of_packets, end)
        if packet.stream is not self._stream:
            return
        time = packet.pts or 0
        if self._start == math.inf and packet.is_keyframe:
            is_first = time <= (self._stream.start_time or 0)
            self._start = time if is_first or self._num_read else math.inf
        # An edit list discards frames; an empty packet asks for the last ones.
        if packet.size and not packet.is_discard:
            self._num_missing += time >= self._start

    def add_frame(self, frame: VideoFrame) -> None:
        """Count a decoded frame."""
        if self._is_matroska and self._has_hole:
            self._measure_hole(frame)
        self._num_read += 1
        is_after_start = frame.pts is None or frame.pts >= self._start
        self._num_missing -= is_after_start
        self._last = frame
        self._is_interlaced |= frame.interlaced_frame
        if frame.is_corrupt and is_after_start:
            if not self._damage.num_concealed:
                self._damage.first_concealed = self._seconds(frame)
            self._damage.num_concealed += 1

    def _measure_hole(self, frame: VideoFrame) -> None:
        """Count the frames missing before one, in a file with skipped parts."""
        rate = self._stream.average_rate
        if self._last is None or self._last.time is None or frame.time is None:
            return
        num_steps = round((frame.time - self._last.time) * (rate or 0))
        self._damage.num_lost += max(0, num_steps - 1)

    def end(self) -> None:
        """Tell what is missing; the whole video was read."""
        name = self._stream.codec_context.codec.canonical_name
        # A packet of interlaced video may be half of a frame.
        if name in COUNTABLE and not self._is_interlaced:
            self._damage.num_lost = max(self._damage.num_lost, self._num_missing)

    def describe(self) -> str:
        """Say how far the video was read."""
        if self._last is None or self._last.time is None:
            return f"{self._num_read} frames were read"
        seconds = self._seconds(self._last)
        return f"{self._num_read} frames were read, the last one at {seconds:.2f} s"

    def ends_early(self, num_bytes: int) -> bool:
        """Tell, at the end, whether the header announces more.

        A count of frames alone would not do: those cut by an edit list stay in the
        header's count. Nor does a duration in every format: some are only guessed, and
        that of Matroska spans all streams. GIF, MPEG streams and recordings of live
        streams announce nothing.

        Args:
            num_bytes: Size of the file.
        """
        last, stream, container = self._last, self._stream, self._container
        if container.format.name == "yuv4mpegpipe":
            # Its reader drops a last frame that is not whole.
            return num_bytes >= self._end_in_file + len(_FRAME_MARK)
        if self._is_matroska and _end_of_matroska(Path(container.name)) > num_bytes:
            return True
        if last is None or last.time is None:
            return last is not None and stream.frames > self._num_read
        shown = (last.duration or 0) * (last.time_base or Fraction(0))
        shown = max(1 / (stream.average_rate or Fraction(25)), shown)
        reached = last.time + Fraction(3, 2) * shown
        if stream.frames > self._num_read and stream.duration and stream.time_base:
            end = ((stream.start_time or 0) + stream.duration) * stream.time_base
        elif self._is_matroska:
            end = Fraction(container.duration or 0, av.time_base)
            if len(container.streams) > 1:
                reached = max(reached, self._end_of_packets + _LARGEST_LAG)
        else:
            return False
        return end > reached

    def _seconds(self, frame: VideoFrame) -> float:
        return (frame.time or 0.0) - (self._container.start_time or 0) / av.time_base


def _end_of_matroska(path: Path) -> int:
    """Return where the content of a Matroska file ends by its header; 0 if untold."""
    with path.open("rb") as file:
        end = 0
        for wanted in (_EBML, _SEGMENT):
            file.seek(end)
            if file.read(4) != wanted:
                return 0
            size = _read_size(file)
            if size is None:
                return 0
            end = file.tell() + size
    return end


def _read_size(file: BinaryIO) -> int | None:
    """Read a number of EBML (RFC 8794, section 4); None stands for an open size."""
    (first,) = file.read(1) or b"\0"
    length = 9 - first.bit_length()  # the leading zeros tell how long it is
    if length > 8:
        return None
    bits = 7 * length
    number = int.from_bytes(bytes([first]) + file.read(length - 1)) & (2**bits - 1)
    return None if number == 2**bits - 1 else number
