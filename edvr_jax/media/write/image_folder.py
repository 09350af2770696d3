"""Frames written as the images of a folder."""

import collections
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edvr_jax import files
from edvr_jax.errors import InputError

_OPTIONS = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],  # lossless
}
_WITH_16_BITS = (".png", ".tif", ".tiff")


class ImageFolder:
    """A :class:`Sink` that writes every frame to an image file.

    Attributes:
        folder: Where the images are.
        dtype: Type of the frames.
        num_written: Index of the next frame.
    """

    def __init__(
        self,
        folder: Path,
        path: Path,
        names: Sequence[str],
        suffix: str,
        *,
        is_high_bit_depth: bool = False,
        first: int = 0,
    ):
        """Count the images that an earlier job has written.

        Args:
            folder: An existing folder.
            path: The output that messages name.
            names: Names of the frames with any suffix; further frames are numbered.
            suffix: Format of the images: .png, .tif, .tiff, .webp or .jpg.
            is_high_bit_depth: Write 16 bits if the format has them.
            first: Index of the first frame, of a share.

        Raises:
            InputError: if two frames would have the same name, or one is too long.
        """
        self.folder = folder
        is_16_bit = is_high_bit_depth and suffix in _WITH_16_BITS
        self.dtype = np.dtype(np.uint16 if is_16_bit else np.uint8)
        self._path, self._suffix = path, suffix
        self._names = [f"{Path(name).stem}{suffix}" for name in names]
        for name, count in collections.Counter(self._names).items():
            if count > 1:
                raise InputError(
                    f"{path}: two input frames would both become {name}; rename one"
                )
            files.check_name(path / name, folder / name)
        self.num_written = first
        while (folder / self._name(self.num_written)).exists():
            self.num_written += 1

    def write(self, image: np.ndarray, *, time: int) -> None:
        """Write a frame; see :class:`Sink`."""
        del time
        order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        is_encoded, data = cv2.imencode(
            self._suffix, cv2.cvtColor(image, order), _OPTIONS.get(self._suffix, [])
        )
        if not is_encoded:
            height, width = image.shape[:2]
            raise InputError(
                f"{self._path}: {self._suffix} cannot store frames of {width}x{height};"
                " give another --image-format"
            )
        with files.report_failure(self._path):
            temporary = self.folder / f".unfinished{self._suffix}"
            temporary.write_bytes(data.tobytes())
            files.put_in_place(temporary, self.folder / self._name(self.num_written))
        self.num_written += 1

    def finish(self) -> None:
        """Do nothing: every frame is on disk already."""

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _name(self, index: int) -> str:
        if index < len(self._names):
            return self._names[index]
        return f"{index:08d}{self._suffix}"
