"""How a video stores colors."""

import dataclasses

from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc


@dataclasses.dataclass(frozen=True)
class Colors:
    """How RGB is meant and stored as YUV, by FFmpeg's numbers.

    Attributes:
        matrix: RGB to YUV.
        range: Levels 16 to 235 (1, MPEG) or all (2, JPEG).
        primaries: What red, green and blue are.
        transfer: From light to levels.
        hdr: Metadata of the mastering display and the light, as x265 takes it.
    """

    matrix: int = int(Colorspace.ITU709)
    range: int = int(ColorRange.MPEG)
    primaries: int = int(ColorPrimaries.BT709)
    transfer: int = int(ColorTrc.BT709)
    hdr: str = ""
