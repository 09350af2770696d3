"""Restorations that are killed, interrupted, resumed: the frames stay the same."""

import random
import signal
import subprocess
import time

import numpy as np
import pytest

from edvr_jax.commands.restore import Restore
from edvr_jax.media.read.clip_reader import open_clip
from tests import videos
from tests.messages import check_message, refused

# Small parts, many of which a short video has, and frames saved often.
PRELUDE = """
from edvr_jax.media.write import segments
segments.MAX_FRAMES = 8
segments.SAVE_INTERVAL = 0.1
"""
NUM_FRAMES = 40
REPORT_PEAK = """
import atexit, resource
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
atexit.register(lambda: print(peak()))
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    frames = videos.moving_bars(NUM_FRAMES, 48, 64)
    frames[20:] = 255 - frames[20:]  # a cut
    videos.write_video(path, frames)
    return path


@pytest.fixture(scope="module")
def undisturbed(video, tiny, tmp_path_factory):
    """Function that restores the video at one go, into a suffix's format."""
    done = {}

    def restore(suffix):
        if suffix not in done:
            target = tmp_path_factory.mktemp("undisturbed") / f"out{suffix}"
            finish(start(video, target, tiny))
            done[suffix] = target
        return done[suffix]

    return restore


def start(source, target, weights, *options):
    return videos.start_edvr(
        *("restore", source, target, "--weights", weights, *options),
        prelude=PRELUDE,
        stderr=subprocess.PIPE,
    )


def finish(process, code=0):
    """Wait for the end of a process; returns its lines on stderr."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    return errors.decode().splitlines()


def work_folder(target):
    return target.with_name(f".{target.name}.restoring")


def wait_for_progress(process, target, before):
    """Wait until there is another file than before in the job's folder."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        names = {path.name for path in (work_folder(target) / "parts").glob("*")}
        if names - before - {"unfinished.nut"}:
            return names
        time.sleep(0.01)
    raise AssertionError(process.stderr.read())


def kill_and_resume(video, target, weights, *, num_kills):
    """Kill a job this many times after it made progress, then let it finish."""
    moments = random.Random(target.name)
    seen, kills = set(), 0
    for _ in range(num_kills):
        process = start(video, target, weights, "--resume")
        seen |= wait_for_progress(process, target, seen)
        time.sleep(moments.uniform(0, 0.3))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
    finish(start(video, target, weights, "--resume"))
    assert not work_folder(target).exists()
    return kills


def assert_same_frames(target, expected):
    frames, wanted = list(open_clip(target)), list(open_clip(expected))
    assert len(frames) == len(wanted) == NUM_FRAMES
    np.testing.assert_array_equal(frames, wanted)


@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param(".mp4", id="video"),
        pytest.param("", id="frames", marks=pytest.mark.slow),
    ],
)
def test_killed_job_ends_with_the_same_frames(
    video, tiny, undisturbed, tmp_path, suffix
):
    target = tmp_path / f"out{suffix}"
    assert kill_and_resume(video, target, tiny, num_kills=1) == 1
    assert_same_frames(target, undisturbed(suffix))
    if suffix:
        before, after = videos.describe(video), videos.describe(target)
        assert after["audio"] == before["audio"]
        for kind, seconds in before["durations"].items():
            assert abs(after["durations"][kind] - seconds) < 0.04


@pytest.mark.slow
def test_killed_five_times(video, tiny, undisturbed, tmp_path):
    target = tmp_path / "out.mp4"
    assert kill_and_resume(video, target, tiny, num_kills=5) == 5
    assert_same_frames(target, undisturbed(".mp4"))
    assert target.read_bytes() == undisturbed(".mp4").read_bytes()


def test_interrupted_job_leaves_a_video_that_plays(video, tiny, tmp_path):
    target = tmp_path / "out.mp4"
    process = start(video, target, tiny)
    wait_for_progress(process, target, set())
    process.send_signal(signal.SIGINT)
    line = finish(process, 130)[-1]
    partial = tmp_path / "out.partial.mp4"
    count = len(videos.describe(partial)["times"])
    check_message(line, "interrupted", f"{count} frames", partial, "--resume")
    assert 0 < count < NUM_FRAMES
    assert not target.exists()
    seconds = videos.describe(partial)["durations"]
    assert abs(seconds["audio"] - seconds["video"]) < 0.04
    # Only --resume or --overwrite touch what is there, and with the same settings.
    with refused(target, "unfinished job", "--resume"):
        Restore(video, target, weights=(tiny,)).run()
    with refused(target, "encoding options crf: 17 -> 20"):
        Restore(video, target, weights=(tiny,), crf=20, resume=True).run()


def test_interrupt_before_the_first_frame_leaves_nothing(video, tiny, tmp_path):
    process = start(video, tmp_path / "out.mp4", tiny)
    deadline = time.monotonic() + 200
    while not work_folder(tmp_path / "out.mp4").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    line = finish(process, 130)[-1]
    if "no frame" in line or "not written" in line:  # else it outran the signal
        assert not any(tmp_path.iterdir())


def test_resume_without_a_job_begins_one(video, tiny, tmp_path):
    restore = Restore(
        video, tmp_path / "o.mp4", weights=(tiny,), preview=2, resume=True
    )
    assert restore.run() is None
    assert len(videos.describe(tmp_path / "o.mp4")["times"]) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_as_users_do")
def test_memory_does_not_grow_with_the_clip(tiny, tmp_path):
    peaks = {30: [], 300: []}
    for attempt in range(3):  # the first one compiles
        for count, found in peaks.items():
            source = tmp_path / f"{count}.mp4"
            videos.write_video(source, videos.moving_bars(count, 64, 64))
            target = tmp_path / f"out{count}-{attempt}.mp4"
            options = ["restore", source, target, "--weights", tiny]
            # Both videos have several parts, as 30 frames of 1080p have.
            prelude = PRELUDE + REPORT_PEAK
            with videos.start_edvr(*options, prelude=prelude, stdout=-1) as process:
                lines = process.communicate(timeout=500)[0].splitlines()
            found.append(int(lines[-1]))
    # Measured 408 and 413 MB; one run of 30 frames in three took 382.
    assert np.median(peaks[300]) < 1.05 * np.median(peaks[30]), peaks
