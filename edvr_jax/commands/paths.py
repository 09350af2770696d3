"""Paths that a command reads and writes: none of them may destroy another one."""

import hashlib
from pathlib import Path

from edvr_jax.commands import output as output_lib
from edvr_jax.data.images import list_images
from edvr_jax.errors import InputError

PIPE = "-"
_SAMPLE = 2**20  # bytes
_NUM_SAMPLES = 64


def is_pipe(path: Path) -> bool:
    """Tell whether standard input or output is meant."""
    return str(path) == PIPE


def check_apart(source: Path, target: Path) -> None:
    """Check that the output neither is the input, nor lies in it, nor holds it.

    Raises:
        InputError: if it does.
    """
    if _is_same(source, target):
        raise InputError(f"{target}: the output is the input; choose another name")
    inner, outer = source.resolve(), target.resolve()
    if outer.is_relative_to(inner) or inner.is_relative_to(outer):
        raise InputError(
            f"{target}: the output lies inside the input {source}, or the input "
            "inside the output; put it elsewhere"
        )


def check_report(
    report: Path | None, source: Path, target: Path, *, overwrite: bool
) -> None:
    """Check that a report can be written, and that it replaces no film.

    Raises:
        InputError: if it cannot, or if it is, or lies in, the input or output.
    """
    if report is None:
        return
    if is_pipe(report):
        raise InputError(f"--report {PIPE}: give the report a file of its own")
    for what, path in (("input", source), ("output", target)):
        if is_pipe(path):
            continue
        if _is_same(report, path) or report.resolve().is_relative_to(path.resolve()):
            raise InputError(
                f"--report {report}: this is the {what}, or lies inside it; give the "
                "report a file of its own"
            )
    output_lib.check_new(report, overwrite=overwrite)


def _is_same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)  # two names may lead to one file
    return path.resolve() == other.resolve()


def fingerprint(path: Path) -> str:
    """Return what tells the content of a file or of a folder of images from others.

    Small files count in full, of large ones 64 samples of 1 MiB and the size.
    """
    digest = hashlib.sha256()
    is_folder = path.is_dir()
    for file in list_images(path) if is_folder else [path]:
        size = file.stat().st_size
        digest.update(f"{file.name if is_folder else ''}\0{size}\0".encode())
        last = max(0, size - _SAMPLE)
        num_samples = min(_NUM_SAMPLES, -(-size // _SAMPLE))
        with file.open("rb") as data:
            for index in range(num_samples):
                data.seek(last * index // max(1, num_samples - 1))
                digest.update(data.read(_SAMPLE))
    return digest.hexdigest()
