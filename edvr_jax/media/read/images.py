"""Image files as frames: list those of a folder, decode and check them."""

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
    """Return a sort key that orders frame2.png before frame10.png."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(p)) if p.isdigit() else (1, p) for p in parts]


def list_visible(folder: Path) -> list[Path]:
    """List the entries of a folder in natural order, without hidden ones.

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


def list_frames(folder: Path) -> list[Path]:
    """List the images of a folder that is a clip, at least one.

    Raises:
        InputError: if the folder has no images or cannot be listed.
    """
    paths = list_images(folder)
    if not paths:
        is_empty = not list_visible(folder)
        problem = "this folder is empty" if is_empty else "no images in this folder"
        raise InputError(
            f"{folder}: {problem}; it must hold the frames of one clip as "
            f"{', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)}"
        )
    return paths


def find_gaps(names: Sequence[str]) -> list[tuple[str, str]]:
    """Find neighboring frames whose numbers are unusually far apart for their folder.

    Args:
        names: File names in natural order.

    Returns:
        The names before and after each gap; nothing if the names are not numbered, or
        not in one sequence.
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
    """Return whether an image has transparency, by its header; not if it is broken."""
    with contextlib.suppress(*_PIL_ERRORS), Image.open(path) as image:
        return image.has_transparency_data
    return False


def read_image(
    path: Path, *, keep_bit_depth: bool = False, with_alpha: bool = False
) -> np.ndarray:
    """Read an image as RGB, [H, W, 3], or RGBA; see :func:`decode_image`.

    Raises:
        InputError: if the file cannot be read, is not a complete image of 8 or 16 bits,
            or is an animation.
    """
    with files.report_unreadable(path):
        data = path.read_bytes()
    image = decode_image(
        data, path, keep_bit_depth=keep_bit_depth, with_alpha=with_alpha
    )
    if path.suffix.lower() in (".png", ".webp"):  # a second page of TIFF is a thumbnail
        _refuse_animation(path)
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
        name: The file's name in messages.
        keep_bit_depth: Return an image of 16 bits as uint16; else all are uint8.
        with_alpha: Add the alpha, [H, W, 4], opaque for an image without one; the
            colors are not multiplied by it.

    Raises:
        InputError: if it is not a complete image of 8 or 16 bits.
    """
    order = cv2.IMREAD_COLOR if keep_bit_depth else cv2.IMREAD_COLOR_RGB
    image = _decode(data, order | cv2.IMREAD_ANYDEPTH, name)
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{name}: its pixels are {image.dtype}; save this frame with 8 or 16 bits "
            "for each of red, green and blue"
        )
    if keep_bit_depth:
        # IMREAD_COLOR_RGB leaves the pixels of a 16-bit TIFF unset in OpenCV 5.0.
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    elif image.dtype == np.uint16:
        image = _decode(data, order, name)
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
    image = _decode(data, cv2.IMREAD_UNCHANGED, name)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)


def _decode(data: bytes, flags: int, name: str | Path) -> np.ndarray:
    image = None
    if data and not (data.startswith(_PNG) and not _is_whole_png(data)):
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise InputError(f"{name}: not a complete image with 8 or 16 bits; replace it")
    return image


def _is_whole_png(data: bytes) -> bool:
    """Return whether all chunks of a PNG file are there.

    OpenCV allocates what a chunk claims to hold, up to 4 GiB, before it reads.
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
        InputError: if the file cannot be read or is not a complete image.
    """
    with files.report_unreadable(path), path.open("rb") as file:
        header = file.read(24)
    if header.startswith(_PNG) and len(header) == 24:
        width, height = struct.unpack(">II", header[16:])
        return height, width
    return read_image(path).shape[:2]


def check_all(paths: Sequence[Path]) -> None:
    """Check that all images, one or more, can be decoded and are alike.

    Raises:
        InputError: if one cannot, or differs from the first in size or bit depth.
    """
    first = read_image(paths[0], keep_bit_depth=True)

    def check(path: Path) -> None:
        image = read_image(path, keep_bit_depth=True)
        pixels.check_size(image.shape, first.shape[:2], path)
        pixels.check_depth(image.dtype, first.dtype, path)

    # Few threads: large frames take memory.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        checked, name = pool.map(check, paths[1:]), f"checking {paths[0].parent.name}"
        try:
            for _ in progress.track(checked, total=len(paths) - 1, name=name):
                pass
        finally:  # Ctrl-C does not wait for the images that have not begun
            pool.shutdown(wait=False, cancel_futures=True)


def refuse_image(path: Path) -> None:
    """Refuse an image file that FFmpeg does not read as a video.

    Raises:
        InputError: if it is an animation, or has an image's suffix.
    """
    _refuse_animation(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"{path}: this is one image; give a video file or a folder of frames"
        )


def _refuse_animation(path: Path) -> None:
    count = cv2.imcount(str(path))
    if count > 1:
        raise InputError(
            f"{path}: this image holds {count} frames; write each into a file, with "
            f"ImageMagick's magick {path.name} -coalesce frames/%05d.png, and give "
            "that folder"
        )
