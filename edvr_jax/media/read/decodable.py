"""Recognize videos that cannot be decoded: encrypted, or of unknown codec or colors."""

import re
from pathlib import Path

import av
import av.logging
from av.container import InputContainer
from av.video.stream import VideoStream

from edvr_jax.errors import InputError

# Matrices of ITU-T H.273 that swscale converts, and names of others.
_MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)
_OTHER_MATRICES = {3: "reserved", 8: "YCgCo", 10: "BT.2020-CL", 14: "ICtCp"}
_ENCRYPTED = ("encv", "drmi")  # names of codecs: MPEG's common encryption, iTunes
_PACKET = 188  # bytes of a packet of MPEG-TS
_NUM_SAMPLES = 5000  # packets to examine


def check(path: Path, container: InputContainer, stream: VideoStream) -> None:
    """Check by its headers that a video can be decoded; the path names it.

    Raises:
        InputError: if it is encrypted, or there is no decoder for its codec.
    """
    tag = "" if stream.codec_context else _codec_tag(container, stream)
    is_encrypted = tag in _ENCRYPTED or "enc_key_id" in stream.metadata
    if is_encrypted or "ASF_Protection_Type" in container.metadata:
        raise encrypted(path)
    if not stream.codec_context:
        shown = f" ({tag})" if tag else ""
        raise InputError(
            f"{path}: there is no decoder for the codec of this video{shown}; convert "
            "it with the program that made it, to H.264 or ProRes for example"
        )


def encrypted(path: Path) -> InputError:
    """Return the error for a video that is encrypted."""
    return InputError(
        f"{path}: this video is encrypted (DRM) and cannot be decoded; give a copy "
        "without copy protection"
    )


def check_matrix(path: Path, matrix: int | None) -> None:
    """Check the number of a YUV matrix (ITU-T H.273); None is RGB.

    Raises:
        InputError: if it cannot be converted.
    """
    if matrix is not None and matrix not in _MATRICES:
        raise InputError(
            f"{path}: its color matrix is {matrix} "
            f"({_OTHER_MATRICES.get(matrix, 'unknown')}), which cannot be converted to "
            "RGB; convert it to BT.709 first, with FFmpeg's filter zscale"
        )


def is_scrambled(path: Path, container: InputContainer) -> bool:
    """Return whether packets of MPEG-TS, as received by DVB, are encrypted."""
    if container.format.name != "mpegts":
        return False
    with path.open("rb") as file:
        data = file.read(_NUM_SAMPLES * _PACKET)
    starts = range(0, len(data) - 3, _PACKET)
    return any(data[i] == ord("G") and data[i + 3] & 0x80 for i in starts)


def _codec_tag(container: InputContainer, stream: VideoStream) -> str:
    """Return the name that a file gives a codec; empty if FFmpeg does not show it."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    # PyAV shows the name of an unknown codec nowhere else.
    text = container.dumps_format()  # pyright: ignore
    av.logging.set_level(level)
    line = rf"#0:{stream.index}\b.*: Video: (?:none \((\S+) /|none|(\w+))"
    found = re.search(line, text)
    return (found and (found[1] or found[2])) or ""
