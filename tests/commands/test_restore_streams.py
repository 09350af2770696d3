"""Which video stream of several ``edvr restore`` takes, and what becomes of the others.

Members of the kind: a thumbnail as first stream, the default one later; several sizes
without a default; a cover or an empty track first; a stream without a decoder; another
stream than the usual one, by number; the same with --resume, --start and without sound.
"""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from edvr_jax.commands.restore import Restore
from edvr_jax.errors import InputError, ResourceError
from edvr_jax.media.read import clip_reader
from edvr_jax.media.write import segments
from tests import videos


def write_streams(path, *streams):
    """Write a file of video streams: size, level of gray, frames, disposition."""
    with av.open(str(path), "w") as container:
        added = []
        for (width, height), _, _, disposition in streams:
            stream = container.add_stream("mpeg4", 25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 25)
            stream.disposition = disposition
            added.append(stream)
        for stream, (_, level, count, _) in zip(added, streams, strict=True):
            image = np.full((stream.height, stream.width, 3), level, np.uint8)
            for index in range(count):
                frame = av.VideoFrame.from_ndarray(image)
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def summarize(path):
    """Size, gray level, number of frames and whether it is default of each stream."""
    found = []
    with av.open(str(path)) as container:
        for stream in container.streams.video:
            container.seek(0)
            frames = [f.to_ndarray(format="gray") for f in container.decode(stream)]
            is_default = bool(stream.disposition & Disposition.default)
            level = round(float(np.mean(frames)), -1)
            found.append((stream.width, stream.height, level, len(frames), is_default))
    return found


DEFAULT, NONE = Disposition.default, Disposition(0)
SMALL, LARGE = (64, 48), (128, 96)


@pytest.fixture
def thumbnail_first(tmp_path):
    """A thumbnail of one frame, then the video, marked as default."""
    streams = (LARGE, 50, 1, NONE), (SMALL, 200, 5, DEFAULT)
    return write_streams(tmp_path / "in.mkv", *streams)


def test_default_stream_is_restored(tmp_path, same, thumbnail_first, capsys):
    target = tmp_path / "out.mkv"
    Restore(thumbnail_first, target, weights=(same,)).run()
    # The restored one is first, and players show it; the other is copied.
    assert summarize(target) == [(64, 48, 200, 5, True), (128, 96, 50, 1, False)]
    said = capsys.readouterr().err
    assert "0 (128x96), 1 (64x48); stream 1 is restored; --video-stream" in said


def test_stream_by_number(tmp_path, same, thumbnail_first, capsys):
    target, report = tmp_path / "out.mkv", tmp_path / "report.json"
    options = {"weights": (same,), "report": report, "video_stream": 0}
    Restore(thumbnail_first, target, **options).run()
    assert summarize(target) == [(128, 96, 50, 1, True), (64, 48, 200, 5, False)]
    assert "several video streams" not in capsys.readouterr().err
    assert json.loads(report.read_text())["settings"]["video_stream"] == 0
    # What comes out has the restored one as the usual one again.
    assert clip_reader.open_clip(target).size == (96, 128)


def test_numbers_that_are_no_video_stream(tmp_path, same, thumbnail_first):
    for path, number in ((thumbnail_first, 2), (thumbnail_first, -1)):
        with pytest.raises(InputError, match=rf"stream {number} .* 0 \(.*1 \(64x48\)"):
            Restore(path, tmp_path / "o.mkv", (same,), video_stream=number).run()
    folder = videos.write_folder(tmp_path / "frames", videos.moving_bars(2))
    with pytest.raises(InputError, match="is for a video file"):
        Restore(folder, tmp_path / "o.mkv", (same,), video_stream=0).run()


@pytest.mark.parametrize(
    ("streams", "expected"),
    [
        ([(SMALL, 50, 2, NONE), (LARGE, 200, 2, NONE)], (96, 128)),
        ([(LARGE, 50, 2, NONE), (SMALL, 200, 2, NONE)], (96, 128)),
        ([(SMALL, 50, 2, DEFAULT), (LARGE, 200, 2, DEFAULT)], (96, 128)),
        ([(SMALL, 50, 2, DEFAULT), (LARGE, 200, 2, NONE)], (48, 64)),
        ([(SMALL, 50, 2, NONE), (SMALL, 200, 2, DEFAULT)], (48, 64)),
    ],
)
def test_usual_stream(tmp_path, streams, expected):
    path = write_streams(tmp_path / "in.mkv", *streams)
    assert clip_reader.open_clip(path).size == expected
    first = next(iter(clip_reader.open_clip(path)))
    assert first.shape[:2] == expected


def test_empty_track_is_not_taken(tmp_path):
    streams = (LARGE, 50, 0, DEFAULT), (SMALL, 200, 3, NONE)
    path = write_streams(tmp_path / "in.mp4", *streams)
    assert len(list(clip_reader.open_clip(path))) == 3


def test_stream_without_decoder_is_not_taken(tmp_path):
    streams = (LARGE, 50, 2, DEFAULT), (SMALL, 200, 3, NONE)
    path = write_streams(tmp_path / "in.avi", *streams)
    data = path.read_bytes()
    first = data.index(b"FMP4")
    data = data[:first] + b"XYZQ" + data[first + 4 :]
    second = data.index(b"FMP4", first)  # the header's second name of it
    path.write_bytes(data[:second] + b"XYZQ" + data[second + 4 :])
    assert clip_reader.open_clip(path).size == (48, 64)


def test_resumed_job_reads_the_same_stream(tmp_path, same, monkeypatch, at_frame):
    def fail():
        raise ResourceError("full disk")

    monkeypatch.setattr(segments, "MAX_FRAMES", 8)
    streams = (SMALL, 50, 12, DEFAULT), (LARGE, 200, 12, NONE)
    source = write_streams(tmp_path / "in.mkv", *streams)
    target = tmp_path / "out.mkv"
    options = {"weights": (same,), "video_stream": 1, "streams": "video"}
    options |= {"start": "0.08"}
    at_frame(9, fail)
    with pytest.raises(ResourceError):
        Restore(source, target, **options).run()
    monkeypatch.undo()
    monkeypatch.setattr(segments, "MAX_FRAMES", 8)
    with pytest.raises(InputError, match="video_stream"):
        Restore(source, target, **options | {"video_stream": 0}, resume=True).run()
    Restore(source, target, **options, resume=True).run()
    assert summarize(target)[0][:4] == (128, 96, 200, 10)
