"""No path that a command writes destroys another one; content, not dates, counts."""

import os
import shutil
from pathlib import Path

import pytest

from edvr_jax.commands import paths
from edvr_jax.errors import InputError


@pytest.fixture
def places(tmp_path):
    """An input file and a folder of frames as the output."""
    source, target = tmp_path / "in.mp4", tmp_path / "out"
    source.write_bytes(b"video")
    target.mkdir()
    (target / "0.png").write_bytes(b"frame")
    return source, target


@pytest.mark.parametrize(
    "name", ["in.mp4", "link.mp4", "hard.mp4", "out", "out/r.json"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_report_replaces_no_film(places, tmp_path, name, overwrite):
    source, target = places
    (tmp_path / "link.mp4").symlink_to(source)
    os.link(source, tmp_path / "hard.mp4")
    with pytest.raises(InputError, match=r"--report .*(input|output), or inside"):
        paths.check_report(
            tmp_path / name,
            {"input": [source], "output": [target]},
            overwrite=overwrite,
        )


def test_report_needs_a_file(places, tmp_path):
    known = {"input": places[:1], "output": [Path("-")], "weights": []}
    with pytest.raises(InputError, match="--report -: give the report another file"):
        paths.check_report(Path("-"), known, overwrite=False)
    paths.check_report(tmp_path / "report.json", known, overwrite=False)
    paths.check_report(None, known, overwrite=False)


def test_report_replaces_a_report_only(tmp_path):
    report, video = tmp_path / "report.json", tmp_path / "other.mp4"
    report.write_text("{}")
    video.write_bytes(b"video")
    paths.check_report(report, {}, overwrite=True)
    with pytest.raises(InputError, match=r"report\.json: exists already"):
        paths.check_report(report, {}, overwrite=False)
    with pytest.raises(InputError, match=r"other\.mp4: this file is no report"):
        paths.check_report(video, {}, overwrite=True)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a.partial.mp4", "a.mp4", "this name is needed while .*a.mp4 is written"),
        ("a.partial", "a", "this name is needed while"),
        (".a.restoring", "a", "this name is needed while"),
        ("b/c/a.mp4", "b", "this folder contains the input"),
        ("b", "b/c", "the output is inside the input"),
    ],
)
def test_input_survives_the_job(tmp_path, source, target, message):
    with pytest.raises(InputError, match=message):
        paths.check_apart(tmp_path / source, tmp_path / target)


def test_second_name_of_the_input_is_no_output(places, tmp_path):
    source, _ = places
    os.link(source, tmp_path / "hard.mp4")
    with pytest.raises(InputError, match="the output is the input"):
        paths.check_apart(source, tmp_path / "hard.mp4")


def test_fingerprint_is_of_the_content(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "_SAMPLE", 16)
    monkeypatch.setattr(paths, "_NUM_SAMPLES", 8)
    for size in (0, 5, 16, 17, 40, 1000):
        path, copy = tmp_path / "video.mp4", tmp_path / "copy.mp4"
        path.write_bytes(bytes(range(200)) * 5 if size == 1000 else os.urandom(size))
        found = paths.fingerprint(path)
        shutil.copyfile(path, copy)
        os.utime(path, (1, 1))
        assert paths.fingerprint(copy) == paths.fingerprint(path) == found
        for place in {0, size // 2, size - 1} - {-1}:
            # Up to 8 samples of 16 bytes, that is all but of the largest one.
            if size == 1000 and place == 500:
                continue
            data = bytearray(copy.read_bytes())
            if data:
                data[place] ^= 1
            path.write_bytes(data)
            assert (paths.fingerprint(path) == found) == (size == 0)
        path.write_bytes(copy.read_bytes() + b"x")
        assert paths.fingerprint(path) != found


def test_fingerprint_of_a_folder_counts_the_frames_in_use(places, tmp_path):
    _, folder = places
    names = ["0.png"]
    found = paths.fingerprint(folder, names)
    (folder / "1.png").write_bytes(b"not in use")
    shutil.copytree(folder, tmp_path / "moved")
    assert paths.fingerprint(tmp_path / "moved", names) == found
    assert paths.fingerprint(folder, [*names, "1.png"]) != found
    (folder / "0.png").write_bytes(b"other")
    assert paths.fingerprint(folder, names) != found
    with pytest.raises(InputError, match=r"2\.png: cannot be read: No such file"):
        paths.fingerprint(folder, ["2.png"])
