"""Records: the bytes and the order of the files, resumed, and every kind of damage."""

import pickle
import shutil

import av
import cv2
import numpy as np
import pytest

from edvr_jax import cli
from edvr_jax.data import builders, records
from edvr_jax.data.datasets import find_layout
from edvr_jax.errors import InputError
from edvr_jax.media.read import clip_reader

pytest.importorskip("tensorflow_datasets")
NAME = "folder_of_clips"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Clips of different lengths and sizes: two folders, and a lossless video."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for name, count, height in (("a", 3, 40), ("b10", 12, 32)):
        (folder / name).mkdir()
        for i in range(count):
            image = rng.integers(0, 256, (height, 48, 3), np.uint8)
            cv2.imwrite(str(folder / name / f"{i}.png"), image)
    with av.open(str(folder / "b9.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 40, "bgr0"
        for _ in range(4):
            image = rng.integers(0, 256, (32, 40, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return folder


def build(source, target):
    return records.build(NAME, find_layout(NAME, source), target)


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    return build(source, tmp_path_factory.mktemp("records"))


def test_frames_equal_those_of_the_files(source, built):
    layout = records.read_layout(built)
    assert layout.train == ("a", "b9", "b10")
    streams = layout.streams
    assert list(streams) == ["gt"]
    assert list(streams["gt"]) == ["a", "b9", "b10"]
    for name, frames in streams["gt"].items():
        path = source / name if (source / name).is_dir() else source / f"{name}.mkv"
        clip = clip_reader.open_clip(path)
        assert frames.size == clip.size
        assert len(frames) == len(list(clip))
        for index, frame in enumerate(clip):
            np.testing.assert_array_equal(frames[index], frame)


def test_original_bytes_are_kept(source, built):
    frames = records.read_layout(built).streams["gt"]["b10"]
    data = frames.split.read(frames.first + 11)
    assert data == (source / "b10" / "11.png").read_bytes()


def test_frames_travel_to_another_process_as_a_path(built):
    frames = records.read_layout(built).streams["gt"]["a"]
    before = frames[2]
    data = pickle.dumps(frames)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data)[2], before)


def test_records_are_found_in_either_folder(built):
    assert records.find_records(built, NAME) == built
    assert records.find_records(built.parent.parent, NAME) == built
    assert records.find_records(built.parent.parent, "reds") is None


def test_build_goes_on_with_the_shards_that_are_missing(
    source, built, tmp_path, monkeypatch
):
    monkeypatch.setattr(builders, "SHARD_BYTES", 1)  # a shard a clip
    whole = build(source, tmp_path / "whole")
    real, opened = clip_reader.open_clip, []

    def stop_at_b10(path):
        opened.append(path.name)
        if path.name == "b10" and len(opened) == 6:  # all were opened to check them
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(clip_reader, "open_clip", stop_at_b10)
    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "stopped")
    shards = sorted((tmp_path / "stopped" / NAME).rglob("*array_record*of*3"))
    times = [shard.stat().st_mtime_ns for shard in shards]
    assert len(times) == 2
    folder = build(source, tmp_path / "stopped")
    files = sorted(folder.glob("*array_record*"))
    assert [file.stat().st_mtime_ns for file in files[:2]] == times
    expected = sorted(whole.glob("*array_record*"))
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in expected]
    assert records.read_layout(folder).streams["gt"].keys() == {"a", "b9", "b10"}
    left = {p.name for p in (tmp_path / "stopped").rglob("*") if p.is_dir()}
    assert left == {NAME, "1.0.0"}


def test_command_says_what_is_there_and_does_it_once(source, tmp_path, capsys):
    command = ["records", NAME, str(source), str(tmp_path)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path}/{NAME}/1.0.0: gt\n"
    assert cli.main(command) == 0
    shutil.copytree(source, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "a")
    assert cli.main(["records", NAME, str(tmp_path / "other"), str(tmp_path)]) == 2
    assert "records of other clips" in capsys.readouterr().err


def test_damaged_clip_is_named_and_nothing_is_left(source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    (tmp_path / "source" / "b9.mkv").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"b9\.mkv: not a video"):
        build(tmp_path / "source", tmp_path / "out")
    assert records.find_records(tmp_path / "out", NAME) is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_truncated_file_is_named(built, tmp_path, share):
    folder = shutil.copytree(built, tmp_path / "records")
    (file,) = folder.glob("*array_record*")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    frames = records.read_layout(folder).streams["gt"]["b10"]
    with pytest.raises(InputError, match=f"{file}: record cannot be read"):
        frames[11]


@pytest.mark.parametrize(
    "name", ["metadata.json", "features.json", "dataset_info.json"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"clips": 3}'])
def test_damaged_description_is_named(built, tmp_path, name, content):
    """Also looked at: folders in place of files, see tests/test_mutants.py."""
    folder = tmp_path / NAME / "1.0.0"
    shutil.copytree(built, folder)
    (folder / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        records.read_layout(records.find_records(tmp_path, NAME))
    assert str(folder) in str(error.value)


def test_other_records_are_refused(built, tmp_path):
    folder = shutil.copytree(built, tmp_path / "records")
    (folder / "metadata.json").unlink()
    with pytest.raises(InputError, match="not written by edvr records"):
        records.read_layout(folder)
