"""The planes of video frames as NumPy arrays."""

import numpy as np
from av.video.frame import VideoFrame


def view(frame: VideoFrame, index: int) -> np.ndarray:
    """Return the levels of a component, [H, W] uint8 or uint16, to read and to write.

    Args:
        frame: Its format has whole bytes, at most two, for each component.
        index: Number of the component.
    """
    components = frame.format.components
    number = components[index].plane
    neighbors = [i for i, c in enumerate(components) if c.plane == number]
    order = ">" if frame.format.is_big_endian else "<"
    word = "u1" if components[index].bits == 8 else f"{order}u2"
    plane, step = frame.planes[number], len(neighbors)
    lines = np.frombuffer(memoryview(plane), word)  # pyright: ignore
    lines = lines.reshape(plane.height, -1)[:, : step * plane.width]
    lines = lines[:, neighbors.index(index) :: step]
    return lines[::-1] if plane.line_size < 0 else lines  # stored bottom up
