"""Find out whether a video file gave all of its frames, and gave them whole."""

import dataclasses
import math
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# Every packet of these is a frame. VP8 has hidden frames, MPEG-4 omitted ones.
_COUNTABLE = ("h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "mjpeg")
_LEAST_GAP = Fraction(1, 10)  # seconds; the ends of sound are not exact


@dataclasses.dataclass
class Damage:
    """Frames that a decoder did not give, or not as they were.

    Attributes:
        num_lost: Left out, as far as the decoder tells; not counted in interlaced
            videos, nor in every codec.
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

    def __init__(self, container: InputContainer, stream: VideoStream):
        self._container, self._stream = container, stream
        self._num_read = 0
        self._num_missing = 0
        self._start = math.inf
        self._last: VideoFrame | None = None
        self._is_interlaced = False
        self._damage = Damage()
        self._end_of_packets = Fraction(0)  # of any stream, in seconds
        self._end_in_file = 0

    def add_packet(self, packet: Packet) -> None:
        """Count a packet of any stream."""
        time = packet.pts or 0
        if packet.pts is not None:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self._end_of_packets = max(self._end_of_packets, end)
        if packet.stream is not self._stream:
            return
        if packet.pos is not None:
            self._end_in_file = packet.pos + packet.size
        if self._start == math.inf and packet.is_keyframe:
            is_first = time <= (self._stream.start_time or 0)
            self._start = time if is_first or self._num_read else math.inf
        # An edit list discards frames; an empty packet asks for the last ones.
        if packet.size and not packet.is_discard:
            self._num_missing += time >= self._start

    def add_frame(self, frame: VideoFrame) -> None:
        """Count a decoded frame."""
        self._num_read += 1
        is_after_start = frame.pts is None or frame.pts >= self._start
        self._num_missing -= is_after_start
        self._last = frame
        self._is_interlaced |= frame.interlaced_frame
        if frame.is_corrupt and is_after_start:
            if not self._damage.num_concealed:
                self._damage.first_concealed = self._seconds(frame)
            self._damage.num_concealed += 1

    def describe(self) -> str:
        """Say how far the video was read."""
        if self._last is None or self._last.time is None:
            return f"{self._num_read} frames were read"
        seconds = self._seconds(self._last)
        return f"{self._num_read} frames were read, the last one at {seconds:.2f} s"

    def damage(self) -> Damage:
        """Return what the decoder left out or guessed, at the video's end."""
        name = self._stream.codec_context.codec.canonical_name
        # A packet of interlaced video may be half of a frame.
        if name in _COUNTABLE and not self._is_interlaced:
            self._damage.num_lost = max(0, self._num_missing)
        return self._damage

    def ends_early(self, num_bytes: int) -> bool:
        """Tell, at the end, whether the header announces more.

        A count of frames alone would not do: those cut by an edit list stay in the
        header's count. Nor does a duration in every format: some are only guessed,
        and that of Matroska spans all streams. GIF announces neither.

        Args:
            num_bytes: Size of the file.
        """
        last, stream, container = self._last, self._stream, self._container
        if container.format.name == "yuv4mpegpipe":
            # Its reader drops a last frame that is not whole.
            return last is not None and num_bytes > self._end_in_file
        if last is None or last.time is None:
            return last is not None and stream.frames > self._num_read
        shown = (last.duration or 0) * (last.time_base or Fraction(0))
        shown = max(1 / (stream.average_rate or Fraction(25)), shown)
        reached, tolerance = last.time + shown, shown / 2
        if stream.frames > self._num_read and stream.duration and stream.time_base:
            end = ((stream.start_time or 0) + stream.duration) * stream.time_base
        elif "matroska" in container.format.name:
            end = Fraction(container.duration or 0, av.time_base)
            reached = max(reached, self._end_of_packets)
            if len(container.streams) > 1:
                tolerance = max(tolerance, _LEAST_GAP)
        else:
            return False
        return end - reached > tolerance

    def _seconds(self, frame: VideoFrame) -> float:
        return (frame.time or 0.0) - (self._container.start_time or 0) / av.time_base
