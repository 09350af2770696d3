"""Transparency (alpha) of video frames: which formats store it, reading and writing.

Alpha is a channel of full range; the colors are not multiplied by it.
"""

import logging
from pathlib import Path

import av
import numpy as np
from av.codec.codec import Codec
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edvr_jax.media.read import planes

# These store alpha as side data of packets, which only Matroska and WebM keep and
# FFmpeg's own decoders do not read.
_BESIDE = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_WITH_BESIDE = ("matroska", "webm")
# Encoders of these accept pixel formats with alpha, but drop it.
_OPAQUE = ("h264", "hevc", "av1", "mjpeg")
_log = logging.getLogger(__name__)


def is_in(frame: VideoFrame) -> bool:
    """Return whether a frame's pixel format, or its palette, has transparency."""
    if frame.format.name == "pal8":
        return bool(read(frame, np.dtype(np.uint8)).min() < 255)
    return _has_channel(frame.format)


def is_beside(codec: str) -> bool:
    """Return whether an encoder stores transparency as side data of packets."""
    return Codec(codec, "w").canonical_name in _BESIDE


def list_formats(codec: Codec, muxer: str) -> list[str]:
    """List the pixel formats in which an encoder and a muxer keep transparency."""
    name = codec.canonical_name
    if name == "gif":
        return ["pal8"]
    if name in _OPAQUE or (name in _BESIDE and muxer not in _WITH_BESIDE):
        return []
    formats = [f for f in codec.video_formats or () if len(f.components) == 4]
    found = [f.name for f in formats if _has_channel(f)]
    # libvpx lists more formats than it opens.
    return [f for f in found if name not in _BESIDE or f == "yuva420p"]


def create_decoder(path: Path, stream: VideoStream) -> VideoCodecContext | None:
    """Create the decoder that a stream's transparency needs; None is the default one.

    If FFmpeg was built without it, a warning with the path is logged.
    """
    context = stream.codec_context
    name = _BESIDE.get(context.codec.canonical_name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    if name not in av.codecs_available:
        _log.warning("%s: FFmpeg lacks %s to read its transparency", path, name)
        return None
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    for tag in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(decoder, tag, getattr(context, tag))
    return decoder


def read(frame: VideoFrame, dtype: np.dtype) -> np.ndarray:
    """Return the alpha of a decoded frame, [H, W] uint8 or uint16; opaque without one.

    A plane is read directly: swscale is off by up to 1 of 255 for some formats.
    """
    largest = np.iinfo(dtype).max
    if frame.format.name != "pal8" and not _has_channel(frame.format):
        return np.full((frame.height, frame.width), largest, dtype)
    channel = frame.format.components[-1]
    if channel.plane != 3 or channel.bits > 16:
        layout = "rgba" if dtype == np.uint8 else "rgba64le"
        return frame.to_ndarray(format=layout)[..., 3]
    scale = largest / (2**channel.bits - 1)
    return np.rint(planes.view(frame, 3)[..., 0] * scale).astype(dtype)


def write(frame: VideoFrame, alpha: np.ndarray) -> None:
    """Set the alpha plane of a frame to [H, W] uint8 or uint16."""
    bits = frame.format.components[3].bits
    scale = (2**bits - 1) / np.iinfo(alpha.dtype).max
    planes.view(frame, 3)[..., 0] = np.rint(alpha * scale)


def _has_channel(pixel_format: VideoFormat) -> bool:
    return any(component.is_alpha for component in pixel_format.components)
