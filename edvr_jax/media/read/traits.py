"""What the frames of a video carry beside colors: fields, captions, HDR metadata."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edvr_jax.media.read import frame_rgb

INTERLACED, CAPTIONS, MASTERING = "interlaced", "captions", "mastering"
RESIZED = "resized"  # some frames have another size than the first one
_KINDS = {  # FFmpeg's names of side data
    "A53_CC": CAPTIONS,
    "MASTERING_DISPLAY_METADATA": MASTERING,
    "CONTENT_LIGHT_LEVEL": MASTERING,
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
}
_NUM_SAMPLES = 8


def find(frame: VideoFrame) -> set[str]:
    """Return the traits of a frame: the constants above, or names of dynamic HDR."""
    found = {_KINDS[name] for name in frame_rgb.side_data(frame) if name in _KINDS}
    return found | ({INTERLACED} if frame.interlaced_frame else set())


def mastering(frame: VideoFrame) -> str:
    """Return the metadata of the mastering display and light level as x265 takes it.

    FFmpeg stores rational numbers: x and y of red, green, blue and white, then the
    lowest and highest luminance in cd/m2 (libavutil/mastering_display_metadata.h).
    """
    found, parts = frame_rgb.side_data(frame), []
    display = found.get("MASTERING_DISPLAY_METADATA")
    if display is not None:
        numbers = np.frombuffer(display, np.int32)
        if numbers[20:22].all():  # both the colors and the luminance are known
            values = numbers[:20:2] / numbers[1:20:2]
            r, g, b, white = np.rint(values[:8] * 50000).astype(int).reshape(4, 2)
            least, most = np.rint(values[8:] * 10000).astype(int)
            pairs = zip(("G", "B", "R", "WP"), (g, b, r, white), strict=True)
            text = "".join(f"{name}({x},{y})" for name, (x, y) in pairs)
            parts.append(f"master-display={text}L({most},{least})")
    light = found.get("CONTENT_LIGHT_LEVEL")
    if light is not None:
        parts.append("max-cll={},{}".format(*np.frombuffer(light, np.uint32)))
    return ":".join(parts)


def sample(
    opened: contextlib.AbstractContextManager[tuple[InputContainer, VideoStream]],
    start: Fraction,
    end: Fraction | None,
) -> Iterator[VideoFrame]:
    """Yield some key frames from all over a video, as far as it can be searched.

    Args:
        opened: Of :func:`decode.open_container`.
        start: Seconds on the file's clock.
        end: Seconds on the file's clock; None is its end.
    """
    with opened as (container, stream):
        if end is None:
            beginning, length = container.start_time, container.duration
            end = Fraction((beginning or 0) + (length or 0), av.time_base)
        for index in range(_NUM_SAMPLES if end > start else 0):
            time = start + (end - start) * index / _NUM_SAMPLES
            # Damage is reported when it is decoded. PyAV raises IndexError at the end
            # of a file in which streams appeared.
            with contextlib.suppress(FFmpegError, StopIteration, IndexError):
                container.seek(int(time * av.time_base))
                frame = next(container.decode(stream))
                assert isinstance(frame, VideoFrame)
                yield frame
