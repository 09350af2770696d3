"""Validation windows: where they lie in a clip."""

import dataclasses

import numpy as np

from edvr_jax import validation
from edvr_jax.config import Config, EvalConfig
from edvr_jax.data.clips import Clip


@dataclasses.dataclass
class NotedFrames:
    """Frames that note which of them are read."""

    indices: list[int] = dataclasses.field(default_factory=list)
    size: tuple[int, int] = (32, 48)

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> np.ndarray:
        self.indices.append(int(index))
        return np.full((*self.size, 3), 10 * index, np.uint8)


def test_windows_are_spread_and_cross_no_cut(tiny_config):
    frames = NotedFrames()
    clip = Clip("two scenes", frames, None, ((0, 4), (4, 9)))
    config = Config(model=tiny_config, eval=EvalConfig(frames_per_clip=3))
    validation.make_validation(config, [clip])
    windows = np.reshape(frames.indices, (-1, tiny_config.num_frames)).tolist()
    assert windows == [[0, 1, 2], [4, 5, 6], [6, 7, 8]]
