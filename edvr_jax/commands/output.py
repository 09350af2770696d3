"""What several commands write: tables on the terminal and JSON files."""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edvr_jax import files
from edvr_jax.errors import InputError


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align the columns of a table, the first to the left, others to the right.

    Args:
        rows: Header first; all of one length.

    Returns:
        One line a row, each ending with a line break.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = (cell.rjust(n) for cell, n in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip() + "\n")
    return "".join(lines)


def write_notes(lines: Iterable[str]) -> None:
    """Write remarks on a result to stderr."""
    for line in lines:
        sys.stderr.write(f"note: {line}\n")


def check_writable(path: Path | None) -> None:
    """Find out before the work whether a file can be written after it.

    Raises:
        InputError: if the folder does not exist or cannot be written, if the path is
            a folder, or if its name is too long.
    """
    if path is None:
        return
    files.check_name(path)
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; name a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{path}: its folder does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: its folder cannot be written; choose another one")


def check_new(path: Path | None, *, overwrite: bool) -> None:
    """Find out before the work that a file can be written and replaces none.

    Raises:
        InputError: if it exists and may not be replaced, or as
            :func:`check_writable`.
    """
    check_writable(path)
    if path is not None and not overwrite:
        files.check_absent(path)


def check_json(path: Path | None) -> None:
    """Find out before the work that a JSON file can be written, in place of one only.

    Raises:
        InputError: if another kind of file has this name, or as
            :func:`check_writable`.
    """
    _check_kind(path, b"{", "JSON")


def check_page(path: Path | None) -> None:
    """Find out before the work that a page can be written, in place of one only.

    Raises:
        InputError: if another kind of file has this name, or as
            :func:`check_writable`.
    """
    _check_kind(path, b"<!doctype html>", "HTML")


def _check_kind(path: Path | None, beginning: bytes, kind: str) -> None:
    check_writable(path)
    if path is None or not path.exists():
        return
    with files.report_unreadable(path), path.open("rb") as file:
        start = file.read(len(beginning))
    if start not in (beginning, b""):
        raise InputError(
            f"{path}: this file is no report in {kind}, and is not replaced; choose "
            "another name"
        )


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        path: The file.
        tree: Plain values; infinite and undefined numbers, which JSON lacks, become
            null.

    Raises:
        InputError: if it cannot be written there.
    """
    text = json.dumps(_without_infinity(tree), indent=2, allow_nan=False) + "\n"
    files.write(path, text.encode())


def _without_infinity(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _without_infinity(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_infinity(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
