"""Images as data URIs: WebP, without loss while the page stays small."""

import base64
import math
from collections.abc import Sequence

import cv2
import numpy as np

LOSSLESS = 101  # OpenCV's quality for WebP without loss
# Quality of WebP and size, the best first.
_STEPS = ((LOSSLESS, 1), (95, 1), (90, 1), (80, 1), (80, 2), (80, 4))
_STOPS = 9  # of a color scale


def encode(images: Sequence[np.ndarray], max_bytes: float) -> tuple[list[str], str]:
    """Encode images alike, as well as a limit allows.

    Args:
        images: RGB [H, W, 3], uint8.
        max_bytes: For all of them; the smallest step counts even if it is larger.

    Returns:
        Their data URIs, and how they are stored, such as "WebP, lossless".
    """
    encoded: list[bytes] = []
    quality = factor = 1
    for quality, factor in _STEPS:
        encoded, total = [], 0
        for image in images:
            encoded.append(_encode(image, quality, factor))
            total += len(encoded[-1])
            # The first image foretells the others, which saves encoding them in vain.
            if max(total, len(encoded[0]) * 0.8 * len(images)) > max_bytes:
                break
        else:
            break
    else:
        encoded = [_encode(image, quality, factor) for image in images]
    note = "WebP, lossless" if quality == LOSSLESS else f"WebP, quality {quality}"
    if factor > 1:
        note += f", at 1/{factor} of the size"
    return [_uri(data) for data in encoded], note


def color_map(values: np.ndarray, low: float, high: float, scale: int) -> np.ndarray:
    """Color values by one of OpenCV's maps.

    Args:
        values: [H, W]; outside of low..high they get the color of the end.
        low: Value of the first color.
        high: Value of the last color; more than ``low``.
        scale: Number of the map, such as ``cv2.COLORMAP_VIRIDIS``.

    Returns:
        RGB [H, W, 3], uint8.
    """
    levels = np.clip((values - low) / (high - low), 0, 1) * 255
    colored = cv2.applyColorMap(levels.round().astype(np.uint8), scale)
    return cv2.cvtColor(colored, cv2.COLOR_BGR2RGB)


def color_stops(scale: int) -> list[str]:
    """Return colors of a map as CSS writes them, from the first to the last."""
    ramp = color_map(np.linspace(0, 1, _STOPS)[None], 0, 1, scale)[0]
    return ["#{:02x}{:02x}{:02x}".format(*color) for color in ramp.tolist()]


def _encode(image: np.ndarray, quality: int, factor: int) -> bytes:
    if factor > 1:
        size = [max(1, math.ceil(n / factor)) for n in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return data.tobytes()


def _uri(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
