"""Paths that a command reads and writes: none of them may destroy another one."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edvr_jax import files
from edvr_jax.commands import output as output_lib
from edvr_jax.errors import InputError
from edvr_jax.files import places_beside
from edvr_jax.restore.job_folder import JobFolder

PIPE = "-"
_SAMPLE = 2**20  # bytes
_NUM_SAMPLES = 64


def is_pipe(path: Path) -> bool:
    """Tell whether standard input or output is meant."""
    return str(path) == PIPE


def check_apart(source: Path, target: Path) -> None:
    """Check that the output neither is the input, nor is inside it, nor contains it.

    Also what a job keeps beside the output until it is complete.

    Raises:
        InputError: if it does.
    """
    check_other(source, target)
    for path in places_beside(target):
        if is_same(source, path):
            raise InputError(
                f"{source}: this name is needed while {target} is written; rename the "
                "input, or choose another output"
            )
    inner, outer = source.resolve(), target.resolve()
    if inner.is_relative_to(outer):
        raise InputError(
            f"{target}: this folder contains the input; choose another one"
        )
    if outer.is_relative_to(inner):
        raise InputError(f"{target}: the output is inside the input; put it elsewhere")


def check_other(source: Path, target: Path) -> None:
    """Check that the output is another file than the input.

    Raises:
        InputError: if it is the same, by whatever name.
    """
    if is_same(source, target):
        raise InputError(f"{target}: the output is the input; choose another name")


def check_new_output(target: Path) -> None:
    """Check that the output of a restoration replaces nothing.

    Raises:
        InputError: if it exists.
    """
    if not files.is_free(target) and JobFolder(target).is_resumable:
        raise InputError(
            f"{target}: exists already, and an unfinished job would replace it; pass "
            "--resume and --overwrite to continue it"
        )
    files.check_free(target)


def check_report(
    report: Path | None,
    places: Mapping[str, Sequence[Path]],
    *,
    overwrite: bool,
    option: str = "--report",
    check: Callable[[Path], None] = output_lib.check_json,
) -> None:
    """Check that a report can be written, and that it replaces nothing of the job.

    Args:
        report: The file; None is no report.
        places: All other files and folders of the job, by what they are.
        overwrite: It may replace a file that is none of them.
        option: The option that names it.
        check: Refuses to replace another kind of file.

    Raises:
        InputError: if it cannot be written, or if it is one of them or inside one.
    """
    if report is None:
        return
    if is_pipe(report):
        raise InputError(f"{option} {PIPE}: give the report another file")
    for what, paths in places.items():
        for path in paths:
            is_inside = report.resolve().is_relative_to(path.resolve())
            if not is_pipe(path) and (is_inside or is_same(report, path)):
                raise InputError(
                    f"{option} {report}: this is the {what}, or inside it; give "
                    "the report another file"
                )
    output_lib.check_new(report, overwrite=overwrite)
    check(report)


def is_same(path: Path, other: Path) -> bool:
    """Report whether two names lead to one file."""
    if path.exists() and other.exists():
        return path.samefile(other)  # two names may lead to one file
    return path.resolve() == other.resolve()


def fingerprint(path: Path, names: Sequence[str] = ()) -> str:
    """Return a digest of the content of a file, or of files in a folder.

    Small files count in full, of large ones 64 samples of 1 MiB and the size.

    Args:
        path: A file, or a folder.
        names: Of the files in the folder.

    Raises:
        InputError: if one cannot be read.
    """
    digest = hashlib.sha256()
    for name in names or [""]:
        file = path / name
        with files.report_unreadable(file), file.open("rb") as data:
            size = file.stat().st_size
            digest.update(f"{name}\0{size}\0".encode())
            last = max(0, size - _SAMPLE)
            num_samples = min(_NUM_SAMPLES, -(-size // _SAMPLE))
            for index in range(num_samples):
                data.seek(last * index // max(1, num_samples - 1))
                digest.update(data.read(_SAMPLE))
    return digest.hexdigest()
