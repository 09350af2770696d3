"""Keeps of a clip what its report shows, while the frames stream by.

A clip is never whole in memory: of a few frames the central part is kept, of every
frame one row of pixels, and the input frames around those few.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from edvr_jax.config import ModelConfig
from edvr_jax.media.read import pixels, scenes
from edvr_jax.restore.windows import window_indices

MAX_SHOTS = 4  # frames of a clip that are shown
MAX_ROWS = 400  # frames of a clip in the temporal profile
MAX_PIXELS = 2**20  # of a frame that is shown
MAX_INPUT_PIXELS = 2**17  # of a frame whose maps are computed
_KEPT = 2 * MAX_SHOTS


@dataclasses.dataclass(frozen=True)
class Box:
    """The part of a frame that is kept, in pixels.

    Attributes:
        y: First row.
        x: First column.
        height: Rows.
        width: Columns.
        size: Height and width of the whole frame.
    """

    y: int
    x: int
    height: int
    width: int
    size: tuple[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether that is the whole frame."""
        return (self.height, self.width) == self.size

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """Return a copy of the part of a frame [H, W, C], uint8."""
        part = frame[self.y : self.y + self.height, self.x : self.x + self.width]
        return np.array(pixels.to_levels(part, np.uint8))


def central_box(size: tuple[int, int], max_pixels: int, *, multiple: int = 1) -> Box:
    """Return the central part of a frame, of its shape and at most so many pixels.

    Args:
        size: Height and width of the frame.
        max_pixels: Largest area.
        multiple: Of which all four numbers are multiples, unless the part is whole.
    """
    height, width = size
    factor = math.sqrt(max_pixels / (height * width))
    if factor >= 1:
        return Box(0, 0, height, width, size)
    rows, columns = (
        max(multiple, int(n * factor) // multiple * multiple) for n in size
    )
    rows, columns = min(rows, height), min(columns, width)
    y, x = (height - rows) // 2, (width - columns) // 2
    return Box(y - y % multiple, x - x % multiple, rows, columns, size)


@dataclasses.dataclass(frozen=True)
class Shot:
    """A frame that is shown.

    Attributes:
        index: Of the frame, in the clip.
        position: Among the results, which may be some of the clip's frames only.
        images: By name, [H, W, 3], uint8.
    """

    index: int
    position: int
    images: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Record:
    """What is kept of a clip.

    Attributes:
        name: Its name.
        num_frames: Number of its results.
        box: The part of the frames that is kept; None if there was no frame.
        shots: Some frames, evenly spaced.
        row: The row of the temporal profile, in the box.
        profile: That row of every frame, by name, [num_frames, W, 3], uint8.
        window: The frames that the network saw for ``window_index``, [T, h, w, 3],
            uint8, or their central part.
        window_index: The frame that they belong to.
        window_center: Its place in the window.
        window_box: The part.
    """

    name: str
    num_frames: int
    box: Box | None = None
    shots: tuple[Shot, ...] = ()
    row: int = 0
    profile: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    window: np.ndarray | None = None
    window_index: int = 0
    window_center: int = 0
    window_box: Box | None = None


class ClipRecorder:
    """Keeps what the report of a clip needs; a Recorder of restore/recording.py.

    Args:
        name: The clip's name.
        config: Of the network that sees the input frames.
        padding: Frames that stand in for those beyond the ends of the clip.
        still: The network sees copies of each frame instead of its neighbors.
        scene_cuts: No window reaches across a cut.
    """

    def __init__(
        self,
        name: str,
        config: ModelConfig,
        *,
        padding: str,
        still: bool = False,
        scene_cuts: bool = False,
    ):
        self.name, self._config, self._padding = name, config, padding
        self._still, self._scene_cuts = still, scene_cuts
        # Half of the smallest symmetric window around the center.
        self._reach = max(config.center, config.num_frames - 1 - config.center)
        self._inputs: dict[int, np.ndarray] = {}
        self._input_box: Box | None = None
        self._box: Box | None = None
        self._shots: list[Shot] = []
        self._rows: dict[str, list[np.ndarray]] = {}
        self._row = 0
        self._num_results, self._stride = 0, 1

    def add_input(self, index: int, frame: np.ndarray) -> None:
        """Take a frame that the network sees."""
        if self._input_box is None:
            multiple = self._config.size_multiple
            self._input_box = central_box(
                frame.shape[:2], MAX_INPUT_PIXELS, multiple=multiple
            )
        self._inputs[index] = self._input_box.cut(frame)

    def add_result(self, index: int, images: Mapping[str, np.ndarray]) -> None:
        """Take the images of one frame."""
        if self._box is None:
            first = list(images.values())[-1]  # the truth, if it is known
            self._box = central_box(first.shape[:2], MAX_PIXELS)
            self._row = busiest_row(self._box.cut(first))
        is_kept = self._num_results % self._stride == 0
        if is_kept or self._num_results < MAX_ROWS:
            parts = {name: self._box.cut(image) for name, image in images.items()}
            if self._num_results < MAX_ROWS:
                for name, part in parts.items():
                    self._rows.setdefault(name, []).append(part[self._row].copy())
            if is_kept:
                self._keep(Shot(index, self._num_results, parts))
        self._num_results += 1
        self._forget_inputs(index)

    def _keep(self, shot: Shot) -> None:
        """Keep evenly spaced frames of a clip whose length is unknown."""
        self._shots.append(shot)
        if len(self._shots) > _KEPT:
            self._shots = self._shots[::2]
            self._stride *= 2

    def _forget_inputs(self, newest: int) -> None:
        """Drop the input frames that are in no window that may still be wanted."""
        span = 2 * self._reach
        for index in list(self._inputs):
            is_near = any(abs(index - shot.index) <= span for shot in self._shots)
            if index < newest - span and not is_near:
                del self._inputs[index]

    def finish(self) -> Record:
        """Choose among the kept frames, and return what the report shows."""
        if self._box is None:
            return Record(self.name, 0)
        count = min(MAX_SHOTS, len(self._shots))
        chosen = np.linspace(0, len(self._shots) - 1, count).round().astype(int)
        shots = tuple(self._shots[i] for i in chosen)
        center = shots[count // 2].index
        return Record(
            self.name,
            self._num_results,
            self._box,
            shots,
            self._row,
            {name: np.stack(rows) for name, rows in self._rows.items()},
            self._window(center),
            center,
            self._config.center,
            self._input_box,
        )

    def _window(self, center: int) -> np.ndarray:
        """Return the frames that the network saw for one result."""
        num_frames = self._config.num_frames
        if self._still:
            return np.stack([self._inputs[center]] * num_frames)
        first = last = center
        while first - 1 in self._inputs:
            first -= 1
        while last + 1 in self._inputs:
            last += 1
        frames = [self._inputs[index] for index in range(first, last + 1)]
        start, end = 0, len(frames)
        if self._scene_cuts:
            differences = scenes.Differences()
            list(differences.watch(frames))
            for cut in scenes.find_cuts(differences.values):
                start, end = (
                    (cut, end) if first + cut <= center else (start, min(end, cut))
                )
        span = 2 * self._reach + 1
        offset = self._reach - self._config.center
        indices = window_indices(
            center - first - start, end - start, span, self._padding
        )[offset : offset + num_frames]
        return np.stack([frames[start + index] for index in indices])


def busiest_row(image: np.ndarray) -> int:
    """Return the row with the most detail, in the middle half of an image.

    Args:
        image: [H, W, C], uint8.
    """
    height = image.shape[0]
    luma = image.astype(np.float32).mean(axis=-1)
    detail = np.abs(np.diff(luma, axis=1)).sum(axis=1)
    first, last = height // 4, max(height // 4 + 1, height - height // 4)
    return first + int(np.argmax(detail[first:last]))
