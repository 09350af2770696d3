"""Jobs that stop in the middle, in one process: nothing that was restored is lost."""

import dataclasses
import io
import os
import shutil
import signal
import types
from pathlib import Path

import filelock
import jax
import numpy as np
import pytest

from edvr_jax import files
from edvr_jax.commands import restore_weights
from edvr_jax.commands.restore import Restore
from edvr_jax.media.read.clip_reader import open_clip
from edvr_jax.media.write import segments
from edvr_jax.restore import tiles
from tests import videos
from tests.messages import check_message, refused

NUM_FRAMES = 20


@pytest.fixture(scope="module", autouse=True)
def small_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "MAX_FRAMES", 8)
        patch.setattr(segments, "SAVE_INTERVAL", 0.0)
        yield


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    videos.write_video(path, videos.moving_bars(NUM_FRAMES))
    return path


@pytest.fixture(scope="module")
def undisturbed(video, tiny, small_parts, tmp_path_factory):
    target = tmp_path_factory.mktemp("undisturbed") / "out.mp4"
    Restore(video, target, weights=(tiny,)).run()
    return list(open_clip(target))


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def job_folder(target):
    return target.with_name(f".{target.name}.restoring")


def assert_finished(target, undisturbed):
    np.testing.assert_array_equal(list(open_clip(target)), undisturbed)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_ctrl_c_again_before_the_clip_is_read_to_where_it_was(
    video, tiny, undisturbed, tmp_path, at_frame, capfd
):
    target = tmp_path / "out.mp4"
    restore = Restore(video, target, weights=(tiny,), resume=True)
    handler = signal.getsignal(signal.SIGINT)
    at_frame(12, press_ctrl_c)
    assert restore.run() == 130
    assert signal.getsignal(signal.SIGINT) is handler
    partial = tmp_path / "out.partial.mp4"
    count = len(videos.describe(partial)["times"])
    assert 12 <= count < NUM_FRAMES
    at_frame(0, press_ctrl_c)
    assert restore.run() == 130
    lines = capfd.readouterr().err.splitlines()
    assert any("Ctrl-C again" in line for line in lines)
    check_message(lines[-1], "interrupted", f"{count} frames", partial, "--resume")
    partial.unlink()
    assert restore.run() == 130
    line = capfd.readouterr().err.splitlines()[-1]
    check_message(line, "interrupted", f"{count} frames", "--resume")
    assert str(partial) not in line
    at_frame(99, press_ctrl_c)
    assert restore.run() is None
    assert_finished(target, undisturbed)


def test_frames_that_are_kept_are_not_restored_again(video, tiny, tmp_path, at_frame):
    target, report = tmp_path / "out", tmp_path / "report.json"
    restore = Restore(video, target, weights=(tiny,), resume=True)
    at_frame(9, press_ctrl_c)
    assert restore.run() == 130
    count = len(list((job_folder(target) / "parts").glob("*.png")))
    assert count >= 9
    at_frame(99, press_ctrl_c)
    dataclasses.replace(restore, report=report).run()
    assert f'"restored_frames": {NUM_FRAMES - count},' in report.read_text()
    assert len(list(target.iterdir())) == NUM_FRAMES
    assert not job_folder(target).exists()


def test_two_jobs_do_not_share_an_output(video, tiny, tmp_path):
    target = tmp_path / "out.mp4"
    job_folder(target).mkdir()
    with filelock.FileLock(job_folder(target) / "lock", is_singleton=False):
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with refused(target, "another process"):
                Restore(video, target, weights=(tiny,), **options).run()
    Restore(video, target, weights=(tiny,), preview=1).run()


def test_overwrite_deletes_no_job_that_could_go_on(
    video, tiny, undisturbed, tmp_path, at_frame
):
    target = tmp_path / "out.mp4"
    target.write_text("old")
    restore = Restore(video, target, weights=(tiny,), overwrite=True)
    at_frame(9, press_ctrl_c)
    assert restore.run() == 130
    at_frame(99, press_ctrl_c)
    with refused(target, "unfinished job", "--resume"):
        restore.run()
    for resume in (False, True):
        again = dataclasses.replace(restore, overwrite=False, resume=resume)
        with refused(target, "exists already", "--resume", "--overwrite"):
            again.run()
    with refused(target, "padding: reflection_circle -> circle", "--resume"):
        dataclasses.replace(restore, padding="circle", resume=True).run()
    assert target.read_text() == "old"
    dataclasses.replace(restore, resume=True).run()
    assert_finished(target, undisturbed)
    # A job of other settings cannot continue, so a new one may replace it.
    at_frame(9, press_ctrl_c)
    assert dataclasses.replace(restore, padding="circle").run() == 130
    at_frame(99, press_ctrl_c)
    restore.run()
    assert_finished(target, undisturbed)


def test_content_of_the_input_counts_not_its_place(
    video, tiny, undisturbed, tmp_path, at_frame
):
    folder, source = tmp_path / "here", tmp_path / "copy.mp4"
    folder.mkdir()
    target = folder / "out.mp4"
    at_frame(9, press_ctrl_c)
    assert Restore(video, target, weights=(tiny,)).run() == 130
    at_frame(99, press_ctrl_c)
    data = video.read_bytes()
    source.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with refused(target, "input has changed"):
        Restore(source, target, weights=(tiny,), resume=True).run()
    shutil.copyfile(video, source)
    os.utime(source, (1, 1))
    Restore(source, target, weights=(tiny,), resume=True).run()
    assert_finished(target, undisturbed)


def test_settings_that_cannot_be_read_delete_nothing(
    video, tiny, undisturbed, tmp_path, at_frame
):
    target = tmp_path / "out.mp4"
    restore = Restore(video, target, weights=(tiny,), resume=True)
    at_frame(9, press_ctrl_c)
    restore.run()
    settings = job_folder(target) / "job.json"
    before = settings.read_text()
    settings.write_text(before[:20])
    with refused(settings, "cannot be read", job_folder(target)):
        restore.run()
    settings.write_text(before)
    at_frame(99, press_ctrl_c)
    restore.run()
    assert_finished(target, undisturbed)


def test_output_that_came_meanwhile_is_not_replaced(
    video, tiny, undisturbed, tmp_path, at_frame
):
    target = tmp_path / "out.mp4"
    restore = Restore(video, target, weights=(tiny,), resume=True)
    at_frame(5, lambda: target.write_text("mine"))
    with refused(target, "exists already"):
        restore.run()
    assert target.read_text() == "mine"
    target.unlink()
    at_frame(99, press_ctrl_c)
    restore.run()
    assert_finished(target, undisturbed)


@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_output_that_cannot_get_its_name_is_kept(
    video, tiny, tmp_path, monkeypatch, suffix
):
    target = tmp_path / f"out{suffix}"
    put_in_place = files.put_in_place

    def refuse(temporary, path):
        if path == target:
            raise OSError(16, os.strerror(16))
        put_in_place(temporary, path)

    monkeypatch.setattr(files, "put_in_place", refuse)
    restore = Restore(video, target, weights=(tiny,), resume=True)
    with refused(target, "busy", "--resume"):
        restore.run()
    monkeypatch.setattr(files, "put_in_place", put_in_place)
    report = tmp_path / "report.json"
    dataclasses.replace(restore, report=report).run()
    assert '"restored_frames": 0,' in report.read_text()
    assert len(list(open_clip(target))) == NUM_FRAMES
    assert {path.name for path in tmp_path.iterdir()} == {target.name, report.name}


def test_mount_point_is_no_output(video, tiny, tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    monkeypatch.setattr("pathlib.Path.is_mount", lambda path: path == target)
    with refused(target, "mount point"):
        Restore(video, target, weights=(tiny,)).run()


def test_lack_of_memory_keeps_what_was_restored(
    video, tiny, undisturbed, tmp_path, monkeypatch
):
    target = tmp_path / "out.mp4"
    create_networks = restore_weights.create_networks
    calls = []

    def create_short_lived(*arguments):
        (network,) = create_networks(*arguments)

        def reconstruct(*inputs):
            calls.append(1)
            if len(calls) > 11:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no more")
            return network.reconstruct(*inputs)

        return [dataclasses.replace(network, reconstruct=reconstruct)]

    monkeypatch.setattr(restore_weights, "create_networks", create_short_lived)
    monkeypatch.setattr(tiles, "shrink", lambda *_, **__: None)
    restore = Restore(video, target, weights=(tiny,), resume=True)
    with refused("out of memory", "--resume"):
        restore.run()
    assert not list(tmp_path.glob("*.partial*"))
    monkeypatch.setattr(restore_weights, "create_networks", create_networks)
    restore.run()
    assert_finished(target, undisturbed)


def test_pipe_that_is_stopped_leaves_what_it_gave(
    video, tiny, tmp_path, monkeypatch, at_frame, capfd
):
    pipe = tmp_path / "in.y4m"
    Restore(video, pipe, weights=(tiny,), scale=1.0).run()
    monkeypatch.setattr(
        "sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(pipe.read_bytes()))
    )
    folder = tmp_path / "here"
    folder.mkdir()
    target = folder / "out.mp4"
    # What an earlier job of a pipe has left is of no use.
    (job_folder(target) / "parts").mkdir(parents=True)
    (job_folder(target) / "parts" / "000000.nut").touch()
    at_frame(5, press_ctrl_c)
    assert Restore(Path("-"), target, weights=(tiny,)).run() == 130
    partial = folder / "out.partial.mp4"
    count = len(videos.describe(partial)["times"])
    assert 5 <= count < NUM_FRAMES
    line = capfd.readouterr().err.splitlines()[-1]
    check_message(line, "interrupted", f"{count} frames", partial)
    assert "--resume" not in line
    assert list(folder.iterdir()) == [partial]


def test_pipe_deletes_no_job_of_a_file(
    video, tiny, undisturbed, tmp_path, monkeypatch, at_frame
):
    pipe = tmp_path / "in.y4m"
    Restore(video, pipe, weights=(tiny,), scale=1.0).run()
    folder = tmp_path / "here"
    folder.mkdir()
    target = folder / "out.mp4"
    at_frame(9, press_ctrl_c)
    assert Restore(video, target, weights=(tiny,)).run() == 130
    (folder / "out.partial.mp4").unlink()
    at_frame(99, press_ctrl_c)
    data = io.BytesIO(pipe.read_bytes())
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=data))
    with refused(target, "unfinished job", "input has changed"):
        Restore(Path("-"), target, weights=(tiny,)).run()
    Restore(video, target, weights=(tiny,), resume=True).run()
    assert_finished(target, undisturbed)


def test_job_in_an_empty_folder_goes_on(video, tiny, tmp_path, at_frame):
    target = tmp_path / "out"
    target.mkdir()
    at_frame(9, press_ctrl_c)
    assert Restore(video, target, weights=(tiny,)).run() == 130
    at_frame(99, press_ctrl_c)
    again = Restore(video, target, weights=(tiny,), resume=True, image_format="png")
    assert again.run() is None
    assert len(list(target.iterdir())) == NUM_FRAMES
