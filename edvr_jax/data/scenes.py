"""Where a video cuts from one scene to another.

A cut is a frame that differs from the one before by much, and by far more than the
frames around it do, so that fast motion is none.
"""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 36
# Mean difference of 8-bit levels. PySceneDetect's threshold is 27 in HSV; colour
# differences are smaller in RGB, and its adaptive detector has the second condition.
MIN_DIFFERENCE = 18.0
MIN_RATIO = 3.0
REACH = 2


class Differences:
    """Frames that pass through, and by how much each differs from the one before.

    Attributes:
        values: One number for each frame that has passed; 0 for the first.
    """

    def __init__(self):
        self.values: list[float] = []

    def watch(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass frames on, [H, W, 3] uint8, unchanged."""
        before = None
        for frame in frames:
            small = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            small = small.astype(np.float32)
            value = 0.0 if before is None else np.abs(small - before).mean()
            self.values.append(float(value))
            before = small
            yield frame


def find_cuts(differences: Sequence[float]) -> list[int]:
    """Find the first frames of all scenes but the first.

    Args:
        differences: For each frame the difference from the one before.

    Returns:
        Indices in rising order.
    """
    cuts = []
    for index, value in enumerate(differences):
        around = [
            differences[i]
            for i in range(index - REACH, index + REACH + 1)
            if i != index and 0 < i < len(differences)
        ]
        usual = sum(around) / len(around) if around else 0.0
        if value >= MIN_DIFFERENCE and value >= MIN_RATIO * usual:
            cuts.append(index)
    return cuts
