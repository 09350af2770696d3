"""Lossy video compression of frames in memory, by FFmpeg's encoders.

With one thread and fixed presets, equal frames always give equal bytes.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from edvr_jax.config import Codec
from edvr_jax.media.read.yuv import SWSCALE_FLAGS


@dataclasses.dataclass(frozen=True)
class _Settings:
    """How a codec is encoded and decoded; its quality is ``factor * crf + offset``."""

    encoder: str
    decoder: str
    options: Mapping[str, str]
    factor: float = 1.0
    offset: float = 0.0
    worst: int = 51


def x264_params() -> str:
    """Return parameters with which x264 gives the same bytes for the same frames.

    On processors with AVX-512 its choice of quality by block (mbtree) reads memory that
    was never written, so results differ now and then; its code for AVX2 does not.
    """
    try:
        has_avx512 = "avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        has_avx512 = False
    return "asm=avx2" if has_avx512 else ""


# The factors and offsets give each codec about the quality of x264, to a few dB, on
# windows of natural video.
_SETTINGS: Mapping[Codec, _Settings] = {
    "h264": _Settings(
        "libx264", "h264", {"preset": "medium", "x264-params": x264_params()}
    ),
    "h265": _Settings(
        "libx265",
        "hevc",
        {
            "preset": "ultrafast",
            "x265-params": "log-level=none:pools=none:frame-threads=1",
        },
        offset=-2.0,
    ),
    "vp9": _Settings(
        "libvpx-vp9",
        "vp9",
        {"b": "0", "deadline": "realtime", "cpu-used": "8"},
        factor=1.3,
        worst=63,
    ),
}


def compress(
    frames: Iterable[np.ndarray], *, crf: float, codec: Codec = "h264"
) -> Iterator[np.ndarray]:
    """Encode and decode frames, 4:2:0.

    Args:
        frames: RGB frames of one size, [H, W, 3] uint8.
        crf: Quality on the scale of x264, 0 (best) to 51; other codecs get about the
            same quality.
        codec: The codec.

    Yields:
        The decoded frames, as many, [H, W, 3] uint8.
    """
    encoder = decoder = None
    height = width = 0
    for index, image in enumerate(frames):
        if encoder is None or decoder is None:
            height, width = image.shape[:2]
            encoder = _open_encoder(height + height % 2, width + width % 2, crf, codec)
            decoder = av.CodecContext.create(_SETTINGS[codec].decoder, "r")
            decoder.thread_count = 1
        even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(even, format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            interpolation=SWSCALE_FLAGS,
        )
        frame.pts = index
        for packet in encoder.encode(frame):
            yield from _decode(decoder, packet, height, width)
    if encoder is not None:
        for packet in [*encoder.encode(None), None]:
            yield from _decode(decoder, packet, height, width)


def _open_encoder(
    height: int, width: int, crf: float, codec: Codec
) -> VideoCodecContext:
    settings = _SETTINGS[codec]
    encoder = av.CodecContext.create(settings.encoder, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = height, width
    encoder.pix_fmt = "yuv420p"
    encoder.framerate = Fraction(25)
    encoder.time_base = 1 / encoder.framerate
    encoder.thread_count = 1
    quality = settings.factor * crf + settings.offset
    quality = min(max(quality, 0), settings.worst)
    encoder.options = {"crf": f"{quality:.1f}", **settings.options}
    return encoder


def _decode(decoder, packet, height: int, width: int) -> Iterator[np.ndarray]:
    for frame in decoder.decode(packet):
        image = frame.to_ndarray(
            format="rgb24",
            src_colorspace=Colorspace.ITU709,
            interpolation=SWSCALE_FLAGS,
        )
        yield image[:height, :width]
