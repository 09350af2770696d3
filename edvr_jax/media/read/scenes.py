"""Where a video cuts from one scene to another.

A cut is a frame that differs from the one before by much, and by far more than the
frames around it do, so that fast motion is none.
"""

import collections
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 36
# Mean difference of 8-bit levels. PySceneDetect's threshold is 27 in HSV; color
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
        """Pass frames on, [H, W, 3], uint8, uint16 or float in [0, 1], unchanged."""
        before = None
        for frame in frames:
            small = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            small = small.astype(np.float32) * _to_8_bit(frame.dtype)
            value = 0.0 if before is None else np.abs(small - before).mean()
            self.values.append(float(value))
            before = small
            yield frame


def _to_8_bit(dtype: np.dtype) -> np.float32:
    largest = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    return np.float32(255 / largest)


def find_cuts(differences: Sequence[float]) -> list[int]:
    """Find the first frames of all scenes but the first.

    Args:
        differences: For each frame the difference from the one before.

    Returns:
        Indices in rising order.
    """
    return [i for i in range(len(differences)) if _is_cut(differences, i)]


def _is_cut(differences: Sequence[float], index: int) -> bool:
    value = differences[index]
    around = [
        differences[i]
        for i in range(index - REACH, index + REACH + 1)
        if i != index and 0 < i < len(differences)
    ]
    usual = sum(around) / len(around) if around else 0.0
    return value >= MIN_DIFFERENCE and value >= MIN_RATIO * usual


def split(frames: Iterable[np.ndarray]) -> Iterator[Iterator[np.ndarray]]:
    """Split a clip whose length is unknown into its scenes, as they come.

    Args:
        frames: [H, W, 3], uint8, uint16 or float in [0, 1]. At most ``REACH`` of them
            are read ahead.

    Yields:
        The frames of each scene; exhaust one before you ask for the next. The cuts
        are those of :func:`find_cuts`.
    """
    differences = Differences()
    waiting: collections.deque[np.ndarray] = collections.deque()

    def numbered() -> Iterator[tuple[int, np.ndarray]]:
        num_done = num_cuts = 0
        for frame in itertools.chain(differences.watch(frames), [None] * REACH):
            if frame is not None:
                waiting.append(frame)
            # The frames after the one in question are known, or there are none.
            if waiting and (frame is None or len(waiting) > REACH):
                num_cuts += _is_cut(differences.values, num_done)
                num_done += 1
                yield num_cuts, waiting.popleft()

    for _, scene in itertools.groupby(numbered(), key=operator.itemgetter(0)):
        yield (frame for _, frame in scene)
