"""Restore a clip from Python.

python examples/quickstart.py IN OUT
"""

import sys

import edvr_jax
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.write.writer import open_writer


def main(source, target, weights="edvr_s_x4"):
    """Restore a video or a folder of frames, in bounded memory."""
    config, params = edvr_jax.load_weights(weights)
    clip = open_clip(source)
    with open_writer(target, clip.fps) as writer:
        for frame in edvr_jax.restore_frames(config, params, clip, dtype="uint8"):
            writer.write(frame)  # [H, W, 3], RGB


if __name__ == "__main__":
    main(*sys.argv[1:])
