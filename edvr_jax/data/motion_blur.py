"""Motion blur: an exposure as a mean of sharp frames, or along the optical flow.

Source: REDS and GoPro average frames of a high-frame-rate camera in linear light
(Nah et al., CVPRW 2019). Clips of ordinary frame rates would leave ghosts; there the
positions between two frames are interpolated by optical flow, from one sharp frame.
"""

import cv2
import numpy as np

from edvr_jax.data.flow import scene_flow

GAMMA = 2.2  # approximates a camera's response, as in GoPro and REDS

MAX_POSITIONS = 33  # of one exposure


def average(frames: np.ndarray) -> np.ndarray:
    """Average frames in linear light, like one long exposure.

    Args:
        frames: Neighboring sharp frames, [B, ..., 3] uint8.

    Returns:
        Their mean, [..., 3] uint8; a single frame is returned unchanged.
    """
    if len(frames) == 1:
        return frames[0]
    return _to_levels(_to_light(frames).mean(axis=0))


def blur_along_flow(
    frames: np.ndarray, *, shutter: float, camera: np.ndarray | None = None
) -> np.ndarray:
    """Expose the middle one of three frames while its content moves.

    The content of each pixel moves from its place half an exposure before to that half
    an exposure after, along the flow to the frame before and to the frame after. The
    mean over these positions, at most a pixel apart, is taken in linear light.

    Args:
        frames: Three successive sharp frames, [3, H, W, 3] uint8.
        shutter: Exposure time over the time between two frames.
        camera: Motion (dy, dx) of the content by the camera, in pixels per frame, if
            the frames do not show it already; None is zero.

    Returns:
        The blurred frame, [H, W, 3] uint8.
    """
    before, middle, after = frames
    moving = np.zeros(2) if camera is None else camera
    backward = scene_flow(middle, before) - moving.astype(np.float32)
    forward = scene_flow(middle, after) + moving.astype(np.float32)
    reach = max(np.abs(backward).max(), np.abs(forward).max()) * shutter / 2
    # An even number on each side, so that the frame itself is one position.
    half = int(np.clip(np.ceil(reach), 0, MAX_POSITIONS // 2))
    if half == 0:
        return middle
    height, width = middle.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    light = _to_light(middle)
    total = light.copy()
    for flow in (backward, forward):
        for step in range(1, half + 1):
            time = shutter / 2 * step / half
            # Content that has moved by time * flow came from there.
            total += cv2.remap(
                light,
                columns - time * flow[..., 1],
                rows - time * flow[..., 0],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT_101,
            )
    return _to_levels(total / (2 * half + 1))


def _to_light(levels: np.ndarray) -> np.ndarray:
    table = (np.arange(256) / 255).astype(np.float32) ** GAMMA
    return table[levels]


def _to_levels(light: np.ndarray) -> np.ndarray:
    return np.rint(255 * light ** (1 / GAMMA)).astype(np.uint8)
