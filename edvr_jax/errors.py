"""The exceptions that mean "the user can fix this", and parts of their messages."""

from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: a file, field or shape that the user can correct.

    The message is one line that names the file, field or shape and says what to
    do. The command line prints it without a traceback and exits with code 2.
    """


class ResourceError(InputError):
    """The machine lacks what the work needs; with more of it, the work can go on."""


class OutputError(ResourceError):
    """The disk, or a limit on it, refuses what is to be written."""


def list_some(names: Iterable[object], limit: int = 6, separator: str = ", ") -> str:
    """Join the first names for a message, and count the others."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return separator.join(texts[:limit]) + more
