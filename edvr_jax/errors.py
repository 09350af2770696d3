"""The one exception that means "the user can fix this"."""


class InputError(ValueError):
    """Bad input: a file, field or shape that the user can correct.

    The message is one line that names the file, field or shape and says what to
    do. The command line prints it without a traceback and exits with code 2.
    """


class OutputError(InputError):
    """The disk, or a limit on it, refuses what is to be written."""
