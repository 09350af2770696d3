"""YUV4MPEG2 to a pipe: one frame rate, and a warning if that moves frames."""

import io
from fractions import Fraction
from pathlib import Path

import pytest

from edvr_jax.media.write.encode import EncodingRequest, choose_encoding
from edvr_jax.media.write.pipe import Pipe
from tests import videos
from tests.messages import check_message

MS = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("fps", "times", "irregular"),
    [
        (Fraction(25), [0, 40, 80, 120], None),
        (Fraction(25), [500, 540, 580, 620], None),
        (Fraction(30000, 1001), [0, 33, 67, 100], None),
        (Fraction(25), [0, 40, 99, 139], None),  # less than half a frame off
        (Fraction(25), [0, 40, 101, 120], 2),
    ],
)
def test_times_that_one_frame_rate_cannot_keep(caplog, fps, times, irregular):
    file = io.BytesIO()
    request = EncodingRequest(Path("pipe.y4m"), (48, 64), fps, MS)
    pipe = Pipe(file, choose_encoding(request), MS)
    for image, time in zip(videos.moving_bars(4), times, strict=True):
        pipe.write(image, time=time)
    pipe.finish()
    data = file.getvalue()
    assert data.startswith(f"YUV4MPEG2 W64 H48 F{fps.numerator}:".encode())
    assert data.count(b"FRAME\n") == 4
    assert len(caplog.messages) == (irregular is not None)
    for message in caplog.messages:
        check_message(message, "pipe", f"frame {irregular} ", ".mkv")
