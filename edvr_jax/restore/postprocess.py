"""From a restored frame to the output's: its size, transparency, comparison."""

import dataclasses
from typing import Literal

import cv2
import numpy as np

from edvr_jax.media.read import pixels

Compare = Literal["side", "split"]


@dataclasses.dataclass(frozen=True)
class OutputFormat:
    """What the frames of the output look like.

    Attributes:
        size: Height and width of the restored frames.
        compare: Show the input beside them.
        with_alpha: Keep the input's transparency; not with a comparison.
    """

    size: tuple[int, int]
    compare: Compare | None = None
    with_alpha: bool = False

    @property
    def written_size(self) -> tuple[int, int]:
        """Height and width of the frames of the output."""
        height, width = self.size
        return (height, 2 * width) if self.compare == "side" else (height, width)

    @property
    def needs_input(self) -> bool:
        """Whether frames of the output contain something of the input's."""
        return self.compare is not None or self.with_alpha

    def apply(self, image: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """Return the frame of the output.

        Args:
            image: The restored frame, [H, W, 3], uint8 or uint16.
            before: The input, [h, w, 3 or 4], uint8 or uint16, if it is needed.
        """
        image = pixels.resize(image, self.size)
        if before is None:
            return image
        if self.compare:
            return compare(before[..., :3], image, self.compare)
        return add_alpha(image, before[..., 3])


def add_alpha(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Add the input's alpha, resized by the Lanczos filter, to a restored frame.

    Args:
        image: The restored frame, [H, W, 3], uint8 or uint16.
        alpha: The input's alpha, [h, w], uint8 or uint16.

    Returns:
        RGBA, [H, W, 4], of the image's type.
    """
    alpha = pixels.to_levels(pixels.resize(alpha, image.shape[:2]), image.dtype)
    return np.dstack([image, alpha])


def enlarge(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Enlarge a frame (bicubic) to the size and the type of the restored one.

    Args:
        before: The input, [h, w, 3], uint8 or uint16.
        after: The restored frame, [H, W, 3], uint8 or uint16.
    """
    before = pixels.to_levels(before, after.dtype)
    size = after.shape[1], after.shape[0]
    return cv2.resize(before, size, interpolation=cv2.INTER_CUBIC)


def compare(before: np.ndarray, after: np.ndarray, how: Compare) -> np.ndarray:
    """Show a frame before and after its restoration.

    Args:
        before: The input, [h, w, 3], uint8 or uint16; it is enlarged (bicubic).
        after: The restored frame, [H, W, 3], uint8 or uint16.
        how: "side" puts both side by side, [H, 2*W, 3]; "split" shows the left half
            of one and the right half of the other, with a line between, [H, W, 3].
    """
    width = after.shape[1]
    before = enlarge(before, after)
    if how == "side":
        return np.concatenate([before, after], axis=1)
    middle = width // 2
    both = np.concatenate([before[:, :middle], after[:, middle:]], axis=1)
    line = max(1, width // 640)
    both[:, middle - line : middle + line] = np.iinfo(after.dtype).max
    return both
