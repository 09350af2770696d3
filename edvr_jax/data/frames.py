"""Random access to the frames of one clip: image files, or a mapped file.

Every kind has ``len(frames)``, ``frames.size`` and ``frames[index]``, and is sent to
worker processes as a path, not as pixels. Records are a third kind, in
``edvr_jax/data/records.py``.
"""

import collections
import dataclasses
import functools
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Protocol

import numpy as np

from edvr_jax.media.read import images, pixels


class Frames(Protocol):
    """Frames of one clip; ``frames[index]`` is [H, W, 3] uint8 RGB, maybe a view."""

    def __len__(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        ...

    def __getitem__(self, index: int) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class FrameFiles:
    """Image files of a folder, decoded when they are read.

    Attributes:
        folder: The folder.
        names: File names in the order of the frames.

    Raises:
        InputError: by reading a file that is missing, damaged, or of another size.
    """

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame."""
        return self._size

    @functools.cached_property
    def _size(self) -> tuple[int, int]:
        return images.read_size(self.folder / self.names[0])

    def __getitem__(self, index: int) -> np.ndarray:
        path = self.folder / self.names[index]
        frame = images.read_image(path)
        pixels.check_size(frame.shape, self.size, path)
        return frame


@dataclasses.dataclass(frozen=True)
class DecodedFrames:
    """A mapped .npy file of frames: memory holds only the pages in use.

    Attributes:
        path: The file, [T, H, W, 3] uint8.
    """

    path: Path

    def __len__(self) -> int:
        return len(self._array)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self._array.shape[1:3]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._array[index]

    @functools.cached_property
    def _array(self) -> np.ndarray:
        return np.load(self.path, mmap_mode="r")

    def __reduce__(self):
        return DecodedFrames, (self.path,)


class FrameCache:
    """Recently used frames, up to a number of bytes; a worker's copy starts empty.

    Args:
        budget_bytes: Most bytes of pixels to keep; 0 keeps nothing.
    """

    def __init__(self, budget_bytes: int):
        self._budget = budget_bytes
        self._used = 0
        self._held: collections.OrderedDict[Hashable, np.ndarray] = (
            collections.OrderedDict()
        )
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the frame of a key; ``read`` returns it if it is not held.

        A view of a mapped file is never held: the system caches its pages.
        """
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        frame = read()
        if not isinstance(frame, np.memmap) and frame.nbytes <= self._budget:
            with self._lock:
                self._insert(key, frame)
        return frame

    def _insert(self, key: Hashable, frame: np.ndarray) -> None:
        if key in self._held:  # another thread was faster
            return
        self._held[key] = frame
        self._used += frame.nbytes
        while self._used > self._budget:
            _, oldest = self._held.popitem(last=False)
            self._used -= oldest.nbytes

    @property
    def used_bytes(self) -> int:
        """Bytes of the frames held."""
        return self._used

    def __reduce__(self):
        return FrameCache, (self._budget,)
