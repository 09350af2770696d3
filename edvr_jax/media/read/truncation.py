"""Compare what a decoder delivers of a video with what its container announces.

A difference is a warning, never an error: headers can be wrong, and the delivered
frames are a video in any case.
"""

import math
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# Every packet of these codecs is a frame. VP8 has hidden frames, MPEG-4 omitted ones.
_COUNTABLE = ("h264", "hevc", "av1", "vp9", "mpeg1video", "mpeg2video", "mjpeg")
_Y4M_FRAME = b"FRAME"  # the marker before each frame of YUV4MPEG2


def announced_frames(container: InputContainer, stream: VideoStream) -> int | None:
    """Return how many frames the container lists, without those its edit list hides.

    Empty entries, which repeat a frame, do not count. None if there is no list: only
    MP4, QuickTime and AVI have one.
    """
    entries, num_frames = stream.index_entries, stream.frames
    if not num_frames or not len(entries):  # a fragmented MP4, or another format
        return num_frames or None
    if container.format.name == "avi":
        # Of a truncated AVI, FFmpeg lists the first packets only, or changes the
        # duration. Else the header also counts frames that a recorder dropped.
        is_truncated = 2 * entries[-1].pos < container.size
        if is_truncated or stream.duration != num_frames:
            return num_frames
    return sum(entry.size > 0 and not entry.is_discard for entry in entries)


def announced_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the second at which a Matroska file announces the end of its video.

    The header's duration is that of the longest stream; FFmpeg and mkvmerge write one
    per stream as a tag. Durations in other formats are guesses, or ignore edits.
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
    """Counts what is decoded of a video and compares it with the container at the end.

    Damage counts from the first decoded key frame on: in a recording or after a seek,
    frames before it may need others that are not in the file.

    Attributes:
        num_frames: Frames delivered by the decoder so far.
        end: Seconds on the file's clock until which these frames are shown; an empty
            packet repeats the frame before it.
        announced_frames: See :func:`announced_frames`; None unless read from the start.
        announced_end: See :func:`announced_end`.
        is_at_end: The video was read to its end.
        num_lost: Packets that the decoder refused; at the end, all that gave no frame.
        num_concealed: Frames of which the decoder guessed parts.
        first_concealed: Seconds from the video's beginning to the first of these.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        is_from_start: bool = True,
    ):
        self._container, self._stream = container, stream
        counted = announced_frames(container, stream) if is_from_start else None
        self.announced_frames = counted
        self.announced_end = announced_end(container, stream)
        self.num_frames = self.num_lost = self.num_concealed = 0
        self.end = Fraction(0)
        self.first_concealed = 0.0
        self.is_at_end = False
        self._frame_seconds = 1 / (stream.average_rate or Fraction(25))
        self._repeated_until = Fraction(0)
        self._packet_times: list[int] = []
        self._start = math.inf  # time of the first key frame
        self._num_since_start = 0
        self._last_seconds: float | None = None
        self._is_interlaced = False
        self._end_position = 0  # of the last packet, in bytes

    def add_packet(self, packet: Packet) -> None:
        """Count a packet of the video stream."""
        if packet.pos is not None:
            self._end_position = max(self._end_position, packet.pos + packet.size)
        if packet.pts is None or packet.is_discard:  # hidden by the edit list
            return
        if packet.size:
            self._packet_times.append(packet.pts)
        else:
            self._repeated_until = self._shown_until(packet)

    def add_refused(self, packet: Packet) -> None:
        """Count a packet that the decoder refused; an empty one is not a frame."""
        self.num_lost += bool(packet.size)

    def add_frame(self, frame: VideoFrame) -> None:
        """Count a decoded frame."""
        self.num_frames += 1
        self._last_seconds = None if frame.time is None else self._seconds(frame)
        self.end = max(self._shown_until(frame), self._repeated_until)
        self._is_interlaced |= frame.interlaced_frame
        time = 0 if frame.pts is None else frame.pts
        if self._start == math.inf and frame.key_frame:
            self._start = time
        if time < self._start:
            return
        self._num_since_start += 1
        if frame.is_corrupt:
            if not self.num_concealed:
                self.first_concealed = self._seconds(frame)
            self.num_concealed += 1

    def finish(self, num_bytes: int) -> None:
        """Compare; the video was read to its end, of so many bytes."""
        self.is_at_end = True
        self.end = max(self.end, self._repeated_until)
        codec = self._stream.codec_context.codec.canonical_name
        # A packet of interlaced video may be half a frame.
        if codec in _COUNTABLE and not self._is_interlaced:
            num_packets = sum(time >= self._start for time in self._packet_times)
            self.num_lost = max(self.num_lost, num_packets - self._num_since_start)
        name, stream = self._container.format.name, self._stream
        if name == "yuv4mpegpipe":  # FFmpeg's reader drops an incomplete last frame
            is_cut = num_bytes >= self._end_position + len(_Y4M_FRAME)
            self.announced_frames = self.num_frames + is_cut
        elif name == "avi" and self.announced_frames is not None:
            if self.num_frames > self.announced_frames:  # FFmpeg listed the first only
                self.announced_frames = stream.frames
            elif self.num_frames == self.announced_frames:
                # A recorder that drops frames at the end shows the last one longer.
                unit = stream.time_base or Fraction(0)
                self.end = max(self.end, (stream.duration or 0) * unit)

    def describe(self) -> str:
        """Describe how far the video was read."""
        text = f"{self.num_frames} frames were read"
        if self._last_seconds is not None:
            text += f", the last one at {self._last_seconds:.2f} s"
        return text

    def warnings(self) -> list[str]:
        """Return a line for each difference or damage, to follow the file's name."""
        lines, announced = [], self.announced_frames or 0
        end = self.announced_end or Fraction(0)
        rounding = self._frame_seconds / 2
        if self.is_at_end and self.num_frames < announced:
            lines.append(f"announces {_frames(announced)}, but {self.num_frames} came")
        elif self.is_at_end and end > self.end + rounding:
            lines.append(
                f"announces {float(end):.2f} s of video, but it ends at "
                f"{float(self.end):.2f} s ({self.num_frames} came)"
            )
        elif self.num_lost:
            lines.append(f"is damaged: {_frames(self.num_lost)} cannot be decoded")
        if self.num_concealed:
            lines.append(
                "is damaged: the decoder guessed parts of "
                f"{_frames(self.num_concealed)}, the first one at "
                f"{self.first_concealed:.2f} s"
            )
        return lines

    def _shown_until(self, item: Packet | VideoFrame) -> Fraction:
        if item.pts is None:
            return self.end
        unit = self._stream.time_base or Fraction(0)
        return item.pts * unit + ((item.duration or 0) * unit or self._frame_seconds)

    def _seconds(self, frame: VideoFrame) -> float:
        return (frame.time or 0.0) - (self._container.start_time or 0) / av.time_base


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"
