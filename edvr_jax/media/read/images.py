"""Read image files (OpenCV): the frames of clips that are folders."""

import contextlib
import io
import itertools
import os
import re
import statistics
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from edvr_jax import files, progress
from edvr_jax.errors import InputError
from edvr_jax.media.read import pixels

_PNG = b"\x89PNG\r\n\x1a\n"
_PIL_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that orders frame2.png before frame10.png."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(p)) if p.isdigit() else (1, p) for p in parts]


def list_visible(folder: Path) -> list[Path]:
    """List what a folder holds in natural order, without hidden entries.

    Raises:
        InputError: if the folder cannot be listed.
    """
    try:
        entries = [path for path in folder.iterdir() if path.name[0] != "."]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from None
    return sorted(entries, key=lambda path: (natural_key(path), path.name))


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder in natural order.

    Raises:
        InputError: if the folder cannot be listed.
    """
    return [p for p in list_visible(folder) if p.suffix.lower() in IMAGE_SUFFIXES]


def find_gaps(names: Sequence[str]) -> list[tuple[str, str]]:
    """Find neighboring frames whose numbers are far apart for their folder.

    Args:
        names: File names in natural order.

    Returns:
        Names before and after each gap; none for names that are not numbered, or that
        are those of several takes.
    """
    parts = [re.fullmatch(r"(.*?)(\d+)\D*", Path(name).stem) for name in names]
    steps = [
        int(part[2]) - int(before[2])
        for before, part in itertools.pairwise(parts)
        if before is not None and part is not None and before[1] == part[1]
    ]
    if len(steps) < max(1, len(names) - 1):
        return []
    usual = max(1, statistics.median_low(steps))
    couples = zip(itertools.pairwise(names), steps, strict=True)
    return [couple for couple, step in couples if step >= 2 * usual]


def has_alpha(path: Path) -> bool:
    """Report whether an image has transparency, by its header; broken ones have none.

    Args:
        path: The image file.
    """
    with contextlib.suppress(*_PIL_ERRORS), Image.open(path) as image:
        return image.has_transparency_data
    return False


def read_image(
    path: Path, *, keep_bit_depth: bool = False, with_alpha: bool = False
) -> np.ndarray:
    """Read one image as RGB, [H, W, 3].

    Args:
        path: The image file.
        keep_bit_depth: Give an image of 16 bits as uint16; else all are uint8.
        with_alpha: See :func:`decode_image`.

    Raises:
        InputError: if the file is missing, is an animation, is no complete image or has
            pixels that are neither of 8 nor of 16 bits.
    """
    with files.report_unreadable(path):
        data = path.read_bytes()
    image = decode_image(
        data, path, keep_bit_depth=keep_bit_depth, with_alpha=with_alpha
    )
    if path.suffix.lower() in (".png", ".webp"):  # a second page of TIFF is a thumbnail
        _check_single(path)
    return image


def decode_image(
    data: bytes,
    name: str | Path,
    *,
    keep_bit_depth: bool = False,
    with_alpha: bool = False,
) -> np.ndarray:
    """Decode the bytes of an image file as RGB, [H, W, 3].

    Args:
        data: Content of the file.
        name: The file's name in the message.
        keep_bit_depth: Give an image of 16 bits as uint16; else all are uint8.
        with_alpha: Add the alpha, [H, W, 4], opaque for an image without one; the
            colors are not multiplied by it.

    Raises:
        InputError: if it is no complete image, or has pixels that are neither of 8 nor
            of 16 bits.
    """
    order = cv2.IMREAD_COLOR if keep_bit_depth else cv2.IMREAD_COLOR_RGB
    image = _decode(data, order | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise InputError(f"{name}: not a complete image with 8 or 16 bits; replace it")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{name}: its pixels are {image.dtype}; save this frame with 8 or 16 bits "
            "for each of red, green and blue"
        )
    if keep_bit_depth:
        # Asked for RGB, OpenCV 5.0 does not set the pixels of a TIFF of 16 bits.
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    elif image.dtype == np.uint16:
        image = _decode(data, order)
        if image is None:
            raise InputError(f"{name}: not a complete image; replace it")
    return _with_alpha(image, data, name) if with_alpha else image


def _with_alpha(image: np.ndarray, data: bytes, name: str | Path) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            if not opened.has_transparency_data:
                opaque = np.full_like(image[..., 0], np.iinfo(image.dtype).max)
                return np.dstack([image, opaque])
            # OpenCV multiplies the colors of a TIFF by its alpha; Pillow cuts 16 bits.
            if image.dtype == np.uint8:
                return np.asarray(ImageOps.exif_transpose(opened).convert("RGBA"))
    except _PIL_ERRORS as error:
        raise InputError(f"{name}: not a complete image ({error})") from None
    deep = _decode(data, cv2.IMREAD_UNCHANGED)
    assert deep is not None
    return cv2.cvtColor(deep, cv2.COLOR_BGRA2RGBA)


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    if not data or (data.startswith(_PNG) and not _is_whole_png(data)):
        return None
    with contextlib.suppress(cv2.error):
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None


def _is_whole_png(data: bytes) -> bool:
    """Report whether the parts of a PNG file are there to its end.

    For a part that claims 4 GiB, OpenCV would take that memory first.
    """
    position = len(_PNG)
    while position + 12 <= len(data):  # length, name, content, checksum
        length, name = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if name == b"IEND":
            return position <= len(data)
    return False


def read_size(path: Path) -> tuple[int, int]:
    """Read height and width of an image; of a PNG file only its header.

    Raises:
        InputError: if the file is missing or is no complete image.
    """
    with files.report_unreadable(path), path.open("rb") as file:
        header = file.read(24)
    if header.startswith(_PNG) and len(header) == 24:
        width, height = struct.unpack(">II", header[16:])
        return height, width
    height, width, _ = read_image(path).shape
    return height, width


def check_all(paths: Sequence[Path]) -> None:
    """Check that all images can be decoded and have one size and depth.

    Raises:
        InputError: if one cannot, or differs from the first.
    """
    if not paths:
        return

    def measure(path: Path) -> tuple[tuple[int, ...], np.dtype]:
        image = read_image(path, keep_bit_depth=True)
        return image.shape, image.dtype

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # large frames take memory
    try:
        measured = pool.map(measure, paths)
        size, depth = next(measured)
        others = zip(paths[1:], measured, strict=True)
        name = f"checking {paths[0].parent.name}"
        for path, found in progress.watch(others, total=len(paths) - 1, name=name):
            pixels.check_size(found[0], size[:2], path)
            pixels.check_depth(found[1], depth, path)
    finally:
        pool.shutdown(cancel_futures=True)


def check_frames(path: Path) -> None:
    """Refuse an image that FFmpeg does not read as a video.

    Raises:
        InputError: if it holds several frames, or has an image's suffix.
    """
    _check_single(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"{path}: this is one image; give a video file or a folder of frames"
        )


def _check_single(path: Path) -> None:
    count = cv2.imcount(str(path))
    if count > 1:
        raise InputError(
            f"{path}: this image holds {count} frames; write each into a file, with "
            f"ImageMagick's magick {path.name} -coalesce frames/%05d.png, and give "
            "that folder"
        )
