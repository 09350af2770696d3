"""Videos whose streams are copied."""

import pytest

from tests import videos


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """One second with sound and two chapters."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    videos.write_video(path, videos.moving_bars(25))
    return path
