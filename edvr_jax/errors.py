"""Exceptions for what users can fix or have stopped, exit codes, parts of messages."""

import contextlib
import re
from collections.abc import Iterable, Iterator

# Exit codes of every command; 75 is EX_TEMPFAIL of sysexits.h: try again later.
PREEMPTED, INTERRUPTED = 75, 130

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # colors of a terminal
_SYSTEM_ERROR = re.compile(r"([\w ]+) \[os_error_code=")  # as tensorstore writes it


class InputError(ValueError):
    """Bad input: a file, field or shape that the user can correct.

    The message is one line that names the file, field or shape and says what to
    do. The command line prints it without a traceback and exits with code 2.
    """


class ResourceError(InputError):
    """The machine lacks what the work needs; with more of it, the work can continue."""


class OutputError(ResourceError):
    """The disk, or a limit on it, refuses what is to be written."""


class MissingExtraError(InputError, ImportError):
    """A library is not installed that an extra of this package brings."""


class Stopped(Exception):
    """Work was stopped from outside, after its state had been saved.

    Attributes:
        code: Exit code of the process: INTERRUPTED after Ctrl-C, else PREEMPTED.
    """

    def __init__(
        self,
        code: int,
        message: str = "stopped; run the same command again to continue",
    ):
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Name the extra that brings a library, if an import in this context fails.

    Args:
        extra: The extra of this package.
        what: What needs which library, the start of the message.

    Raises:
        MissingExtraError: if a module of another package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __package__:
            raise
        message = f"{what}: pip install 'edvr-jax[{extra}]'"
        raise MissingExtraError(message) from None


def list_some(names: Iterable[object], limit: int = 6, separator: str = ", ") -> str:
    """Join the first names for a message, and count the others."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return separator.join(texts[:limit]) + more


def first_line(error: Exception) -> str:
    """Shorten another library's message to one line for one of ours."""
    text = _ESCAPES.sub("", str(error))
    if match := _SYSTEM_ERROR.search(text):
        return match[1].strip()
    lines = [line for line in text.splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:160]
