"""Choose an encoder and its settings, and encode RGB frames as a video stream."""

import contextlib
import dataclasses
import io
import itertools
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
from edvr_jax.media.write.containers import CONTAINERS, Container, open_output

os.environ.setdefault("SVT_LOG", "1")  # else the AV1 encoder writes to stderr

DEFAULT_CRF = 17  # visually lossless; x264's own default, 23, is not

# The first format that an encoder has and that fits is chosen. 4:2:0 plays everywhere,
# but needs even sides; an odd side takes less subsampling, so that no pixel is lost.
_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "bgr0", "gbrp", "pal8", "yuvj420p")
_HIGH_FORMATS = ("yuv420p10le", "yuv422p10le", "yuv444p10le", "gbrp16le")
_UNLISTED = (*_FORMATS[:3], *_HIGH_FORMATS[:3])  # of an encoder that lists none
# Options besides crf: for constant quality, or for silence.
_EXTRA_OPTIONS = {
    "libvpx-vp9": {"b": "0", "row-mt": "1"},
    "libx265": {"x265-params": "log-level=error"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(2 * 118)},  # FF_QP2LAMBDA
    "prores_ks": {"vendor": "apl0"},
}


@dataclasses.dataclass(frozen=True)
class EncodingRequest:
    """Properties of a video to write, and the user's choices.

    Attributes:
        path: The file; its suffix names the container.
        size: Height and width of the frames.
        fps: Mean frames per second.
        time_base: Seconds of one unit of the frames' times.
        is_high_bit_depth: The frames have more than 8 bits per channel.
        has_alpha: The frames have transparency, which is kept if that is possible.
        colors: How RGB becomes YUV.
        pixel_aspect: Width over height of a pixel.
        codec: FFmpeg's name of an encoder; None is the container's usual one.
        pix_fmt: FFmpeg's name of a pixel format; None keeps bit depth and size.
        crf: Quality, 0 is best; None is 17 if the encoder has it.
        options: More options of the encoder, "key=value".
    """

    path: Path
    size: tuple[int, int]
    fps: Fraction
    time_base: Fraction
    is_high_bit_depth: bool = False
    has_alpha: bool = False
    colors: Colors = dataclasses.field(default_factory=Colors)
    pixel_aspect: Fraction = Fraction(1)
    codec: str | None = None
    pix_fmt: str | None = None
    crf: int | None = None
    options: Sequence[str] = ()

    @property
    def container(self) -> Container:
        """The container that the suffix names."""
        return CONTAINERS[self.path.suffix.lower()]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """A video stream as it is encoded.

    Attributes:
        size: Height and width of the frames.
        fps: Mean frames per second.
        time_base: Seconds of one unit of the frames' times.
        codec: FFmpeg's name of the encoder.
        pix_fmt: FFmpeg's name of the pixel format.
        options: Names and values.
        colors: How RGB becomes YUV.
        pixel_aspect: Width over height of a pixel.
        with_alpha: The frames have transparency.
    """

    size: tuple[int, int]
    fps: Fraction
    time_base: Fraction
    codec: str
    pix_fmt: str
    options: tuple[tuple[str, str], ...]
    colors: Colors
    pixel_aspect: Fraction = Fraction(1)
    with_alpha: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON."""
        fields = dataclasses.asdict(self) | {"options": dict(self.options)}
        return {
            name: str(value) if isinstance(value, Fraction) else value
            for name, value in fields.items()
        }

    @property
    def is_high_bit_depth(self) -> bool:
        """More than 8 bits per channel."""
        return bit_depth(VideoFormat(self.pix_fmt)) > 8

    @property
    def dtype(self) -> np.dtype:
        """Type of the frames to encode."""
        return np.dtype(np.uint16 if self.is_high_bit_depth else np.uint8)

    @property
    def layout(self) -> str:
        """FFmpeg's name of the layout of the frames to encode."""
        return yuv.LAYOUTS[self.dtype.name, 4 if self.with_alpha else 3]


def choose_encoding(request: EncodingRequest) -> Encoding:
    """Choose how a video is encoded, and try it.

    Raises:
        InputError: if there is no such encoder, pixel format or option, or if the
            container does not take them.
    """
    container, codec = request.container, request.codec
    if codec is None:
        # The encoder of AV1 has more bits, but no transparency.
        is_8_bit = request.has_alpha and container.muxer == "webm"
        with_high = request.is_high_bit_depth and not is_8_bit
        codec = container.high_bit_depth_codec if with_high else container.codec
    context = _create_context(codec)
    alpha_formats: list[str] = []
    if request.has_alpha:
        alpha_formats = alpha.list_formats(context.codec, container.muxer)
    pix_fmt = _choose_format(request, context, alpha_formats)
    encoding = Encoding(
        request.size,
        request.fps,
        1 / request.fps if container.is_raw else container.clock or request.time_base,
        context.codec.name,
        pix_fmt,
        _choose_options(request, context),
        _choose_colors(request, pix_fmt),
        request.pixel_aspect,
        with_alpha=pix_fmt in alpha_formats,
    )
    _check_opens(request.path, encoding)
    return encoding


def _create_context(codec: str) -> VideoCodecContext:
    with contextlib.suppress(UnknownCodecError, ValueError):
        context = av.CodecContext.create(codec, "w")
        if isinstance(context, VideoCodecContext):
            return context
    raise InputError(
        f"there is no video encoder {codec!r} here; usual ones are libx264, libx265, "
        "libsvtav1, libvpx-vp9, prores_ks, ffv1"
    )


def _choose_format(
    request: EncodingRequest, context: VideoCodecContext, alpha_formats: list[str]
) -> str:
    codec, wanted = context.codec.name, request.pix_fmt
    listed = [f.name for f in context.codec.video_formats or ()] or list(_UNLISTED)
    if wanted is not None:
        possible = [wanted]
        if wanted not in listed:
            raise InputError(
                f"{codec} has no pixel format {wanted!r}; it has {', '.join(listed)}"
            )
    else:
        is_high = request.is_high_bit_depth
        order = (_HIGH_FORMATS, _FORMATS) if is_high else (_FORMATS, _HIGH_FORMATS)
        possible = sorted(
            alpha_formats, key=lambda f: is_high != (bit_depth(VideoFormat(f)) > 8)
        )
        possible += [f for f in itertools.chain(*order) if f in listed]
    for pix_fmt in possible:
        if yuv.fits(pix_fmt, request.size):
            return pix_fmt
    height, width = request.size
    raise InputError(
        f"{codec} cannot store frames of {width}x{height} as "
        f"{' or '.join(possible or listed)}, whose sides must be even; give another "
        "--scale, --codec or --pix-fmt"
    )


def _choose_options(
    request: EncodingRequest, context: VideoCodecContext
) -> tuple[tuple[str, str], ...]:
    codec, crf = context.codec.name, request.crf
    supported = context.supported_options
    known = {option.name for option in (*supported.generic, *supported.private)}
    chosen = dict(_EXTRA_OPTIONS.get(codec, {}))
    if codec == "libx264" and (params := x264_params()):
        chosen["x264-params"] = params
    if codec == "libx265" and request.colors.hdr:
        chosen["x265-params"] += f":{request.colors.hdr}"
    if "crf" in known:
        chosen["crf"] = str(DEFAULT_CRF if crf is None else crf)
        largest = next(o.max for o in supported.private if o.name == "crf")
        largest = int(min(largest, 51 if "264" in codec else 63))
        if crf is not None and not 0 <= crf <= largest:
            raise InputError(f"crf of {codec} must be in 0..{largest}, got {crf}")
    elif crf is not None:
        raise InputError(
            f"{codec} has no crf; leave it out, or give --encoder-options of {codec}"
        )
    for option in request.options:
        key, equals, value = option.partition("=")
        if not equals or key not in known:
            raise InputError(
                f"encoder option {option!r}: write key=value with a key that {codec} "
                f"has (ffmpeg -h encoder={codec} lists them)"
            )
        is_added = key in ("x264-params", "x265-params") and key in chosen
        chosen[key] = f"{chosen[key]}:{value}" if is_added else value
    return tuple(chosen.items())


def _choose_colors(request: EncodingRequest, pix_fmt: str) -> Colors:
    colors = request.colors
    if VideoFormat(pix_fmt).is_rgb:
        colors = dataclasses.replace(colors, matrix=0, range=2)
    elif request.container.is_raw:
        colors = Colors(matrix=guess_matrix(*request.size))
    if pix_fmt.startswith(("gray", "ya")):
        colors = dataclasses.replace(colors, range=2)  # FFmpeg has no other gray
    return colors


def _check_opens(path: Path, encoding: Encoding) -> None:
    """Open encoder and container with their settings, before hours of work."""
    try:
        output = open_output(io.BytesIO(), CONTAINERS[path.suffix.lower()])
        add_stream(output, encoding)
        output.start_encoding()
    except (OSError, ValueError) as error:
        height, width = encoding.size
        options = "".join(f", {key}={value}" for key, value in encoding.options)
        raise InputError(
            f"{path}: {encoding.codec} ({encoding.pix_fmt}{options}) cannot write "
            f"frames of {width}x{height} into {path.suffix} "
            f"({getattr(error, 'strerror', None) or error}); give other settings, "
            "another --codec or another format"
        ) from None
    with contextlib.suppress(OSError, ValueError):
        output.close()  # some formats refuse to close without a frame


def add_stream(container: OutputContainer, encoding: Encoding) -> VideoStream:
    """Add a video stream to a file; equal encodings give equal streams."""
    stream = container.add_stream(
        encoding.codec, encoding.fps, options=dict(encoding.options)
    )
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = encoding.size
    stream.pix_fmt = encoding.pix_fmt
    codec, colors = stream.codec_context, encoding.colors
    codec.time_base = encoding.time_base
    codec.colorspace, codec.color_range = colors.matrix, colors.range
    codec.color_primaries, codec.color_trc = colors.primaries, colors.transfer
    codec.sample_aspect_ratio = encoding.pixel_aspect
    if encoding.codec == "libx265" and container.format.name in ("mp4", "mov"):
        codec.codec_tag = "hvc1"  # Apple's players refuse the other tag, hev1
    # The segments of a stream are joined under one header.
    codec.flags |= int(Flags.global_header)
    return stream


def encode(
    stream: VideoStream, image: np.ndarray, encoding: Encoding, *, time: int
) -> list[Packet]:
    """Encode a frame and return the packets that are ready.

    Args:
        stream: Of :func:`add_stream`.
        image: RGB, [H, W, 3], or RGBA, [H, W, 4], uint8 or uint16.
        encoding: The stream's.
        time: When the frame is shown, in units of the time base.
    """
    frame = yuv.to_frame(image)
    frame.pts, frame.time_base = time, encoding.time_base
    return stream.encode(to_yuv(frame, encoding.pix_fmt, encoding.colors))


def to_yuv(frame: VideoFrame, pix_fmt: str, colors: Colors) -> VideoFrame:
    """Convert a frame of :func:`yuv.to_frame` to a pixel format."""
    target = VideoFormat(pix_fmt)
    if target.is_rgb:
        return frame.reformat(format=pix_fmt, interpolation=SWSCALE_FLAGS)
    if yuv.is_known(colors.matrix, target):
        frame = yuv.write_frame(frame, pix_fmt, colors.matrix, colors.range)
    else:
        frame = frame.reformat(
            format=pix_fmt,
            dst_colorspace=colors.matrix,
            dst_color_range=colors.range,
            interpolation=SWSCALE_FLAGS,
        )
    # ProRes reads these from the frame, others from the stream.
    frame.color_primaries, frame.color_trc = colors.primaries, colors.transfer
    return frame
