"""How a video stores colors."""

import dataclasses

from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from edvr_jax.media.read import frame_rgb, traits


@dataclasses.dataclass(frozen=True)
class Colors:
    """What RGB means and how it is stored as YUV, by the numbers of ITU-T H.273.

    Attributes:
        matrix: From RGB to YUV.
        range: FFmpeg's number: 1 is limited (levels 16 to 235), 2 is full.
        primaries: The colors of red, green and blue.
        transfer: From light to levels.
        hdr: Metadata of the mastering display and the light level, as x265 takes it.
    """

    matrix: int = int(Colorspace.ITU709)
    range: int = int(ColorRange.MPEG)
    primaries: int = int(ColorPrimaries.BT709)
    transfer: int = int(ColorTrc.BT709)
    hdr: str = ""


def of_frame(frame: VideoFrame) -> Colors:
    """Return how a decoded frame stores colors; the default for RGB."""
    matrix = frame_rgb.matrix_of(frame)
    if matrix is None:
        return Colors()
    return Colors(
        matrix=matrix,
        range=int(frame_rgb.range_of(frame)),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        hdr=traits.mastering(frame),
    )
