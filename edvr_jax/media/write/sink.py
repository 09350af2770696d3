"""What restored frames are written to."""

from typing import Protocol

import numpy as np


class Sink(Protocol):
    """Takes the frames of a clip in order: SegmentedVideo, ImageFolder or Pipe."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the frames, uint8 or uint16."""
        ...

    @property
    def num_written(self) -> int:
        """Index of the next frame: those before it are written, or others' share."""
        ...

    def write(self, image: np.ndarray, *, time: int) -> None:
        """Append a frame.

        Args:
            image: RGB, [H, W, 3], or RGBA, [H, W, 4], of the sink's type.
            time: When it is shown, in units of the clip's time base.

        Raises:
            InputError: if it cannot be stored.
        """
        ...

    def finish(self) -> None:
        """Write what is still buffered; nothing can be written after it."""
        ...

    def close(self) -> None:
        """Close the files; unfinished ones stay incomplete."""
        ...
