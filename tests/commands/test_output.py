"""Tables and JSON files that the commands write."""

import json

import pytest

from edvr_jax.commands import output
from edvr_jax.errors import InputError


def test_table_is_aligned():
    table = output.format_table([["clip", "PSNR"], ["a", "9.5"], ["long", "31.25"]])
    assert table == "clip   PSNR\na       9.5\nlong  31.25\n"


def test_json_has_null_for_infinity(tmp_path):
    path = tmp_path / "scores.json"
    output.write_json(path, {"a": [1.5, float("inf")], "b": {"c": float("nan")}})
    assert json.loads(path.read_text()) == {"a": [1.5, None], "b": {"c": None}}
    assert list(tmp_path.iterdir()) == [path]


def test_failed_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        output.write_json(path, {"a": object()})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"{}"])
def test_json_replaces_json_only(tmp_path, content):
    """Not a clip, weights or frames that were named by mistake."""
    path = tmp_path / "scores.json"
    path.write_bytes(content)
    output.check_json(path)
    for other in (b"\x89PNG", b"\x80\x05", b"text", b"[]"):
        path.write_bytes(other)
        with pytest.raises(InputError, match="is not replaced"):
            output.check_json(path)


def test_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(output.os, "access", lambda *_: False)  # root may write all
    with pytest.raises(InputError, match="cannot be written"):
        output.check_writable(tmp_path / "a.json")


def test_unwritable_places_are_named(tmp_path):
    output.check_writable(None)
    output.check_writable(tmp_path / "new.json")
    with pytest.raises(InputError, match="is a folder"):
        output.check_writable(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        output.check_writable(tmp_path / "no" / "a.json")
    with pytest.raises(InputError, match="cannot be written"):
        output.write_json(tmp_path / "no" / "a.json", {})
