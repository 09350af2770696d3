"""Compare what a decoder delivers of a video with what its container announces.

A difference is a suspicion, never an error: headers can be wrong, and what the decoder
delivered is a video in any case.
"""

import math
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# Every packet of these is a frame. VP8 has hidden frames, MPEG-4 omitted ones.
COUNTABLE = ("h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "mjpeg")
_FRAME_MARK = b"FRAME"  # what each frame of YUV4MPEG2 begins with


def announced_frames(container: InputContainer, stream: VideoStream) -> int | None:
    """Return how many frames the container lists, without those its edit list hides.

    Empty entries, which repeat a frame, do not count. None if there is no such list:
    only MP4, QuickTime and AVI have one.
    """
    entries, num_frames = stream.index_entries, stream.frames
    if not num_frames or not len(entries):  # a fragmented MP4, or another format
        return num_frames or None
    # Of an AVI that was cut off, FFmpeg lists the first packets only and corrects the
    # duration. The header's number also counts frames that the recorder dropped.
    is_cut = stream.duration != num_frames or 2 * entries[-1].pos < container.size
    if container.format.name == "avi" and is_cut:
        return num_frames
    return sum(entry.size > 0 and not entry.is_discard for entry in entries)


def announced_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the second at which a Matroska file announces the end of its video.

    The header's duration is that of the longest stream; FFmpeg and mkvmerge write one
    for each stream as a tag. Durations in other formats are guesses or hide edits.
    """
    if "matroska" not in container.format.name or not container.duration:
        return None
    longest = Fraction(container.duration, av.time_base)
    if len(container.streams) == 1:
        return longest
    try:
        parts = map(Fraction, stream.metadata["DURATION"].split(":"))
        hours, minutes, seconds = parts
    except (KeyError, ValueError):
        return None
    return min(longest, 3600 * hours + 60 * minutes + seconds)


class DecodeMonitor:
    """Counts what is decoded of an open video, and compares at its end.

    From a key frame on that begins the file or comes after frames that were read: after
    a seek, or in a recording, the first frames may need others that are not there.

    Attributes:
        num_frames: Frames that the decoder delivered so far.
        end: Seconds on the file's clock until which the frames so far are shown; an
            empty packet repeats the frame before it.
        announced_frames: See :func:`announced_frames`; None after a seek.
        announced_end: See :func:`announced_end`.
        is_at_end: The video was read to its end.
        num_lost: Frames that were not delivered, as far as it is known: the packets
            that the decoder refused and, at the end, the ones that gave no frame.
        num_concealed: Frames that were delivered with guessed parts.
        first_concealed: Seconds from the video's beginning to the first of these.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        is_from_start: bool = True,
    ):
        """Read what the container announces.

        Args:
            container: The open file.
            stream: Its video stream.
            is_from_start: The file is read from its beginning, not after a seek.
        """
        self._container, self._stream = container, stream
        counted = announced_frames(container, stream) if is_from_start else None
        self.announced_frames = counted
        self.announced_end = announced_end(container, stream)
        self.num_frames = self.num_lost = self.num_concealed = 0
        self.end = self._repeated_until = Fraction(0)
        self._usual = 1 / (stream.average_rate or Fraction(25))  # seconds of a frame
        self.first_concealed = 0.0
        self.is_at_end = False
        self._num_missing = 0
        self._start = math.inf
        self._last: VideoFrame | None = None
        self._is_interlaced = False
        self._end_in_file = 0

    def add_packet(self, packet: Packet) -> None:
        """Count a packet of the video stream."""
        if packet.pos is not None:
            self._end_in_file = max(self._end_in_file, packet.pos + packet.size)
        if packet.is_discard:  # by the edit list
            return
        time = packet.pts or 0
        if not packet.size and packet.pts is not None:
            self._repeated_until = self._shown_until(packet)
        if self._start == math.inf and packet.is_keyframe:
            is_first = time <= (self._stream.start_time or 0)
            self._start = time if is_first or self.num_frames else math.inf
        # A cut in Matroska begins with a key frame; packets between it and the first
        # frame shown that have no times need frames before the cut.
        is_before_cut = packet.pts is None and packet.dts is None and not self._last
        is_frame = bool(packet.size) and not is_before_cut
        self._num_missing += is_frame and time >= self._start

    def add_refused(self, packet: Packet) -> None:
        """Count a packet that the decoder refused; an empty one is no frame."""
        self.num_lost += bool(packet.size)

    def add_frame(self, frame: VideoFrame) -> None:
        """Count a decoded frame."""
        self.num_frames += 1
        is_after_start = frame.pts is None or frame.pts >= self._start
        self._num_missing -= is_after_start
        self._last = frame
        self.end = max(self._shown_until(frame), self._repeated_until)
        self._is_interlaced |= frame.interlaced_frame
        if frame.is_corrupt and is_after_start:
            if not self.num_concealed:
                self.first_concealed = self._seconds(frame)
            self.num_concealed += 1

    def finish(self, num_bytes: int) -> None:
        """Compare; the video was read to its end.

        Args:
            num_bytes: Size of the file.
        """
        self.is_at_end = True
        self.end = max(self.end, self._repeated_until)
        codec = self._stream.codec_context.codec.canonical_name
        # A packet of interlaced video may be half of a frame.
        if codec in COUNTABLE and not self._is_interlaced:
            self.num_lost = max(self.num_lost, self._num_missing)
        name = self._container.format.name
        if name == "yuv4mpegpipe":  # its reader drops a last frame that is not whole
            is_cut = num_bytes >= self._end_in_file + len(_FRAME_MARK)
            self.announced_frames = self.num_frames + is_cut
        elif name == "avi" and self.announced_frames is not None:
            self._compare_avi(self.announced_frames)

    def _compare_avi(self, listed: int) -> None:
        stream = self._stream
        if self.num_frames > listed:  # only the beginning was listed
            self.announced_frames = stream.frames
        elif self.num_frames == listed and stream.duration and stream.time_base:
            # Frames that a recorder dropped at the end: the last one is shown longer.
            self.end = max(self.end, stream.duration * stream.time_base)

    def describe(self) -> str:
        """Describe how far the video was read."""
        if self._last is None or self._last.time is None:
            return f"{self.num_frames} frames were read"
        seconds = self._seconds(self._last)
        return f"{self.num_frames} frames were read, the last one at {seconds:.2f} s"

    def warnings(self) -> list[str]:
        """Return a line for each suspicion, without the file's name."""
        found, came = [], f"{self.num_frames} came"
        announced = self.announced_frames or 0
        if self.is_at_end and self.num_frames < announced:
            found.append(f"announces {_frames(announced)}, but {came}")
        elif self.is_at_end and self._ends_early():
            end = float(self.announced_end or 0)
            found.append(
                f"announces {end:.2f} s of video, but it ends at {float(self.end):.2f} "
                f"s ({came})"
            )
        elif self.num_lost:
            found.append(f"is damaged: {_frames(self.num_lost)} cannot be decoded")
        if self.num_concealed:
            found.append(
                "is damaged: the decoder guessed parts of "
                f"{_frames(self.num_concealed)}, the first one at "
                f"{self.first_concealed:.2f} s"
            )
        return found

    def _shown_until(self, item: Packet | VideoFrame) -> Fraction:
        if item.pts is None:
            return self.end
        unit = self._stream.time_base or Fraction(0)
        return item.pts * unit + ((item.duration or 0) * unit or self._usual)

    def _ends_early(self) -> bool:
        """Check the end; half a frame more may come of rounding."""
        if self.announced_end is None:
            return False
        return self.announced_end > self.end + self._usual / 2

    def _seconds(self, frame: VideoFrame) -> float:
        return (frame.time or 0.0) - (self._container.start_time or 0) / av.time_base


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"
