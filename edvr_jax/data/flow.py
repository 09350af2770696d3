"""Optical flow of training windows, and the amount of texture in a crop."""

from collections.abc import Sequence

import cv2
import numpy as np


def window_flow(
    crops: Sequence[np.ndarray], corners: np.ndarray, *, center: int, pixel: int
) -> np.ndarray:
    """Compute the displacement from the center frame to each frame of a window.

    The motion in the scene is estimated (dense inverse search, arXiv:1603.03590) on
    crops at the corner of the center frame; that of the camera is known and added.
    Copies of the center frame have the camera's motion only.

    Args:
        crops: Crop of each frame at the center's corner, [H, W, 3] uint8.
        corners: Top-left corners (y, x) of the window's crops, [T, 2].
        center: Index of the center frame.
        pixel: Side of a pixel of the result, in pixels of the crops; divides H and W.

    Returns:
        (dy, dx) in such pixels, [T, H/pixel, W/pixel, 2], float32: the content at p
        in the center's crop is at p + flow(p) in the crop of the frame.
    """
    height, width = (size // pixel for size in crops[center].shape[:2])
    flows = np.empty((len(crops), height, width, 2), np.float32)
    for index, image in enumerate(crops):
        flows[index] = corners[center] - corners[index]
        if image is not crops[center]:
            flows[index] += _mean_of_blocks(scene_flow(crops[center], image), pixel)
    return flows / pixel


def scene_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Estimate the displacement of each pixel from one image to another.

    Args:
        first: RGB, [H, W, 3] uint8.
        second: Likewise.

    Returns:
        (dy, dx) in pixels, [H, W, 2] float32; zero between equal images.
    """
    if np.array_equal(first, second):
        return np.zeros((*first.shape[:2], 2), np.float32)
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    flow = estimator.calc(*gray, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return flow[..., ::-1]  # from (x, y)


def texture(image: np.ndarray) -> float:
    """Return the mean gradient of the luma of an image [H, W, 3] uint8."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.int16)
    return float(
        sum(np.abs(np.diff(gray, axis=axis)).mean() for axis in range(gray.ndim))
    )


def _mean_of_blocks(field: np.ndarray, size: int) -> np.ndarray:
    height, width, channels = field.shape
    blocks = field.reshape(height // size, size, width // size, size, channels)
    return blocks.mean((1, 3))
