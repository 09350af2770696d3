"""A library of videos: every good clip is restored, the others are named."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2
import filelock
import numpy as np
import pytest

from edvr_jax import files
from edvr_jax.commands import restore_report, restore_weights
from edvr_jax.commands.restore import Restore
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.write import segments
from edvr_jax.restore.job_folder import JobFolder
from tests import videos
from tests.messages import check_message, refused

GOOD = {  # input, output
    "a1.mp4": "a1.mp4",
    "a2.mov": "a2.mov",
    "a10.avi": "a10.mkv",
    "b.webm": "b.webm",
    "frames": "frames",
}
NUM_FRAMES = 4


def write_clip(path, count=NUM_FRAMES):
    frames = videos.moving_bars(count, 32, 32)
    if path.suffix:
        codecs = {".avi": "mpeg4", ".webm": "libvpx-vp9"}
        codec = codecs.get(path.suffix, "libx264")
        videos.write_video(path, frames, codec=codec, with_sound=False)
    else:
        path.mkdir()
        for index, frame in enumerate(frames):
            cv2.imwrite(str(path / f"{index}.png"), np.ascontiguousarray(frame))


def write_broken(path):
    path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(40))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Six clips, one of them broken."""
    folder = tmp_path_factory.mktemp("library") / "in"
    folder.mkdir()
    for name in GOOD:
        write_clip(folder / name)
    write_broken(folder / "broken.mp4")
    (folder / "notes.txt").write_text("no clip")
    return folder


@pytest.fixture(scope="module")
def good(library, tmp_path_factory):
    """Two videos."""
    folder = tmp_path_factory.mktemp("good") / "in"
    folder.mkdir()
    for name in ("a1.mp4", "a2.mov"):
        shutil.copy(library / name, folder)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def states(report):
    entries = json.loads(report.read_text())["clips"]
    return {entry["input"].rpartition("/")[2]: entry["state"] for entry in entries}


def test_all_good_clips_are_restored(library, tiny, tmp_path, capsys):
    out, report = tmp_path / "out", tmp_path / "report.json"
    command = Restore(library, out, weights=(tiny,), report=report)
    assert command.run() == 1
    assert names(out) == sorted(GOOD.values())
    for name in GOOD.values():
        assert [f.shape for f in open_clip(out / name)] == [(64, 64, 3)] * NUM_FRAMES
    tree = json.loads(report.read_text())
    assert tree["states"] == {"restored": 5, "failed": 1}
    order = ["a1.mp4", "a2.mov", "a10.avi", "b.webm", "broken.mp4", "frames"]
    assert list(states(report)) == order
    assert tree["clips"][0]["frames"] == NUM_FRAMES
    broken = library / "broken.mp4"
    check_message(tree["clips"][4]["error"], broken)
    written = capsys.readouterr()
    assert f"note: {library / 'a10.avi'}: .avi" in written.err
    lines = [line for line in written.err.splitlines() if str(broken) in line]
    assert len(lines) == 2  # when it failed, and at the end
    check_message(
        written.out.splitlines()[-1], out, "6 clips", "5 restored", "1 failed"
    )

    # What is done is skipped, and stays in the report.
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert dataclasses.replace(command, resume=True).run() == 1
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert json.loads(report.read_text())["clips"][0] == tree["clips"][0]
    other = dataclasses.replace(command, report=tmp_path / "other.json")
    assert other.run() == 1
    assert states(other.report) == dict.fromkeys(GOOD, "exists") | {
        "broken.mp4": "failed"
    }


def test_networks_are_loaded_once(good, tiny, tmp_path, monkeypatch):
    loaded = []
    create = restore_weights.create_networks

    def create_networks(*arguments):
        loaded.append(1)
        return create(*arguments)

    monkeypatch.setattr(restore_weights, "create_networks", create_networks)
    assert Restore(good, tmp_path / "out", weights=(tiny,), preview=1).run() == 0
    assert len(loaded) == 1


def test_overwrite_restores_again(good, tiny, tmp_path):
    out = tmp_path / "out"
    command = Restore(good, out, weights=(tiny,), preview=1)
    assert command.run() == 0
    again = dataclasses.replace(command, preview=2, overwrite=True)
    assert again.run() == 0
    assert len(list(open_clip(out / "a1.mp4"))) == 2


def test_options_of_one_kind_are_for_that_kind(library, tiny, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(library / "a1.mp4", folder)
    shutil.copytree(library / "frames", folder / "frames")
    options = {"fps": "2", "image_format": "jpg", "video_stream": 0, "end": "1"}
    assert Restore(folder, out, weights=(tiny,), **options).run() == 0
    assert names(out / "frames") == ["0.jpg", "1.jpg"]
    assert len(list(open_clip(out / "a1.mp4"))) == NUM_FRAMES


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"weights": ("none.pth",)}, ["none.pth"]),
        ({"stage2": "tiny.safetensors"}, ["tiny.safetensors", "scale"]),
        ({"artifact": Path("none.edvr"), "weights": None}, ["none.edvr"]),
        ({"codec": "none"}, ["none", "libx264"]),
        ({"crf": 99}, ["99"]),
        ({"encoder_options": ("no=thing",)}, ["no"]),
        ({"scale": 99.0}, ["99"]),
        ({"tile": 1}, ["1"]),
        ({"start": "x"}, ["start"]),
        ({"start": "2", "end": "1"}, ["end"]),
        ({"preview": 0}, ["0"]),
        ({"fps": "10"}, ["--fps"]),
        ({"image_format": "png"}, ["--image-format"]),
        ({"report_html": Path("page.html")}, ["--report-html"]),
        ({"report": Path("IN/r.json")}, ["IN/r.json", "input"]),
        ({"report": Path("OUT/a1.mp4")}, ["OUT/a1.mp4", "output"]),
        ({"report": Path("no/r.json")}, ["no/r.json"]),
        ({"shard": "3/2"}, ["--shard 3/2"]),
        ({"output": Path("-")}, ["folder"]),
        ({"output": Path("new.mp4")}, ["new.mp4", "folder"]),
        ({"output": Path("IN")}, ["IN"]),
        ({"output": Path("IN/out")}, ["IN/out"]),
        ({"output": Path("no/such")}, ["no/such"]),
        ({"output": Path("file")}, ["file"]),
    ],
)
def test_refused_before_the_work(good, tiny, tmp_path, monkeypatch, options, facts):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(good, "IN")
    write_broken(Path("IN/a0.mp4"))  # the options are tried with the next one
    shutil.copy(tiny, "tiny.safetensors")
    Path("file").touch()
    before = sorted(tmp_path.rglob("*"))
    command = Restore(Path("IN"), Path("OUT"), weights=("tiny.safetensors",))
    with refused(*facts):
        dataclasses.replace(command, **options).run()
    assert sorted(tmp_path.rglob("*")) == before


def test_outputs_of_one_name_are_refused(good, tiny, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(good, folder)
    command = Restore(folder, tmp_path / "out", weights=(tiny,))
    for first, second in (("b.avi", "b.mkv"), ("c.mp4", "c.partial.mp4")):
        (folder / first).touch()
        (folder / second).touch()
        with refused(folder / first, folder / second, tmp_path / "out"):
            command.run()
        (folder / second).unlink()
    assert not (tmp_path / "out").exists()


def test_images_beside_videos_are_refused(library, tiny, tmp_path):
    shutil.copytree(library, tmp_path / "in")
    shutil.copy(library / "frames" / "0.png", tmp_path / "in" / "poster.png")
    with refused(tmp_path / "in", "poster.png", "a1.mp4"):
        Restore(tmp_path / "in", tmp_path / "out", weights=(tiny,)).run()


def test_folders_of_frames_alone_are_a_library(library, tiny, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(library / "frames", tmp_path / "in" / name)
    out = tmp_path / "out"
    assert Restore(tmp_path / "in", out, weights=(tiny,), preview=1).run() == 0
    assert names(out) == ["a", "b"]


def test_ctrl_c_stops_all_and_resume_continues(
    good, tiny, tmp_path, at_frame, capsys, monkeypatch
):
    monkeypatch.setattr(segments, "MAX_FRAMES", 8)
    folder, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "report.json"
    shutil.copytree(good, folder)
    (folder / "a1.mp4").unlink()
    write_clip(folder / "a1.mp4", 20)
    command = Restore(folder, out, weights=(tiny,), report=report)
    at_frame(9, lambda: signal.raise_signal(signal.SIGINT))
    assert command.run() == 130
    line = capsys.readouterr().err.splitlines()[-1]
    check_message(line, "interrupted", "0 of 2", folder / "a1.mp4", "--resume")
    assert states(report) == {"a1.mp4": "interrupted", "a2.mov": "waiting"}
    report.unlink()
    at_frame(99, lambda: None)
    with refused(out, "a1.mp4", "--resume"):
        command.run()
    assert dataclasses.replace(command, resume=True).run() == 0
    assert names(out) == ["a1.mp4", "a2.mov"]
    clip = json.loads(report.read_text())["clips"][0]
    assert clip["restored_frames"] < clip["frames"] == 20


def test_ctrl_c_between_two_clips(good, tiny, tmp_path, monkeypatch, capsys):
    out, report = tmp_path / "out", tmp_path / "report.json"

    def press_ctrl_c(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(restore_report, "summarize", press_ctrl_c)
    command = Restore(good, out, weights=(tiny,), preview=1, report=report)
    assert command.run() == 130
    line = capsys.readouterr().err.splitlines()[-1]
    check_message(line, "interrupted", "of 2", "--resume")
    assert names(out) == ["a1.mp4"]
    monkeypatch.undo()
    assert dataclasses.replace(command, resume=True).run() == 0
    assert states(report) == {"a1.mp4": "exists", "a2.mov": "restored"}


def test_clip_of_another_process_is_left_to_it(good, tiny, tmp_path, capsys):
    out = tmp_path / "out"
    folder = out / ".a1.mp4.restoring"
    folder.mkdir(parents=True)
    command = Restore(good, out, weights=(tiny,), preview=1, resume=True)
    with filelock.FileLock(folder / "lock"):
        assert command.run() == 1
    written = capsys.readouterr()
    assert "1 busy, 1 restored" in written.out
    assert names(out) == [".a1.mp4.restoring", "a2.mov"]
    assert command.run() == 0
    assert names(out) == ["a1.mp4", "a2.mov"]


def test_clip_that_another_process_finished_is_done(good, tiny, tmp_path, monkeypatch):
    out, report = tmp_path / "out", tmp_path / "report.json"
    note_input = restore_report.note_input

    def finish_elsewhere(source, *arguments, **options):
        (out / source.path.name).write_text("of another process")
        return note_input(source, *arguments, **options)

    monkeypatch.setattr(restore_report, "note_input", finish_elsewhere)
    command = Restore(good, out, weights=(tiny,), report=report)
    assert command.run() == 0
    assert states(report) == {"a1.mp4": "exists", "a2.mov": "exists"}
    assert names(out) == ["a1.mp4", "a2.mov"]


def test_mistake_of_the_program_stops_one_clip(
    good, tiny, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    note_input = restore_report.note_input

    def fail(source, *arguments, **options):
        if source.path.name == "a1.mp4":
            raise ZeroDivisionError("a mistake")
        return note_input(source, *arguments, **options)

    monkeypatch.setattr(restore_report, "note_input", fail)
    assert Restore(good, out, weights=(tiny,), preview=1).run() == 1
    assert names(out) == ["a2.mov"]
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    check_message(errors.splitlines()[-1], good / "a1.mp4", "a mistake")


def test_full_disk_stops_all(good, tiny, tmp_path, monkeypatch):
    out, report = tmp_path / "out", tmp_path / "report.json"
    put_in_place = files.put_in_place

    def refuse(temporary, path):
        if path.parent == out:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put_in_place(temporary, path)

    monkeypatch.setattr(files, "put_in_place", refuse)
    command = Restore(good, out, weights=(tiny,), report=report)
    with refused(out / "a1.mp4", "--resume"):
        command.run()
    assert states(report) == {"a1.mp4": "failed", "a2.mov": "waiting"}
    monkeypatch.setattr(files, "put_in_place", put_in_place)
    assert dataclasses.replace(command, resume=True).run() == 0


# Small parts, which are saved often.
PRELUDE = """
from edvr_jax.media.write import segments
segments.MAX_FRAMES = 8
segments.SAVE_INTERVAL = 0.0
"""


def start(*arguments):
    return videos.start_edvr(
        *("restore", *arguments),
        prelude=PRELUDE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_progress(process, target):
    """Wait until a job can be resumed."""
    folder, deadline = JobFolder(target), time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if folder.is_resumable:
            return
        time.sleep(0.01)
    raise AssertionError(process.stderr.read())


def test_two_shards_at_once_one_killed_and_resumed(library, tiny, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(library, folder)
    (folder / "a1.mp4").unlink()
    write_clip(folder / "a1.mp4", 40)
    options = (folder, out, "--resume", "--weights", tiny, "--shard")
    first, second = start(*options, "1/2"), start(*options, "2/2")
    wait_for_progress(first, out / "a1.mp4")
    first.kill()
    first.communicate()
    assert not (out / "a1.mp4").exists()
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    # Of a1, a2, a10, b, broken and frames the second has every other one.
    done = {name for name in names(out) if name[0] != "."}
    assert done == {"a2.mov", "b.webm", "frames"}

    first = start(*options, "1/2")
    _, errors = first.communicate(timeout=300)
    assert first.returncode == 1, errors
    lines = errors.decode().splitlines()
    assert any("continuing after" in line for line in lines)
    check_message(lines[-1], "not restored", folder / "broken.mp4")
    assert names(out) == sorted(GOOD.values())
    assert len(list(open_clip(out / "a1.mp4"))) == 40
