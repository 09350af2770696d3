"""Frames that are kept on disk for some seconds, until what they become is."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edvr_jax import files

# Seconds of work that a kill may cost; quicker work is not written at all.
INTERVAL = 5.0


class Spool:
    """Restored frames, uncompressed, of a part that is not finished.

    Attributes:
        folder: Where the files are.
        part: Number of the part.
    """

    def __init__(self, folder: Path, part: int):
        """Find the frames that an earlier job has left; remove those of other parts."""
        self.folder, self.part = folder, part
        for path in folder.glob("spool-*.npz"):
            if path not in self._paths():
                path.unlink()
        self._pending: list[tuple[np.ndarray, int]] = []
        self._num_saved = 0
        self._saved_at = time.monotonic()

    def load(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield the frames that an earlier job has left, and their times."""
        for path in self._paths():
            with np.load(path) as arrays:
                for image, shown in zip(
                    arrays["images"], arrays["times"].tolist(), strict=True
                ):
                    self._num_saved += 1
                    yield image, shown

    def add(self, image: np.ndarray, shown: int) -> None:
        """Keep a frame, and the time when it is shown.

        Raises:
            OSError: if the disk is full.
        """
        self._pending.append((image, shown))
        if time.monotonic() - self._saved_at >= INTERVAL:
            self._save()

    def _save(self) -> None:
        images, times = zip(*self._pending, strict=True)
        path = self.folder / f"spool-{self.part:06}-{self._num_saved:06}.npz"
        temporary = self.folder / "unfinished.npz"
        np.savez(temporary, images=np.stack(images), times=np.array(times, np.int64))
        files.put_in_place(temporary, path)
        self._num_saved += len(images)
        self._pending = []
        self._saved_at = time.monotonic()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"spool-{self.part:06}-*.npz"))
