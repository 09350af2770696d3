"""The planes of video frames as NumPy arrays."""

import numpy as np
from av.video.frame import VideoFrame


def view(frame: VideoFrame, number: int) -> np.ndarray:
    """Return a writable view of a plane, [H, W, components] uint8 or uint16.

    Args:
        frame: Of a format with one or two whole bytes per component.
        number: Number of the plane.
    """
    plane = frame.planes[number]
    bits = [c.bits for c in frame.format.components if c.plane == number]
    order = ">" if frame.format.is_big_endian else "<"
    word = "u1" if max(bits) == 8 else f"{order}u2"
    lines = np.frombuffer(memoryview(plane), word)  # pyright: ignore
    lines = lines.reshape(plane.height, -1)[:, : len(bits) * plane.width]
    lines = lines.reshape(plane.height, plane.width, len(bits), copy=False)
    return lines[::-1] if plane.line_size < 0 else lines  # stored bottom up
