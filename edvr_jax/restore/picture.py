"""What becomes of a restored frame before it is written: its size, a comparison."""

import dataclasses
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from edvr_jax.data.images import width_x_height

Compare = Literal["side", "split"]


@dataclasses.dataclass(frozen=True)
class Look:
    """What the output looks like.

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


def kind(size: tuple[int, ...], dtype: np.dtype) -> str:
    """Describe the size and depth of frames."""
    depth = "8 bits" if dtype == np.uint8 else "more than 8 bits"
    return f"{width_x_height(size)} with {depth}"


def fit(image: np.ndarray, size: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Convert to a depth, uint8 or uint16, and a size, see :func:`resize`."""
    return resize(_to_dtype(image, dtype), size)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize by Lanczos' filter, wide enough not to alias when it shrinks.

    Args:
        image: [H, W, 3] or [H, W], uint8 or uint16.
        size: New height and width.
    """
    if image.shape[:2] == size:
        return image
    new = (size[1], size[0])
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(new, Image.Resampling.LANCZOS))
    channels = [
        Image.fromarray(channel.astype(np.float32)).resize(
            new, Image.Resampling.LANCZOS
        )
        for channel in np.moveaxis(np.atleast_3d(image), -1, 0)
    ]
    resized = np.stack([np.asarray(channel) for channel in channels], axis=-1)
    resized = resized.reshape(*size, *image.shape[2:])
    largest = np.iinfo(image.dtype).max
    return np.rint(np.clip(resized, 0, largest)).astype(image.dtype)


def add_alpha(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Join a restored frame and the input's alpha, resized as :func:`resize` does.

    Args:
        image: The restored frame, [H, W, 3], uint8 or uint16.
        alpha: The input's alpha, [h, w], uint8 or uint16.

    Returns:
        RGBA, [H, W, 4], of the image's type.
    """
    alpha = _to_dtype(resize(alpha, image.shape[:2]), image.dtype)
    return np.dstack([image, alpha])


def compare(before: np.ndarray, after: np.ndarray, how: Compare) -> np.ndarray:
    """Show a frame before and after its restoration.

    Args:
        before: The input, [h, w, 3], uint8 or uint16; it is enlarged (bicubic).
        after: The restored frame, [H, W, 3], uint8 or uint16.
        how: "side" puts both side by side, [H, 2*W, 3]; "split" shows the left half
            of one and the right half of the other, with a line between, [H, W, 3].
    """
    height, width = after.shape[:2]
    before = _to_dtype(before, after.dtype)
    before = cv2.resize(before, (width, height), interpolation=cv2.INTER_CUBIC)
    if how == "side":
        return np.concatenate([before, after], axis=1)
    middle = width // 2
    both = np.concatenate([before[:, :middle], after[:, middle:]], axis=1)
    line = max(1, width // 640)
    both[:, middle - line : middle + line] = np.iinfo(after.dtype).max
    return both


def _to_dtype(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if image.dtype == dtype:
        return image
    if dtype == np.uint8:
        return np.rint(image / 257).astype(np.uint8)
    return image.astype(np.uint16) * 257
