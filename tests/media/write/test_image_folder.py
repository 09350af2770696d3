"""Frames as the images of a folder: exact, under the names of the input."""

import numpy as np

from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.write.image_folder import ImageFolder
from tests import videos
from tests.messages import refused


def test_names_are_kept_and_further_frames_numbered(tmp_path):
    frames = videos.moving_bars(3)
    for count in (2, 1):  # the second one continues
        sink = ImageFolder(tmp_path, tmp_path, ["b.jpg", "c.v2.png"], ".png")
        for image in frames[sink.num_written :][:count]:
            sink.write(image, time=0)
    names = ["b.png", "c.v2.png", "00000002.png"]
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    written = dict(zip(sorted(names), open_clip(tmp_path), strict=True))
    np.testing.assert_array_equal([written[name] for name in names], frames)


def test_equal_names_are_refused(tmp_path):
    with refused(tmp_path, "a.png"):
        ImageFolder(tmp_path, tmp_path, ["a.jpg", "a.png"], ".png")
    assert list(tmp_path.iterdir()) == []
