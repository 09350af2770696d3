"""Frames that a resumed job or a share does not need are not converted."""

import numpy as np
import pytest

from edvr_jax.media.read.source import open_source
from tests import videos


@pytest.mark.parametrize("kind", ["8 bits", "10 bits, turned", "images"])
def test_skipped_frames_are_black_and_keep_size_type_and_times(tmp_path, kind):
    frames = videos.moving_bars(5, 32, 48)
    path = tmp_path / "video.mp4"
    if kind == "images":
        path = videos.write_folder(tmp_path / "frames", frames)
    else:
        is_deep = kind != "8 bits"
        pix_fmt = "yuv420p10le" if is_deep else "yuv420p"
        videos.write_video(path, frames, rotation=90 * is_deep, pix_fmt=pix_fmt)
    whole, source = open_source(path), open_source(path)
    source.skip = 3
    expected, found = list(whole), list(source)
    assert {f.dtype for f in found} == {expected[0].dtype}
    assert {f.shape for f in found} == {expected[0].shape}
    assert [f.any() for f in found[1:]] == [False, False, True, True]
    np.testing.assert_array_equal(found[3:], expected[3:])
    assert source.times == whole.times
    whole.close()
    source.close()
