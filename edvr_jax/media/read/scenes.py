"""Find the cuts between the scenes of a video.

A cut is a frame that differs much from the one before, and far more than the frames
around it do, so that fast motion is not taken for one.
"""

import collections
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from edvr_jax.media.read import pixels

WIDTH, HEIGHT = 64, 36
# Mean difference of 8-bit levels. PySceneDetect's threshold is 27 in HSV; color
# differences are smaller in RGB, and its adaptive detector has the second condition.
MIN_DIFFERENCE = 18.0
MIN_RATIO = 3.0
REACH = 2


class Differences:
    """Measures by how much each frame of a clip differs from the one before.

    Attributes:
        values: The mean difference of each frame so far, in levels of 8 bits; 0 for the
            first.
    """

    def __init__(self):
        self.values: list[float] = []

    def watch(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the given frames, [H, W, 3], uint8, uint16 or float in [0, 1]."""
        before = None
        for frame in frames:
            small = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            small = 255 * pixels.to_float(small)
            value = 0.0 if before is None else np.abs(small - before).mean()
            self.values.append(float(value))
            before = small
            yield frame


def find_cuts(differences: Sequence[float]) -> list[int]:
    """Return the indices of the first frames of all scenes but the first.

    Args:
        differences: The values of :class:`Differences`.
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
    """Split a clip into its scenes while it is read; see :func:`find_cuts`.

    Args:
        frames: [H, W, 3], uint8, uint16 or float in [0, 1]. At most ``REACH`` of them
            are read ahead.

    Yields:
        An iterator over the frames of each scene, to exhaust before the next one.
    """
    differences = Differences()
    waiting: collections.deque[np.ndarray] = collections.deque()

    def numbered() -> Iterator[tuple[int, np.ndarray]]:
        num_done = num_cuts = 0
        for frame in itertools.chain(differences.watch(frames), [None] * REACH):
            if frame is not None:
                waiting.append(frame)
            # A frame is a cut or not once REACH frames after it are known.
            if waiting and (frame is None or len(waiting) > REACH):
                num_cuts += _is_cut(differences.values, num_done)
                num_done += 1
                yield num_cuts, waiting.popleft()

    for _, scene in itertools.groupby(numbered(), key=operator.itemgetter(0)):
        yield (frame for _, frame in scene)
