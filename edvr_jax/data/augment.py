"""Crops and flips of the frames of a window."""

import dataclasses
from collections.abc import Callable

import numpy as np

from edvr_jax.config import DataConfig, NetworkConfig


def draw_crop_path(
    rng: np.random.Generator,
    config: DataConfig,
    model: NetworkConfig,
    *,
    size: tuple[int, int],
    motion: float,
    texture: Callable[[np.ndarray], float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the position of the crop in each frame of a window.

    In the center frame the crop is on the grid of the degraded frames. It may move
    along a smooth path, like that of a panning camera.

    Args:
        rng: Source of randomness.
        config: Side of the crop and its motion.
        model: Number of frames, index of the center, scale.
        size: Height and width of the frames.
        motion: Probability that it moves.
        texture: Function from a corner to the amount of texture in that crop of the
            center frame, for ``config.crop_candidates``.

    Returns:
        Top-left corners (y, x), [T, 2], with every crop inside its frame, and their
        speed in pixels per frame, [T, 2].
    """
    num_frames, scale = model.num_frames, model.output_scale
    limit = np.array(size) - config.gt_crop
    corner = rng.integers(limit // scale + 1) * scale
    if texture is not None and config.crop_candidates > 1:
        others = rng.integers(limit // scale + 1, size=(config.crop_candidates - 1, 2))
        corner = max(corner, *(others * scale), key=texture)
    if rng.random() >= motion:
        return np.tile(corner, (num_frames, 1)), np.zeros((num_frames, 2))
    speed = config.max_camera_speed * np.sqrt(rng.random())
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, speed / 4, 2)
    time = (np.arange(num_frames) - model.center)[:, None]
    velocity = speed * np.array([np.sin(angle), np.cos(angle)])
    grid = scale if config.lq == "given" else 1  # that of provided frames
    shift = np.rint((velocity * time + bend / 2 * time**2) / grid).astype(int) * grid
    corners = np.clip(corner + shift, 0, limit // grid * grid)
    return corners, velocity + bend * time


def crop(
    frame: np.ndarray, corner: np.ndarray, size: int, *, margin: int = 0, border: str
) -> np.ndarray:
    """Cut out a square with a margin, padded where it leaves the frame.

    Args:
        frame: [H, W, C].
        corner: Top-left corner (y, x) of the square.
        size: Side of the square.
        margin: Pixels kept around it.
        border: Mode of ``np.pad``.

    Returns:
        [size + 2 margin, size + 2 margin, C]; a view if nothing is padded.
    """
    (y, x), (height, width) = corner, frame.shape[:2]
    top, left = y - margin, x - margin
    bottom, right = y + size + margin, x + size + margin
    inner = frame[max(top, 0) : bottom, max(left, 0) : right]
    beyond_y = (max(-top, 0), max(bottom - height, 0))
    beyond_x = (max(-left, 0), max(right - width, 0))
    if not any(beyond_y + beyond_x):
        return inner
    return np.pad(inner, (beyond_y, beyond_x, (0, 0)), mode=border)  # pyright: ignore[reportCallIssue, reportArgumentType]


@dataclasses.dataclass(frozen=True)
class Flip:
    """One of the eight symmetries of a square.

    Attributes:
        vertical: Reverse the rows.
        horizontal: Reverse the columns.
        transpose: Then swap rows and columns.
    """

    vertical: bool = False
    horizontal: bool = False
    transpose: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Flip":
        """Draw one; all are equally likely."""
        return cls(*(rng.random(3) < 0.5).tolist())

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Return [..., H, W, C] flipped; a view."""
        if self.vertical:
            images = images[..., ::-1, :, :]
        if self.horizontal:
            images = images[..., ::-1, :]
        return images.swapaxes(-3, -2) if self.transpose else images

    def apply_to_flow(self, flow: np.ndarray) -> np.ndarray:
        """Return a field of displacements (dy, dx), [..., H, W, 2], flipped."""
        signs = [-1 if flips else 1 for flips in (self.vertical, self.horizontal)]
        flow = self.apply(flow) * np.array(signs, flow.dtype)
        return flow[..., ::-1] if self.transpose else flow
