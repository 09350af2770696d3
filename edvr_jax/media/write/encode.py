"""Encode RGB frames as a video stream, by the encoder and pixel format asked for.

The matrix and the range of the levels are the input's, and are written into the stream.
"""

import contextlib
import dataclasses
import io
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.codec.context import Flags
from av.container import OutputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edvr_jax.errors import InputError
from edvr_jax.media.read import alpha, yuv
from edvr_jax.media.read.colors import Colors
from edvr_jax.media.read.frame_rgb import guess_matrix
from edvr_jax.media.read.yuv import SWSCALE_FLAGS, bit_depth
from edvr_jax.media.write.compression import x264_params
from edvr_jax.media.write.containers import CONTAINERS, open_output

os.environ.setdefault("SVT_LOG", "1")  # or the AV1 encoder talks on stderr

DEFAULT_CRF = 17  # visually lossless; x264's own default, 23, is not


# In the order in which one is chosen: 4:2:0 plays everywhere, but halves both sides,
# so that an odd one would lose a row or column.
_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "bgr0", "gbrp", "pal8", "yuvj420p")
_DEEP_FORMATS = ("yuv420p10le", "yuv422p10le", "yuv444p10le", "gbrp16le")
_NO_LIST = (*_FORMATS[:3], *_DEEP_FORMATS[:3])  # of an encoder that lists none
# More than a crf: for constant quality, or to be silent.
_EXTRA_OPTIONS = {
    "libvpx-vp9": {"b": "0", "row-mt": "1"},
    "libx265": {"x265-params": "log-level=error"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(2 * 118)},  # FF_QP2LAMBDA
    "prores_ks": {"vendor": "apl0"},
}


@dataclasses.dataclass(frozen=True)
class Encoding:
    """A choice of encoder and all that it is told.

    Attributes:
        codec: FFmpeg's name of the encoder.
        pix_fmt: FFmpeg's name of the pixel format.
        options: Names and values.
        colors: How RGB becomes YUV.
        pixel_aspect: Width over height of a pixel.
        with_alpha: The frames have transparency.
    """

    codec: str
    pix_fmt: str
    options: tuple[tuple[str, str], ...]
    colors: Colors
    pixel_aspect: Fraction
    with_alpha: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            **dataclasses.asdict(self),
            "options": dict(self.options),
            "pixel_aspect": str(self.pixel_aspect),
        }

    @property
    def is_high_bit_depth(self) -> bool:
        """More than 8 bits per channel."""
        return bit_depth(VideoFormat(self.pix_fmt)) > 8

    @property
    def dtype(self) -> np.dtype:
        """Type of the frames that lose nothing before the encoder."""
        return np.dtype(np.uint16 if self.is_high_bit_depth else np.uint8)

    @property
    def layout(self) -> str:
        """FFmpeg's name of the layout of these frames."""
        return yuv.LAYOUTS[self.dtype.name, 4 if self.with_alpha else 3]


def choose_encoding(
    path: Path,
    size: tuple[int, int],
    *,
    fps: Fraction,
    time_base: Fraction,
    codec: str | None = None,
    pix_fmt: str | None = None,
    crf: int | None = None,
    options: Sequence[str] = (),
    is_high_bit_depth: bool = False,
    has_alpha: bool = False,
    colors: Colors | None = None,
    pixel_aspect: Fraction = Fraction(1),
) -> Encoding:
    """Choose how a video is encoded.

    Args:
        path: The file; its suffix names the container.
        size: Height and width of its frames.
        fps: Mean frames per second.
        time_base: Seconds of one unit of the frames' times.
        codec: FFmpeg's name of an encoder; None is the container's usual one.
        pix_fmt: FFmpeg's name of a pixel format; None keeps depth and size.
        crf: Quality, 0 is best; None is 17 if the encoder knows it.
        options: More for the encoder, "key=value".
        is_high_bit_depth: The frames have more than 8 bits per channel.
        has_alpha: The frames have transparency, which is kept if that is possible.
        colors: How RGB becomes YUV; None is BT.709.
        pixel_aspect: Width over height of a pixel.

    Raises:
        InputError: if there is no such encoder, pixel format or option.
    """
    container = CONTAINERS[path.suffix.lower()]
    # AV1 has more bits, but no transparency.
    is_vp9 = has_alpha and container.muxer == "webm"
    codec = codec or (
        container.deep_codec if is_high_bit_depth and not is_vp9 else container.codec
    )
    context = _create_context(codec)
    storing = alpha.list_formats(context.codec, container.muxer)
    alpha_formats = storing if has_alpha else []
    pix_fmt = _choose_format(
        context, size, pix_fmt, alpha_formats, is_high_bit_depth=is_high_bit_depth
    )
    supported = context.supported_options
    known = {option.name for option in (*supported.generic, *supported.private)}
    chosen = dict(_EXTRA_OPTIONS.get(codec, {}))
    if codec == "libx264" and (params := x264_params()):
        chosen["x264-params"] = params
    colors = colors or Colors()
    if codec == "libx265" and colors.hdr:
        chosen["x265-params"] += f":{colors.hdr}"
    if crf is not None and "crf" not in known:
        raise InputError(
            f"{codec} has no crf; leave it out, or give --encoder-options of {codec}"
        )
    if "crf" in known:
        chosen["crf"] = str(DEFAULT_CRF if crf is None else crf)
        largest = _largest_crf(context)
        if crf is not None and not 0 <= crf <= largest:
            raise InputError(f"crf of {codec} must be in 0..{largest}, got {crf}")
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in known:
            raise InputError(
                f"encoder option {option!r}: write key=value with a key that {codec} "
                f"has (ffmpeg -h encoder={codec} lists them)"
            )
        is_added = key in ("x264-params", "x265-params") and key in chosen
        chosen[key] = f"{chosen[key]}:{value}" if is_added else value
    if VideoFormat(pix_fmt).is_rgb:
        colors = dataclasses.replace(colors, matrix=0, range=2)
    elif container.is_raw:
        colors = Colors(matrix=guess_matrix(*size))
    if pix_fmt.startswith(("gray", "ya")):
        colors = dataclasses.replace(colors, range=2)  # all that FFmpeg knows of gray
    given, with_alpha = tuple(chosen.items()), pix_fmt in alpha_formats
    encoding = Encoding(codec, pix_fmt, given, colors, pixel_aspect, with_alpha)
    _check_opens(path, encoding, size, fps, time_base)
    return encoding


def _create_context(codec: str) -> VideoCodecContext:
    try:
        context = av.CodecContext.create(codec, "w")
    except (UnknownCodecError, ValueError):
        context = None
    if not isinstance(context, VideoCodecContext):
        raise InputError(
            f"there is no video encoder {codec!r} here; usual ones are libx264, "
            "libx265, libsvtav1, libvpx-vp9, prores_ks, ffv1"
        )
    return context


def _choose_format(
    context: VideoCodecContext,
    size: tuple[int, int],
    pix_fmt: str | None,
    alpha_formats: Sequence[str],
    *,
    is_high_bit_depth: bool,
) -> str:
    listed = [f.name for f in context.codec.video_formats or ()] or list(_NO_LIST)
    if pix_fmt is not None:
        if pix_fmt not in listed:
            raise InputError(
                f"{context.codec.name} has no pixel format {pix_fmt!r}; it has "
                f"{', '.join(listed)}"
            )
        _check_even(pix_fmt, size)
        return pix_fmt
    wanted = (
        (*_DEEP_FORMATS, *_FORMATS)
        if is_high_bit_depth
        else (*_FORMATS, *_DEEP_FORMATS)
    )
    with_alpha = sorted(
        alpha_formats,
        key=lambda f: is_high_bit_depth != (bit_depth(VideoFormat(f)) > 8),
    )
    possible = [*with_alpha, *(f for f in wanted if f in listed)]
    fitting = [f for f in possible if yuv.fits(f, size)]
    if not fitting:
        height, width = size
        raise InputError(
            f"{context.codec.name} cannot store frames of {width}x{height}: both sides "
            "must be even; give another --scale or --codec"
        )
    return fitting[0]


def _check_even(pix_fmt: str, size: tuple[int, int]) -> None:
    if not yuv.fits(pix_fmt, size):
        height, width = size
        raise InputError(
            f"{pix_fmt} cannot store frames of {width}x{height}, whose sides must be "
            "even; leave --pix-fmt out, or give another --scale"
        )


def _largest_crf(context: VideoCodecContext) -> int:
    largest = next(o.max for o in context.supported_options.private if o.name == "crf")
    return int(min(largest, 63 if "264" not in context.codec.name else 51))


def _check_opens(
    path: Path,
    encoding: Encoding,
    size: tuple[int, int],
    fps: Fraction,
    time_base: Fraction,
) -> None:
    """Let encoder and format look at their settings before hours of work."""
    try:
        output = open_output(io.BytesIO(), CONTAINERS[path.suffix.lower()])
        add_stream(output, encoding, size, fps=fps, time_base=time_base)
        output.start_encoding()
    except (OSError, ValueError) as error:
        height, width = size
        options = "".join(f", {key}={value}" for key, value in encoding.options)
        raise InputError(
            f"{path}: {encoding.codec} ({encoding.pix_fmt}{options}) cannot write "
            f"frames of {width}x{height} into {path.suffix} "
            f"({getattr(error, 'strerror', None) or error}); give other settings, "
            "another --codec or another format"
        ) from None
    with contextlib.suppress(OSError, ValueError):
        output.close()  # which some refuse without a frame


def add_stream(
    container: OutputContainer,
    encoding: Encoding,
    size: tuple[int, int],
    *,
    fps: Fraction,
    time_base: Fraction,
) -> VideoStream:
    """Add a video stream to a file; equal arguments give equal streams.

    Args:
        container: The file.
        encoding: The encoder.
        size: Height and width.
        fps: Mean frames per second.
        time_base: Unit of the frames' times, in seconds.
    """
    stream = container.add_stream(encoding.codec, fps, options=dict(encoding.options))
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = size
    stream.pix_fmt = encoding.pix_fmt
    codec, colors = stream.codec_context, encoding.colors
    codec.time_base = time_base
    codec.colorspace, codec.color_range = colors.matrix, colors.range
    codec.color_primaries, codec.color_trc = colors.primaries, colors.transfer
    codec.sample_aspect_ratio = encoding.pixel_aspect
    if encoding.codec == "libx265" and container.format.name in ("mp4", "mov"):
        codec.codec_tag = "hvc1"  # the other tag, hev1, does not play on Apple's
    # Parts of a stream are put together under one header.
    codec.flags |= int(Flags.global_header)
    return stream


def encode(
    stream: VideoStream,
    image: np.ndarray,
    *,
    colors: Colors,
    time: int,
    time_base: Fraction,
) -> list[Packet]:
    """Encode a frame, RGB, [H, W, 3], or RGBA, [H, W, 4], uint8 or uint16.

    Args:
        stream: Of :func:`add_stream`.
        image: The frame.
        colors: How RGB becomes YUV.
        time: When it is shown, in units of the time base.
        time_base: Seconds of one unit.

    Returns:
        The packets that are ready.
    """
    frame = yuv.to_frame(image)
    frame.pts, frame.time_base = time, time_base
    return stream.encode(to_yuv(frame, stream.pix_fmt, colors))


def to_yuv(frame: VideoFrame, pix_fmt: str | None, colors: Colors) -> VideoFrame:
    """Convert a frame of :func:`yuv.to_frame` to the encoder's pixel format."""
    target = VideoFormat(pix_fmt or frame.format.name)
    if target.is_rgb:
        return frame.reformat(format=pix_fmt, interpolation=SWSCALE_FLAGS)
    if yuv.is_known(colors.matrix, target):
        frame = yuv.write_frame(frame, target.name, colors.matrix, colors.range)
    else:
        frame = frame.reformat(
            format=pix_fmt,
            dst_colorspace=colors.matrix,
            dst_color_range=colors.range,
            interpolation=SWSCALE_FLAGS,
        )
    # ProRes asks the frame, others the stream.
    frame.color_primaries, frame.color_trc = colors.primaries, colors.transfer
    return frame
