"""One clip in shares, by several processes: joined, it is what one process writes."""

import dataclasses
import functools
import io
import json
import subprocess
import time

import pytest

from edvr_jax.commands.restore import Restore
from edvr_jax.media.read import decode
from edvr_jax.media.write import segments
from edvr_jax.restore import tiles
from edvr_jax.restore.job_folder import JobFolder
from edvr_jax.restore.shards import Shard
from tests import videos
from tests.messages import check_message, refused

NUM_FRAMES = 44  # six segments, the last one is short
PRELUDE = """
from edvr_jax.media.write import segments
segments.MAX_FRAMES = 8
segments.SAVE_INTERVAL = 0.0
"""


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "MAX_FRAMES", 8)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video with sound, chapters and a cut inside the second third."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    frames = videos.moving_bars(NUM_FRAMES, 32, 48)
    frames[22:] = 255 - frames[22:]
    videos.write_video(path, frames)
    return path


@pytest.fixture(scope="module")
def restore(video, tiny):
    """Function that runs a command with changes, by a network that is loaded once."""
    load = functools.cache(Restore(video, video, weights=(tiny,)).load_networks)

    def run(command, **changes):
        return dataclasses.replace(command, **changes).restore(load)

    return run


@pytest.fixture(scope="module")
def whole(video, tiny, restore, tmp_path_factory):
    """What one process writes."""
    path = tmp_path_factory.mktemp("whole") / "out.mp4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "MAX_FRAMES", 8)
        restore(Restore(video, path, weights=(tiny,)))
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def read_all(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("count", "num_frames", "spans"),
    [
        (1, 20, [(0, None)]),
        (3, 44, [(0, 16), (16, 32), (32, None)]),
        (2, 20, [(0, 8), (8, None)]),
        (4, 17, [(0, 0), (0, 8), (8, 16), (16, None)]),
    ],
)
def test_shares_are_whole_segments(count, num_frames, spans):
    for number, (start, stop) in enumerate(spans, 1):
        frames = Shard(number, count).select_frames(num_frames, 8)
        assert frames.start == start
        assert frames.stop == stop or (stop is None and frames.stop > 10**9)


def start(*arguments):
    return videos.start_edvr(
        *("restore", *arguments), prelude=PRELUDE, stdout=-1, stderr=subprocess.PIPE
    )


def test_three_processes_at_once_one_killed_and_resumed(
    video, tiny, restore, whole, tmp_path
):
    target, report = tmp_path / "out.mp4", tmp_path / "report.json"
    options = (video, target, "--weights", tiny, "--shard")
    processes = [start(*options, f"{number}/3") for number in (1, 2, 3)]
    folder, deadline = Shard(2, 3).open_folder(target), time.monotonic() + 200
    while not folder.is_resumable:
        assert time.monotonic() < deadline
        assert processes[1].poll() is None
        time.sleep(0.01)
    processes[1].kill()
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process is processes[1] or process.returncode == 0, errors
    command = Restore(video, target, weights=(tiny,), report=report)
    with refused(target, "share 2/3 is not complete", "--shard 2/3"):
        restore(command, join=True)
    assert not target.exists()

    process = start(*options, "2/3")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert b"share 2/3, frames 17 to 32" in errors
    assert b"continuing after" in errors
    check_message(output.decode(), target, "share 2/3", "16 frames", "--join")
    restore(command, join=True)
    assert target.read_bytes() == whole.read_bytes()
    assert names(tmp_path) == ["out.mp4", "report.json"]
    tree = json.loads(report.read_text())
    assert tree["frames"] == tree["decoded_frames"] == NUM_FRAMES
    assert tree["is_read_to_end"]


def test_images_are_joined(video, tiny, restore, tmp_path):
    source = videos.write_folder(
        tmp_path / "in", videos.moving_bars(7, 32, 32), [f"{i}.png" for i in "abcdefg"]
    )
    for path in (source, video):
        target = tmp_path / f"out-{path.stem}"
        command = Restore(path, target, weights=(tiny,), preview=7, image_format="tif")
        for number in (3, 1, 2):
            restore(command, shard=f"{number}/3")
        restore(command, join=True)
        alone = tmp_path / f"whole-{path.stem}"
        restore(command, output=alone)
        assert read_all(target) == read_all(alone)
        assert len(names(target)) == 7
    assert names(tmp_path) == ["in", "out-in", "out-video", "whole-in", "whole-video"]


@pytest.mark.parametrize(("count", "frames"), [(9, "0 frames"), (200, "44 frames")])
def test_a_wrong_number_of_frames_only_divides_badly(
    video, tiny, restore, whole, tmp_path, monkeypatch, capsys, count, frames
):
    """Also more shares than segments, and shares that the clip does not reach."""
    monkeypatch.setattr(decode, "count_frames", lambda container, stream: count)
    command = Restore(video, tmp_path / "out.mp4", weights=(tiny,))
    for number in (1, 2, 3):
        restore(command, shard=f"{number}/3")
    capsys.readouterr()
    restore(command, shard="1/3")  # has nothing left to do
    line = capsys.readouterr().out
    check_message(line, "share 1/3 is complete", frames)
    assert restore(command, join=True)["restored_frames"] == 0
    assert command.output.read_bytes() == whole.read_bytes()


def test_a_clip_of_unknown_length_has_no_shares(
    video, tiny, restore, tmp_path, monkeypatch
):
    monkeypatch.setattr(decode, "count_frames", lambda container, stream: None)
    with refused(video, "ffmpeg"):
        restore(Restore(video, tmp_path / "out.mp4", weights=(tiny,)), shard="1/2")
    assert not any(tmp_path.iterdir())


def test_shares_have_one_plan(video, tiny, restore, tmp_path, monkeypatch):
    command = Restore(video, tmp_path / "out.mp4", weights=(tiny,), preview=10)
    plans = []
    for number in (1, 2):
        restore(command, shard=f"{number}/2")
        plans.append(Shard(number, 2).open_folder(command.output).read()[1])
        monkeypatch.setattr(tiles, "free_memory", lambda device: 10**5)
    assert plans[0] == plans[1]


def test_other_settings_are_refused(video, tiny, restore, tmp_path):
    command = Restore(video, tmp_path / "out.mp4", weights=(tiny,), preview=16)
    restore(command, shard="1/2")
    other = dataclasses.replace(command, crf=20)
    for shard in ("1/2", "2/2"):
        with refused(command.output, "encoding options crf: 17 -> 20"):
            restore(other, shard=shard)
    with refused(command.output, "share 1/2", "shards: 2 -> 3"):
        restore(command, shard="2/3")
    restore(command, shard="2/2")
    with refused(command.output, "share 1/2", "encoding options crf: 17 -> 20"):
        restore(other, join=True)
    with refused(command.output, "share 1/2", "input"):
        changed = tmp_path / "changed.mp4"
        changed.write_bytes(video.read_bytes() + b"\0\0\0\x08free")
        restore(command, input=changed, join=True)
    # Nothing is lost, but by --overwrite.
    restore(other, overwrite=True, shard="2/2")
    with refused(command.output, "share 1/2 is not complete"):
        restore(other, join=True)


def test_a_join_that_is_killed_can_be_repeated(
    video, tiny, restore, tmp_path, monkeypatch
):
    command = Restore(video, tmp_path / "out.mp4", weights=(tiny,), preview=16)
    for number in (1, 2):
        restore(command, shard=f"{number}/2")
    move_parts = JobFolder.move_parts

    def move_and_stop(folder, target):
        move_parts(folder, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "move_parts", move_and_stop)
        with pytest.raises(KeyboardInterrupt):
            restore(command, join=True)
    assert not command.output.exists()
    restore(command, join=True)
    restore(command, output=tmp_path / "whole.mp4")
    assert command.output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"join": True}, ["out.mp4", "--shard 1/3"]),
        ({"join": True, "shard": "1/2"}, ["--join", "--shard"]),
        ({"shard": "1/2", "input": "-"}, ["--shard", "pipe"]),
        ({"shard": "1/2", "report_html": "page.html"}, ["--report-html", "--shard"]),
        ({"join": True, "input": "LIBRARY", "output": "new"}, ["--join", "LIBRARY"]),
    ],
)
def test_options_that_exclude_shares(
    video, tiny, tmp_path, monkeypatch, options, facts
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "LIBRARY").mkdir()
    (tmp_path / "LIBRARY" / "a.mp4").write_bytes(video.read_bytes())
    paths = {"input": video, "output": "out.mp4", **options}
    for name in {"input", "output", "report_html"} & set(paths):
        paths[name] = tmp_path.__class__(paths[name])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    with refused(*facts):
        Restore(**paths, weights=(tiny,)).run()
    assert names(tmp_path) == ["LIBRARY"]
