"""Output files and folders that appear whole or not at all."""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from edvr_jax.errors import InputError, OutputError

_MAX_PATH = 4096 - 128  # bytes: Linux's limit, less what jobs store in a folder beside


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Put a new file or folder in the place of ``path``, once it is complete.

    Args:
        path: The name that it gets. What has this name now is removed only after
            that, and stays if the ``with`` ends by an exception; a file never
            replaces a folder.

    Yields:
        A name beside it where nothing is; write a file or make a folder there.

    Raises:
        InputError: if its name is too long, see :func:`check_name`.
        OutputError: if the folder that holds it does not allow it.
    """
    check_name(path)
    temporary = _place_beside(path)
    try:
        with report_failure(path):
            remove(temporary)  # of a process that was killed
        yield temporary
        with report_failure(path):
            put_in_place(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            remove(temporary)


def _place_beside(path: Path) -> Path:
    # Processes of several hosts may write to one file system.
    process = f"{socket.gethostname()}.{os.getpid()}"
    return path.with_name(f".{path.name}.{process}.partial")


def check_name(path: Path, *needed: Path) -> None:
    """Check that a name, and the path to it, is short enough for its file system.

    Args:
        path: The output.
        *needed: Names derived from its name; by default that of :func:`replacing`.

    Raises:
        InputError: if one of them is too long.
    """
    limit = 255
    with contextlib.suppress(AttributeError, OSError):  # no POSIX, no such folder
        limit = os.pathconf(path.absolute().parent, "PC_NAME_MAX")
    places = needed or (_place_beside(path),)
    excess = max(
        max(len(os.fsencode(place.name)) for place in places) - limit,
        max(len(os.fsencode(place.absolute())) for place in places) - _MAX_PATH,
    )
    if excess <= 0:
        return
    longest = len(os.fsencode(path.name)) - excess
    if longest < 1:
        raise InputError(f"{path}: the path to it is too long; choose another folder")
    raise InputError(
        f"{path}: this name has {longest + excess} bytes, but the longest that works "
        f"here has {longest}; choose a shorter one"
    )


def write(path: Path, data: bytes) -> None:
    """Write a file by :func:`replacing`.

    Raises:
        OutputError: if it cannot be written there.
    """
    with replacing(path) as temporary, report_failure(path):
        temporary.write_bytes(data)


@contextlib.contextmanager
def report_failure(path: Path, *others: type[Exception]) -> Iterator[None]:
    """Turn what the disk refuses inside the ``with`` into an OutputError.

    Args:
        path: The output, as the user knows it.
        *others: Exceptions of a library that mean the same.

    Raises:
        OutputError: in place of an OSError or one of the others.
    """
    try:
        yield
    except (OSError, *others) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"{path}: cannot be written: {reason}; check the folder's permissions and "
            "free space, or give another output"
        ) from None


@contextlib.contextmanager
def report_unreadable(path: Path) -> Iterator[None]:
    """Turn an OSError of reading inside the ``with`` into an InputError.

    Args:
        path: The input, as the user knows it.

    Raises:
        InputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its name.

    A power cut leaves all of a file under its name or nothing of it. An old folder is
    removed only after the new one is there.

    Args:
        temporary: What is finished; stays where it is if that fails.
        path: Its name, in the same file system.

    Raises:
        OSError: if the disk refuses.
    """
    if not temporary.is_dir():
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    if path.is_dir() and temporary.is_dir():
        old = temporary.with_suffix(".old")
        path.replace(old)
        try:
            temporary.replace(path)
        except OSError:
            old.replace(path)
            raise
        remove(old)
    else:
        temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, where the system can do it."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def check_absent(path: Path) -> None:
    """Refuse to replace a file or folder.

    Raises:
        InputError: if there is one.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; pass --overwrite to replace it")


def is_free(path: Path) -> bool:
    """Tell whether nothing is there, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def check_free(path: Path) -> None:
    """Refuse to replace a file, or a folder that holds something.

    Raises:
        InputError: if there is one.
    """
    if not is_free(path):
        check_absent(path)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def places_beside(output: Path) -> tuple[Path, Path]:
    """Return the folder of a job beside its output, and the path of partial output."""
    return (
        output.with_name(f".{output.name}.restoring"),
        output.with_name(f"{output.stem}.partial{output.suffix}"),
    )
