"""Outputs that are there whole or not at all."""

import re
from pathlib import Path

import pytest

from edvr_jax import files
from edvr_jax.errors import InputError


def contents(folder):
    """Everything below a folder: relative name -> text, None for a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_text()
        for path in folder.rglob("*")
    }


def make_folder(path, name):
    path.mkdir()
    (path / name).write_text(name)


def test_file_is_written_and_replaced(tmp_path):
    for text in ("old", "new"):
        files.write(tmp_path / "a.json", text.encode())
        assert contents(tmp_path) == {"a.json": text}


def test_folder_replaces_the_old_one_as_a_whole(tmp_path):
    for name in ("old", "new"):
        with files.replacing(tmp_path / "out") as temporary:
            make_folder(temporary, name)
            assert "out/new" not in contents(tmp_path)
        assert contents(tmp_path) == {"out": None, f"out/{name}": name}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failure_leaves_the_old_and_nothing_else(tmp_path, error):
    files.write(tmp_path / "a", b"old")
    make_folder(tmp_path / "out", "old")
    before = contents(tmp_path)

    def fail_halfway(path):
        with files.replacing(path) as temporary:
            make_folder(temporary, "half")
            raise error

    for name in ("a", "out"):
        with pytest.raises(error):
            fail_halfway(tmp_path / name)
        assert contents(tmp_path) == before


def test_leftover_of_a_killed_process_is_overwritten(tmp_path):
    with files.replacing(tmp_path / "out") as temporary:
        make_folder(temporary, "new")
        leftover = temporary
    make_folder(leftover, "half")
    with files.replacing(tmp_path / "out") as temporary:
        make_folder(temporary, "newer")
    assert contents(tmp_path) == {"out": None, "out/newer": "newer"}


def test_old_folder_comes_back_if_the_new_one_cannot_be_moved(tmp_path, monkeypatch):
    make_folder(tmp_path / "out", "old")
    replace = Path.replace

    def refuse_new(path, target):
        if path.suffix == ".partial":
            raise PermissionError(13, "Permission denied")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse_new)
    with (
        pytest.raises(InputError, match="out: cannot be written: Permission denied"),
        files.replacing(tmp_path / "out") as temporary,
    ):
        make_folder(temporary, "new")
    assert contents(tmp_path) == {"out": None, "out/old": "old"}


def test_a_file_never_replaces_a_folder(tmp_path):
    make_folder(tmp_path / "out", "precious")
    with pytest.raises(InputError, match="out: cannot be written: Is a directory"):
        files.write(tmp_path / "out", b"new")
    assert contents(tmp_path) == {"out": None, "out/precious": "precious"}


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for parent in ("nowhere", "file"):
        path = tmp_path / parent / "a.json"
        with pytest.raises(InputError, match=f"{parent}/a.json: cannot be written: "):
            files.write(path, b"new")


# The longest name for a file is 255 bytes in most file systems, 143 in eCryptfs; a path
# has at most 4096. Here 2 bytes a letter: bytes count, not letters.
@pytest.mark.parametrize("limit", [255, 143])
def test_longest_name_is_reported_and_works(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("os.pathconf", lambda path, name: limit)
    with pytest.raises(InputError, match=r"\.json: this name has 305 bytes, ") as error:
        files.write(tmp_path / f"{'ä' * 150}.json", b"")
    longest = int(
        re.search(r"the longest that works here has (\d+);", str(error.value))[1]
    )
    assert limit - 120 < longest < limit
    name = "x" * longest
    with pytest.raises(InputError, match=f"has {longest + 1} bytes, .* has {longest};"):
        files.write(tmp_path / f"{name}x", b"")
    files.write(tmp_path / name, b"new")
    assert contents(tmp_path) == {name: "new"}


def test_path_that_is_too_long(tmp_path):
    deep = tmp_path / "/".join(["x" * 240] * 16)
    deep.mkdir(parents=True)
    with pytest.raises(InputError, match="this name has 200 bytes, but the longest"):
        files.write(deep / ("x" * 200), b"")
    with pytest.raises(InputError, match="the path to it is too long; choose another"):
        files.write(deep / ("x" * 240) / "a", b"")
    files.write(deep / "a", b"new")
    assert (deep / "a").read_text() == "new"
