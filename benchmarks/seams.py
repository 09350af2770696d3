"""Measure the seams of tiles: the largest difference to the untiled frame.

    python benchmarks/seams.py CLIP [CLIP ...]

Of each clip, one frame shrunk to at most 216x320 is restored by edvr_s_x4, whole and in
tiles with a kept part of 64 pixels, for several margins.
"""

import itertools
import sys

import cv2
import numpy as np

import edvr_jax
from edvr_jax import cli
from edvr_jax.media.read.clip_reader import open_clip

MARGINS = (8, 16, 24, 32)
KEPT = 64
FIRST, COUNT = 20, 5  # frames of the clip; the middle one is restored


def main(paths: list[str]) -> None:
    """Print a line per clip: its name, and margin=difference in levels of 255."""
    cli.use_fast_cpu_convolutions()
    config, params = edvr_jax.load_weights("edvr_s_x4")
    for path in paths:
        clip = open_clip(path)
        frames = []
        for frame in itertools.islice(clip, FIRST, FIRST + COUNT):
            small = cv2.resize(
                frame, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA
            )
            frames.append(small[:216, :320])

        def restore(frames=frames, **tiles):
            stream = edvr_jax.restore_frames(
                config, params, frames, only=[COUNT // 2], **tiles
            )
            return np.clip(next(stream), 0, 1)

        whole = restore()
        for margin in MARGINS:
            tiled = restore(tile=KEPT + 2 * margin, overlap=margin)
            difference = 255 * np.abs(tiled - whole).max()
            sys.stdout.write(f"{clip.name} {margin}={difference:.3f}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
