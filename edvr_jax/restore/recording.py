"""What a restoration hands on, besides its output, to whoever wants to look at it."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Recorder(Protocol):
    """Sees the frames of one clip while they are restored, in order.

    It may keep parts of them, but not the arrays: they can be large.
    """

    def add_input(self, index: int, frame: np.ndarray) -> None:
        """Take a frame that the network sees, RGB [h, w, 3], uint8 or uint16."""
        ...

    def add_result(self, index: int, images: Mapping[str, np.ndarray]) -> None:
        """Take a result: images of one frame by name, RGB [H, W, 3], of one size."""
        ...
